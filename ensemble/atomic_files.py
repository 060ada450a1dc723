"""Files that appear whole or not at all, however the process that writes them ends."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def appearing(path: Path) -> Generator[Path]:
    """Give a place beside a path to write to; it takes the path's place at the end, and vanishes on failure.

    Its name ends as the path's does, for writers that go by that.
    """
    beside = path.with_name(f".new.{path.name}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
