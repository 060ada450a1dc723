"""Published benchmarks as problems: `mbpp` and `humaneval`, which state their tests as Python assertions.

`assertions` turns these into tests whose expected values stay outside the sandbox. Each `load` reads one file and
returns problems; no benchmark code is run.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from alphamix.grading.errors import GradingError
from alphamix.grading.problems import invalid_line, read_lines
from alphamix.grading.types import Problem

Record = TypeVar("Record", bound=BaseModel)


def read_problems(path: str | Path, record_type: type[Record], convert: Callable[[Record], Problem]) -> list[Problem]:
    """Convert each line of a file to a problem. `convert` may raise SyntaxError for code that is not valid Python.

    Raises GradingError, which names the file and the line.
    """
    problems: list[Problem] = []
    for number, line in read_lines(path, "records"):
        where = f"{path}, line {number}"
        try:
            problems.append(convert(record_type.model_validate_json(line)))
        except ValidationError as error:
            raise invalid_line(error, where, "the record") from None
        except SyntaxError as error:
            raise GradingError(f"{where}: {error.msg}: correct the assertions of this line") from None
    return problems
