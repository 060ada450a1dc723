"""How the answers of contest tasks are compared where a benchmark does not say."""

import re
from collections.abc import Iterable
from typing import Any

from alphamix.grading.types import FloatChecker, FloatTolerance, PlainChecker, Test

_FRACTION = re.compile(r"-?\d*\.\d+(e[-+]?\d+)?", re.IGNORECASE | re.ASCII)


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
