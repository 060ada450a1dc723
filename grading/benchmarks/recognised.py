"""Files of problems in any form: our own, or that of a published benchmark, as the keys of the first line tell."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alphamix.grading.benchmarks import humaneval, mbpp
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import each_problem, parse_problem, read_lines
from alphamix.grading.types import Problem

_KEYS: dict[frozenset[str], Callable[[str, str], Problem]] = {
    frozenset(["task_id", "text", "test_list"]): mbpp.parse,
    frozenset(["task_id", "prompt", "test_list"]): mbpp.parse,
    frozenset(["task_id", "prompt", "entry_point", "test"]): humaneval.parse,
}


def each_recognised_problem(path: str | Path) -> Iterator[Problem | GradingError]:
    """Yield the problem of each line, or why it is none. Raises GradingError if the file is unreadable or empty."""
    _, first = read_lines(path, "problems")[0]
    try:
        record: Any = json.loads(first)
    except (ValueError, RecursionError):
        record = None
    keys = set(record) if isinstance(record, dict) else set()
    if {"base_input", "plus_input"} <= keys:
        raise GradingError(
            f"{path}: has the inputs of HumanEval+ or MBPP+ without results: give the file that has both, whose name "
            "ends in OriginFmt, of the same release"
        )
    parse = next((parse for known, parse in _KEYS.items() if known <= keys), parse_problem)
    return each_problem(path, parse)
