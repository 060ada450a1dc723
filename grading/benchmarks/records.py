"""Reading a benchmark's JSON lines into problems, record by record, with errors that name the file and the line."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from alphamix.grading.errors import GradingError
from alphamix.grading.types import Problem

Record = TypeVar("Record", bound=BaseModel)


def read_problems(path: str | Path, record_type: type[Record], convert: Callable[[Record], Problem]) -> list[Problem]:
    """Turn each line into a problem. `convert` may raise SyntaxError, for a record's code that is no Python.

    Raises GradingError that names the file and the line.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GradingError(f"{path}: cannot be read ({error}): give a UTF-8 file of JSON lines") from None
    problems: list[Problem] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            problems.append(convert(record_type.model_validate_json(line)))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the record"
            raise GradingError(f"{path}, line {number}: {key}: {first['msg']}: correct this line") from None
        except SyntaxError as error:
            raise GradingError(f"{path}, line {number}: {error.msg}: correct the assertions of this line") from None
    if not problems:
        raise GradingError(f"{path}: no record in it: give a file with one JSON object per line")
    return problems
