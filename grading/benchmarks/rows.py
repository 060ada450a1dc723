"""Rows of published files, one at a time: JSON lines, plain or compressed, one JSON array, and Parquet.

Files may have gigabytes; of JSON lines, one line is in memory at a time, and of Parquet one row.
"""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from alphamix.grading.errors import GradingError
from alphamix.grading.problems import json_value
from alphamix.text_lines import open_plain

MOST_LINE_BYTES = 1 << 29
"""Longest line that is read: more than any published problem has, and less than what fills a laptop's memory."""
FETCH_ANEW = "fetch it anew"
"""The cure of a damaged file."""
_PARQUET = b"PAR1"

Row = dict[str, Any]
Rows = Iterator[tuple[str, Row | GradingError]]
"""Rows after their places in words; an error stands for a row that is no JSON object."""


def each_row(path: Path) -> Rows:
    """Yield each row of a file. Raises GradingError if the file cannot be read."""
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(_PARQUET)) == _PARQUET
        yield from _parquet_rows(path) if is_parquet else _json_rows(path)
    except OSError as error:
        raise GradingError(f"{path}: cannot be read ({error.strerror or error}): give a published file") from None


def _json_rows(path: Path) -> Rows:
    with open_plain(path) as file:
        number = 0
        while line := file.readline(MOST_LINE_BYTES):
            number += 1
            if number == 1 and line.lstrip().startswith(b"["):
                yield from _array_rows(path, line, file)
                return
            where = f"{path}, line {number}"
            if len(line) == MOST_LINE_BYTES:
                raise GradingError(f"{where}: longer than {MOST_LINE_BYTES:,} bytes: remove it, no published row is")
            if line.strip():
                yield where, _object(line, where)


def _array_rows(path: Path, line: bytes, file: BinaryIO) -> Rows:
    """Yield the items of a file that is one array, such as the sanitised MBPP."""
    text = line + file.read(MOST_LINE_BYTES)
    if len(text) >= MOST_LINE_BYTES:
        raise GradingError(f"{path}: one array of more than {MOST_LINE_BYTES:,} bytes: give it as JSON lines")
    for number, item in enumerate(json_value(text, str(path), list, FETCH_ANEW), start=1):
        where = f"{path}, item {number}"
        yield where, item if isinstance(item, dict) else GradingError(f"{where}: not an object: {FETCH_ANEW}")


def _object(line: bytes, where: str) -> Row | GradingError:
    try:
        return json_value(line, where, dict, "give a file with one JSON object per line, or fetch it anew")
    except GradingError as error:
        return error


def _parquet_rows(path: Path) -> Rows:
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
