"""Files that appear whole or not at all, however the process that writes them ends."""

import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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


def write_text(path: Path, text: str) -> None:
    """Write a text file, which appears whole or not at all."""
    with appearing(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file for people and programs, which appears whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
