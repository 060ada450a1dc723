"""Rows of published files, one at a time: JSON lines, plain or compressed, and Parquet. Files may have gigabytes."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alphamix.grading.errors import GradingError
from alphamix.text_lines import open_plain

MOST_LINE_BYTES = 1 << 29
"""Longest line that is read: more than any published problem has, and less than what fills a laptop's memory."""
_PARQUET = b"PAR1"


def each_row(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each row of a file, after its place in words.

    Raises:
        GradingError: the file cannot be read, or a row is no JSON object or too long.
    """
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        yield from _parquet_rows(path) if is_parquet else _json_rows(path)
    except OSError as error:
        raise GradingError(f"{path}: cannot be read ({error.strerror or error}): give a published file") from None


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    with open_plain(path) as file:
        while line := file.readline(MOST_LINE_BYTES):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == MOST_LINE_BYTES:
                raise GradingError(f"{where}: longer than {MOST_LINE_BYTES:,} bytes: remove it, no published row is")
            if line.strip():
                yield where, _object(line, where)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GradingError(f"{where}: not JSON ({error}): fetch the file anew") from None
    if not isinstance(row, dict):
        raise GradingError(f"{where}: a {type(row).__name__}, not an object: give a file with one JSON object per line")
    return row


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError:
        raise GradingError(f"{path} needs the package pyarrow: pip install 'alphamix[parquet]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except importlib.import_module("pyarrow").ArrowException as error:
        raise GradingError(f"{path}: damaged after row {number} ({error}): fetch the file anew") from None
