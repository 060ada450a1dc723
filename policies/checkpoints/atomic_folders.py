"""Folders that appear whole or not at all: where a merge, an adapter or any other checkpoint is written.

What is being written lies in a hidden folder beside its place, `.NAME.….partial`, which its process holds locked. The
kernel lets go of the lock however the process ends, so an unlocked one is what a killed process left.
"""

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from alphamix.policies.types import PolicyError

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}\.partial")


def has_files(folder: Path) -> bool:
    """Say whether a folder is taken: anything but an empty one, where it exists."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def refuse_taken(folder: Path) -> None:
    """Refuse to write where something is.

    Raises:
        PolicyError: the folder is taken.
    """
    if has_files(folder):
        raise PolicyError(f"{folder} is there already: give another folder, or remove this one.")


def check_room(folder: Path, num_bytes: int) -> None:
    """Check that the disk has room before anything is written to it.

    Raises:
        PolicyError: names what is needed and what is free, in bytes.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise PolicyError(
            f"{folder} would take {num_bytes} bytes, but the disk of {place} has {free} free: "
            "make room, or write it to another disk (ALPHAMIX_CACHE names the cache's folder)."
        )


@contextmanager
def appearing(folder: Path) -> Generator[Path]:
    """Give a temporary folder that becomes `folder` in one step at the end, and vanishes on failure.

    What killed processes have left in the same place goes first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_over(folder.parent)
    temporary, lock = _made_and_locked(folder)
    try:
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process made the same first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _made_and_locked(folder: Path) -> tuple[Path, int]:
    """Make the temporary folder, and open it with a lock."""
    while True:
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
        temporary.mkdir()
        with suppress(FileNotFoundError):  # before it was locked, it was taken for left over
            lock = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks: there, nothing is taken for left over
                fcntl.flock(lock, fcntl.LOCK_EX)
            if temporary.is_dir():
                return temporary, lock
            os.close(lock)


def _remove_left_over(parent: Path) -> None:
    for path in parent.iterdir():
        if not _PARTIAL.fullmatch(path.name):
            continue
        with suppress(OSError):  # it is locked, or gone by now
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)
