"""From the rows of a benchmark's files to problems: each row is validated as a record of its own type."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from alphamix.grading.benchmarks.rows import FETCH_ANEW, Row, Rows, each_row
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import each_of, invalid_line
from alphamix.grading.types import Problem

Record = TypeVar("Record", bound=BaseModel)
Parse = Callable[[Row, str], Problem | None]


def parser(
    record_type: type[Record],
    convert: Callable[[Record], Problem],
    is_wanted: Callable[[Record], bool] = lambda _: True,
) -> Parse:
    """Return what makes a problem of a row and its place in words, or None of one that is not wanted.

    `convert` may raise SyntaxError for code that is not valid Python, and GradingError without the place.
    """

    def parse(row: Row, where: str) -> Problem | None:
        try:
            record = record_type.model_validate(row)
            return convert(record) if is_wanted(record) else None
        except ValidationError as error:
            raise invalid_line(error, where, "the record") from None
        except SyntaxError as error:
            raise GradingError(f"{where}: {error.msg}: correct the code of this row") from None
        except GradingError as error:
            raise type(error)(f"{where}: {error}") from None

    return parse


def each_record(files: Sequence[Path], parse: Parse) -> Iterator[Problem | GradingError]:
    """Yield the problem of each row of files, or why it is none. Raises GradingError if there is no row."""
    return each_of(_rows(files), parse)


def _rows(files: Sequence[Path]) -> Rows:
    is_empty = True
    for file in files:
        for row in each_row(file):
            is_empty = False
            yield row
    if is_empty:
        raise GradingError(f"{', '.join(map(str, files))}: has no problems: {FETCH_ANEW}")


def split_of(path: Path, selection: Selection) -> str:
    """Return the split that is wanted: the one for tests unless another is named, by the name of a single file too."""
    return selection.split or ("train" if path.is_file() and path.name.startswith("train") else "test")


def files_of(path: Path, *patterns: str) -> list[Path]:
    """Return `path` if it is a file, else the files of a folder that match the first pattern that any file matches.

    Raises GradingError if no file matches.
    """
    if not path.is_dir():
        return [path]
    for pattern in patterns:
        if found := sorted(path.glob(pattern)):
            return found
    raise GradingError(f"{path} has no file {' or '.join(patterns)}: give the published file, or a folder that has it")
