"""Checks of the folder that a checkpoint is to be written to, made before anything is written."""

import shutil
import tempfile
from pathlib import Path

from alphamix.policies.types import PolicyError
from alphamix.wording import shown


def has_files(folder: Path) -> bool:
    """Return whether a folder is taken: it exists and is not an empty folder."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def refuse_taken(folder: Path) -> None:
    """Refuse to write to a folder that is taken, or cannot be made.

    Raises:
        PolicyError: the folder is taken, a part of its path is a file, or nothing can be written there.
    """
    try:
        if has_files(folder):
            raise PolicyError(f"{folder} already exists: give another folder, or remove this one.")
        _check_writable(folder)
    except OSError as error:
        raise PolicyError(f"{shown(str(folder))} cannot be made ({error.strerror}): give another folder.") from error


def _check_writable(folder: Path) -> None:
    """Make and remove a folder where `folder` is to be: only this shows that the place can be written."""
    place = _nearest_existing(folder)
    if not place.is_dir():
        raise PolicyError(f"{folder} cannot be made, since {place} is a file: give another folder.")
    with tempfile.TemporaryDirectory(prefix=".", dir=place):
        pass


def _nearest_existing(folder: Path) -> Path:
    """Return the folder itself, or the nearest part of its path that exists."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place


def check_room(folder: Path, num_bytes: int) -> None:
    """Check that the disk has room before anything is written to it.

    Raises:
        PolicyError: names what is needed and what is free, in bytes.
    """
    place = _nearest_existing(folder)
    free = shutil.disk_usage(place).free
    if num_bytes > free:
        raise PolicyError(
            f"{folder} would take {num_bytes} bytes, but the disk of {place} has {free} free: "
            "make room, or write it to another disk (ALPHAMIX_CACHE names the cache's folder)."
        )
