"""Files of a workspace, read and written by its first process, which its programs cannot deceive.

Only regular files are touched: a pipe would never end, and a file of /proc would tell about the first process.
"""

# ruff: noqa: PTH103, PTH116, PTH120, PTH118

import errno
import os
import stat
from typing import Any

from alphamix.grading.sandbox.confined.confinement import PROCESSES

_ALWAYS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_MODE = 0o644


class RefusedError(Exception):
    """A file cannot be used as asked. The message is for whoever asked."""


def read(path: str, offset: int, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return the size of a file, and at most `max_bytes` of it from `offset` on."""
    try:
        return _read(os.open(path, os.O_RDONLY | _ALWAYS), path, offset, max_bytes)
    except (OSError, ValueError) as error:
        raise RefusedError(_explain(path, error)) from None


def write(path: str, data: bytes) -> tuple[dict[str, Any], bytes]:
    """Write a file, with the directories above it."""
    try:
        os.makedirs(os.path.dirname(os.path.join(".", path)), exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | _ALWAYS, _MODE)
        try:
            _check_regular(descriptor, path)
            os.ftruncate(descriptor, 0)
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written : written + (1 << 20)])
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise RefusedError(_explain(path, error)) from None
    return {"size": len(data)}, b""


def read_submission(directory: str, path: str, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    """Return a whole file below `directory`. No step of its path may be a link, so that it is what it is called."""
    steps = [step for step in path.removeprefix(f"{directory}/").split("/") if step not in ("", ".")]
    if not steps or ".." in steps or (path.startswith("/") and not path.startswith(f"{directory}/")):
        raise RefusedError(f"{path} is not a file below {directory}")
    try:
        opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | _ALWAYS)
        for step in steps:
            above, opened = opened, _open_step(opened, step, is_last=step is steps[-1])
            os.close(above)
        fields, data = _read(opened, path, 0, max_bytes)
    except (OSError, ValueError) as error:
        raise RefusedError(_explain(path, error)) from None
    if fields["size"] > max_bytes:
        raise RefusedError(f"{path} has {fields['size']} bytes, and a submission may have {max_bytes}")
    return fields, data


def _open_step(above: int, step: str, *, is_last: bool) -> int:
    kind = os.O_RDONLY if is_last else os.O_PATH | os.O_DIRECTORY
    try:
        return os.open(step, kind | os.O_NOFOLLOW | _ALWAYS, dir_fd=above)
    except OSError:
        os.close(above)
        raise


def _read(descriptor: int, path: str, offset: int, max_bytes: int) -> tuple[dict[str, Any], bytes]:
    try:
        size = _check_regular(descriptor, path)
        pieces: list[bytes] = []
        while max_bytes > 0 and (piece := os.pread(descriptor, min(max_bytes, 1 << 20), offset)):
            pieces.append(piece)
            offset += len(piece)
            max_bytes -= len(piece)
    finally:
        os.close(descriptor)
    return {"size": size}, b"".join(pieces)


def _check_regular(descriptor: int, path: str) -> int:
    """Return the size of a regular file. Raises RefusedError for anything else."""
    about = os.fstat(descriptor)
    if stat.S_ISDIR(about.st_mode):
        raise RefusedError(f"{path} is a directory")
    if not stat.S_ISREG(about.st_mode) or about.st_dev == os.stat(PROCESSES).st_dev:
        raise RefusedError(f"{path} is not a regular file")
    return about.st_size


def _explain(path: str, error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return f"{path}: {'is a symbolic link' if error.errno == errno.ELOOP else error.strerror}"
    return f"{path!r}: {error}"
