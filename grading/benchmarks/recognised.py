"""Files of problems in any form: our own, or that of a published benchmark, as the keys of the first line tell."""

from collections.abc import Iterator
from pathlib import Path

from alphamix.grading.benchmarks.catalog import BENCHMARKS
from alphamix.grading.benchmarks.rows import each_row
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import each_problem, parse_problem
from alphamix.grading.types import Problem

_KEYS: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset(["question_id", "public_test_cases", "private_test_cases"]), "livecodebench"),
    (frozenset(["base_input", "plus_input", "assertion"]), "mbppplus"),
    (frozenset(["base_input", "plus_input"]), "humanevalplus"),
    (frozenset(["task_id", "text", "test_list"]), "mbpp"),
    (frozenset(["task_id", "prompt", "test_list"]), "mbpp"),
    (frozenset(["task_id", "prompt", "entry_point", "test"]), "humaneval"),
    (frozenset(["public_tests", "private_tests", "generated_tests"]), "codecontests"),
    (frozenset(["test_cases", "checker", "description"]), "codecontests-plus"),
    (frozenset(["question", "input_output", "time_limit"]), "taco"),
    (frozenset(["question", "input_output"]), "apps"),
)


def each_recognised_problem(path: str | Path) -> Iterator[Problem | GradingError]:
    """Yield the problem of each line, or why it is none. Raises GradingError if the file is unreadable or empty."""
    try:
        first = next(each_row(Path(path)))[1]
    except (StopIteration, GradingError):  # what is wrong is told by what reads a file in our own form
        first = None
    keys = set(first) if isinstance(first, dict) else set[str]()
    name = next((name for known, name in _KEYS if known <= keys), None)
    return each_problem(path, parse_problem) if name is None else BENCHMARKS[name].read(Path(path), Selection())
