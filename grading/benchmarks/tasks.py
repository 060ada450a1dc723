"""What contest tasks of several benchmarks have in common: starter code, and a tolerance where answers need one."""

import re
from collections.abc import Iterable
from typing import Any

from alphamix.grading.types import FloatChecker, FloatTolerance, PlainChecker, Test

_FRACTION = re.compile(r"-?\d*\.\d+(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


def with_starter(statement: str, starter: str) -> str:
    """Return a statement followed by the code that a solution begins with, if there is any."""
    return f"{statement}\n\nThe solution begins like this:\n\n```python\n{starter}\n```" if starter else statement


def checker_for(tests: Iterable[Test]) -> PlainChecker:
    """Return a checker with a tolerance if any expected answer has a number that is not whole, as contests have it."""
    return FloatChecker(floats=FloatTolerance()) if any(map(_has_fraction, tests)) else "tokens"


def _has_fraction(test: Test) -> bool:
    if isinstance(test.output, str):
        return any(_FRACTION.fullmatch(token) for token in test.output.split())
    return any(isinstance(value, float) for value in _scalars(test.output))


def _scalars(value: Any) -> list[Any]:
    pending, found = [value], []
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            pending += value.values()
        else:
            found.append(value)
    return found
