"""Files of records, one mapping each: JSON lines, or Parquet by the name of the file.

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

Columns = Mapping[str, Any]
"""Type of each column as pyarrow names it; a mapping is a struct, a list of one a list."""
_ROWS_AT_ONCE = 1024


class ExchangeError(EnsembleError):
    """A file cannot be read or written as asked: the message says why, then what to do."""


class Record(NamedTuple):
    """One record of a file; an error where there is none."""

    where: str
    content: Any
    error: str = ""


def read_records(path: Path) -> Iterator[Record]:
    """Yield the records of a file, each with where it stands. Raises ExchangeError."""
    return _read_parquet(path) if path.suffix == ".parquet" else _read_lines(path)


def write_records(path: Path, records: Iterable[Mapping[str, Any]], columns: Columns) -> None:
    """Write a file in place of one of this name. Columns are those of a Parquet file.

    Raises:
        ExchangeError: a text cannot stand in Parquet, or pyarrow is not installed.
        OSError: the disk refuses.
    """
    with whole_file(path) as beside:
        if path.suffix == ".parquet":
            _write_parquet(beside, records, columns)
        else:
            with beside.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(record, allow_nan=False) + "\n" for record in records)


def _read_lines(path: Path) -> Iterator[Record]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                where = f"{path}, line {number}"
                if line.strip():
                    try:
                        yield Record(where, json.loads(line))
                    except (ValueError, RecursionError) as error:
                        yield Record(where, None, f"not JSON ({error})")
    except OSError as error:
        raise ExchangeError(f"{path} cannot be read ({error.strerror}): give JSON lines or Parquet") from None


def _read_parquet(path: Path) -> Iterator[Record]:
    pyarrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            rows = itertools.chain.from_iterable(batch.to_pylist() for batch in file.iter_batches(_ROWS_AT_ONCE))
            for number, row in enumerate(rows, start=1):
                yield Record(f"{path}, row {number}", row)
    except (OSError, pyarrow.ArrowException) as error:
        raise ExchangeError(f"{path} cannot be read ({error}): give JSON lines or Parquet") from None


def _write_parquet(path: Path, records: Iterable[Mapping[str, Any]], columns: Columns) -> None:
    pyarrow, parquet = _pyarrow()
    schema = pyarrow.schema([(name, _type(pyarrow, kind)) for name, kind in columns.items()])
    records = iter(records)
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := list(itertools.islice(records, _ROWS_AT_ONCE)):
            try:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            except UnicodeEncodeError:
                raise ExchangeError(
                    "a text holds half a surrogate pair, which Parquet cannot keep: export with --format jsonl"
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
        raise ExchangeError("Parquet needs the package pyarrow: pip install 'alphamix[parquet]'") from None
