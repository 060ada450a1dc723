"""Checks of the folder that a checkpoint is to be written to, made before anything is written."""

import shutil
from pathlib import Path

from alphamix.policies.types import PolicyError


def has_files(folder: Path) -> bool:
    """Return whether a folder is taken: it exists and is not an empty folder."""
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def refuse_taken(folder: Path) -> None:
    """Refuse to write to a folder that is taken.

    Raises:
        PolicyError: the folder is taken.
    """
    if has_files(folder):
        raise PolicyError(f"{folder} already exists: give another folder, or remove this one.")


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
