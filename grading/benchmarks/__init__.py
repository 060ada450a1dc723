"""Published benchmarks as problems: `mbpp` and `humaneval`, which state their tests as Python assertions.

`assertions` turns these into tests whose expected values stay outside the sandbox. Each `load` reads one file and
returns problems; `recognised` tells by its first line what a file holds. No benchmark code is run.
"""

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from alphamix.grading.errors import GradingError
from alphamix.grading.problems import invalid_line
from alphamix.grading.types import Problem

Record = TypeVar("Record", bound=BaseModel)


def parser(record_type: type[Record], convert: Callable[[Record], Problem]) -> Callable[[str, str], Problem]:
    """Return what converts one line of a benchmark's file; see `problems.each_problem`.

    `convert` may raise SyntaxError for code that is not valid Python.
    """

    def parse(line: str, where: str) -> Problem:
        try:
            return convert(record_type.model_validate_json(line))
        except ValidationError as error:
            raise invalid_line(error, where, "the record") from None
        except SyntaxError as error:
            raise GradingError(f"{where}: {error.msg}: correct the assertions of this line") from None
        except GradingError as error:
            raise GradingError(f"{where}: {error}") from None

    return parse
