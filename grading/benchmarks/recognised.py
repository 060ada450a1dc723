"""Files of problems in any form: our own, or that of a published benchmark, as the keys of the first line tell."""

from collections.abc import Iterator
from pathlib import Path

from alphamix.grading.benchmarks.catalog import BENCHMARKS
from alphamix.grading.benchmarks.rows import each_row
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import each_problem, parse_problem
from alphamix.grading.types import Problem

_KEYS: dict[str, frozenset[str]] = {
    "livecodebench": frozenset(["question_id", "public_test_cases", "private_test_cases"]),
    "mbpp": frozenset(["task_id", "text", "test_list"]),
    "humaneval": frozenset(["task_id", "prompt", "entry_point", "test"]),
}


def each_recognised_problem(path: str | Path) -> Iterator[Problem | GradingError]:
    """Yield the problem of each line, or why it is none. Raises GradingError if the file is unreadable or empty."""
    try:
        keys = set(next(each_row(Path(path)))[1])
    except (StopIteration, GradingError):  # what is wrong is told by what reads a file in our own form
        keys = set()
    name = next((name for name, known in _KEYS.items() if known <= keys), None)
    return each_problem(path, parse_problem) if name is None else BENCHMARKS[name].read(Path(path), Selection())
