"""Files and folders that appear whole or not at all, however the process that writes them ends.

A folder is written under a hidden name beside its place, `.NAME.….partial`, which its process holds locked. The kernel
releases the lock however the process ends, so an unlocked one was left by a process that was killed.
"""

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}\.partial")


@contextmanager
def whole_file(path: Path) -> Generator[Path]:
    """Yield a path beside `path` to write to, which replaces `path` at the end, and is removed on failure.

    Its name ends as that of `path` does, since some writers choose a format by it. It is always the same, so that the
    next writer takes the place of what a killed one has left; two writers at once are the caller's concern.
    """
    temporary = path.with_name(f".new.{path.name}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs, which appears whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def whole_folder(folder: Path) -> Generator[Path]:
    """Yield a temporary folder, which becomes `folder` in one step at the end, and is removed on failure.

    Folders that killed processes left in the same place are removed first.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder.parent)
    temporary, lock = _make_and_lock(folder)
    try:
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process made the same folder first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(lock)


def _make_and_lock(folder: Path) -> tuple[Path, int]:
    """Make the temporary folder, and open it with a lock."""
    while True:
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
        temporary.mkdir()
        with suppress(FileNotFoundError):  # another process took it for a leftover before it was locked
            lock = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks, where nothing is taken for a leftover
                fcntl.flock(lock, fcntl.LOCK_EX)
            if temporary.is_dir():
                return temporary, lock
            os.close(lock)


def _remove_leftovers(parent: Path) -> None:
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
