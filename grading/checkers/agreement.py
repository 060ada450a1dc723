"""Whether two programs answer alike, by the problem's own checker and without any expected output."""

from collections.abc import Callable
from functools import cache
from typing import Any

from alphamix.grading.checkers.compare import ValueUnreadableError, accepts, accepts_value, parse_value
from alphamix.grading.types import PlainChecker, Problem, ProgramChecker


def plain_checker(problem: Problem) -> PlainChecker:
    """Return the checker of a problem, or `tokens` in place of one that is a program: that judges an answer by its
    input, not by another answer."""
    return "tokens" if isinstance(problem.checker, ProgramChecker) else problem.checker


def same_by_checker(problem: Problem) -> Callable[[bytes, bytes], bool]:
    """Return a test whether two answers are the same: the plain checker accepts one where the other is expected."""
    checker = plain_checker(problem)

    @cache
    def value_of(answer: bytes) -> tuple[Any] | None:
        try:
            return (parse_value(answer),)
        except ValueUnreadableError:
            return None

    def same_value(first: bytes, second: bytes) -> bool:
        a, b = value_of(first), value_of(second)
        if a is None or b is None:
            return False
        return accepts_value(checker, a[0], b[0]) or accepts_value(checker, b[0], a[0])

    def same_text(first: bytes, second: bytes) -> bool:
        a, b = (answer.decode(errors="surrogateescape") for answer in (first, second))
        return accepts(checker, a, b) or accepts(checker, b, a)

    return same_text if problem.entry_point is None else same_value
