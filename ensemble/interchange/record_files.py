"""Files of records: JSON lines, or Parquet if the name ends so.

A file is written whole or not at all. pyarrow is loaded only for Parquet.
"""

import importlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from alphamix.atomic import whole_file
from alphamix.ensemble.errors import EnsembleError
from alphamix.text_lines import open_plain

Columns = Mapping[str, Any]
"""Type of each column as pyarrow names it; a mapping is a struct, a list of one a list."""
_ROWS_AT_ONCE = 1024
_MAX_NAMED = 20
"""Complaints that one error shows."""


class InterchangeError(EnsembleError):
    """A file cannot be read or written as requested: the message says why, then what to do."""


class Record(NamedTuple):
    """One record of a file."""

    where: str
    """The file and the line or row, for messages."""
    number: int
    """Number of the line or row, from 1."""
    content: Any
    error: str = ""
    """Why there is no content; empty if there is."""
    offset: int = 0
    """Where the line begins in the decompressed file, in bytes (JSON lines only)."""


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file. Raises InterchangeError if it cannot be read."""
    return _read_parquet(path) if path.suffix == ".parquet" else read_json_lines(path)


def write_records(path: Path, records: Iterable[Mapping[str, Any]], columns: Columns) -> None:
    """Write a file, replacing any of this name. Only Parquet needs the columns.

    Raises:
        InterchangeError: Parquet cannot represent a text, or pyarrow is not installed.
        OSError: the disk is full or not writable.
    """
    with whole_file(path) as beside:
        if path.suffix == ".parquet":
            _write_parquet(beside, records, columns)
        else:
            with beside.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)


def read_json_lines(path: Path) -> Iterator[Record]:
    """Yield the records of a file of JSON lines; blank lines are skipped. Raises InterchangeError if unreadable."""
    try:
        with open_plain(path) as file:
            offset = file.tell()
            for number, line in enumerate(file, start=1):
                if line.strip():
                    where, content, error = f"{path}, line {number}", None, ""
                    try:
                        content = json.loads(line)
                    except RecursionError as caught:
                        error = str(caught)
                    except ValueError as caught:
                        error = f"not JSON ({caught})"
                    yield Record(where, number, content, error, offset)
                offset += len(line)
    except OSError as error:
        raise InterchangeError(f"{path} cannot be read ({error.strerror}): give JSON lines or Parquet") from None


def listed(complaints: list[str]) -> str:
    """Return complaints as lines: the first ones if there are many."""
    rest = len(complaints) - _MAX_NAMED
    return "\n".join(complaints[:_MAX_NAMED] + ([f"… and {rest} more like these"] if rest > 0 else []))


def _read_parquet(path: Path) -> Iterator[Record]:
    pyarrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(_ROWS_AT_ONCE))
            for number, row in enumerate(rows, start=1):
                yield Record(f"{path}, row {number}", number, row)
    except (OSError, pyarrow.ArrowException) as error:
        raise InterchangeError(f"{path} cannot be read ({error}): give JSON lines or Parquet") from None


def _write_parquet(path: Path, records: Iterable[Mapping[str, Any]], columns: Columns) -> None:
    pyarrow, parquet = _pyarrow()
    schema = pyarrow.schema([(name, _type(pyarrow, kind)) for name, kind in columns.items()])
    records = iter(records)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := list(itertools.islice(records, _ROWS_AT_ONCE)):
            try:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            except UnicodeEncodeError:
                raise InterchangeError(
                    "a text contains half a surrogate pair, which Parquet cannot store: export with --format jsonl"
                ) from None


def _type(pyarrow: Any, kind: Any) -> Any:
    if isinstance(kind, Mapping):
        return pyarrow.struct([(name, _type(pyarrow, inner)) for name, inner in kind.items()])
    if isinstance(kind, list):
        return pyarrow.list_(_type(pyarrow, kind[0]))
    return pyarrow.type_for_alias(kind)


def _pyarrow() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise InterchangeError("Parquet needs the package pyarrow: pip install 'alphamix[parquet]'") from None
