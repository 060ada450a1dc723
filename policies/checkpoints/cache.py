"""The folder of the cache, and SHA-256 digests that are cached for files that have not changed."""

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

from alphamix.atomic import write_text

_SMALLEST_KEPT = 1 << 20
"""Size in bytes below which hashing a file is faster than looking its digest up."""
_DIGITS = 64
"""Length of a SHA-256 in hexadecimal."""
_SETTLED_NS = 2_000_000_000
"""Age below which a file may change again within the same tick of the clock of its file system."""


def cache_folder() -> Path:
    """Return `$ALPHAMIX_CACHE`, or `~/.cache/alphamix`. The folder need not exist."""
    return Path(os.environ.get("ALPHAMIX_CACHE") or "~/.cache/alphamix").expanduser()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    The digest of a large file is cached under its path, device, inode, size, mtime and ctime, and the file is read
    again only if one of these has changed. A program can set mtime back, but not ctime.
    """
    identity = _identity(path)
    kept = cache_folder() / "digests" / hashlib.sha256(repr(identity).encode()).hexdigest()
    is_large = path.stat().st_size >= _SMALLEST_KEPT
    if is_large and kept.is_file() and len(digest := kept.read_text()) == _DIGITS:
        return digest  # another process may be writing it at this moment, so a digest that is cut short does not count
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if is_large and identity == _identity(path) and time.time_ns() - max(identity[-2:]) > _SETTLED_NS:
        with suppress(OSError):  # a cache that cannot be written costs time only
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_text(kept, digest)
    return digest


def _identity(path: Path) -> tuple[str, int, int, int, int, int]:
    status = path.stat()
    times = status.st_mtime_ns, status.st_ctime_ns
    return (str(path.resolve()), status.st_dev, status.st_ino, status.st_size, *times)
