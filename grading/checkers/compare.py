"""Built-in checkers: compare an answer with the expected output, as text of a program or JSON value of a function.

Every comparison takes time linear in the length of its arguments and runs no code of the program that answered.
Checkers that are programs themselves are run by `checkers.program`.
"""

import json
import math
import re
from typing import Any

from alphamix.grading.types import FloatChecker, FloatTolerance, PlainChecker, TokenRules, TokensChecker

_MAX_NUMBER_LENGTH = 400
"""Longest token that is read as a number, longer than any float written out; longer tokens must match exactly."""


_MAX_DIGITS = 4300
"""Digits that an answer's whole number may have to be read as one; longer numbers are compared as text."""
_WORDS_AND_SPACES = re.compile(r"\s+|\S+")
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_MAX_DIGITS + 1))


class LongNumber(str):
    """The digits of a whole number that would take too long to read."""

    __slots__ = ()


def accepts(checker: PlainChecker, expected: str, answer: str) -> bool:
    """Compare the text that a program wrote.

    `tokens` splits at white space; `lines` ignores white space at the end of each line and of the text; `exact`
    compares character by character. A `FloatChecker` compares tokens, and numbers within its tolerance; a
    `TokensChecker` by its own rules.
    """
    match checker:
        case "tokens":
            return expected.split() == answer.split()
        case "lines":
            return _lines(expected) == _lines(answer)
        case "exact":
            return expected == answer
        case FloatChecker(floats=tolerance):
            return _same_tokens(tolerance, expected.split(), answer.split())
        case TokensChecker(tokens=rules):
            if rules.ignore_case:
                expected, answer = expected.lower(), answer.lower()
            split = _WORDS_AND_SPACES.findall if rules.keep_spaces else str.split
            return _same_tokens(rules.floats, split(expected), split(answer))


def accepts_value(checker: PlainChecker, expected: Any, answer: Any) -> bool:
    """Compare JSON values: `True` is not 1, 1 equals 1.0, and floats match exactly unless there is a tolerance."""
    tolerance = _tolerance(checker)
    pending = [(expected, answer)]
    while pending:  # not recursive, because an answer may nest deeper than Python's stack
        expected, answer = pending.pop()
        if isinstance(expected, dict) and isinstance(answer, dict):
            if expected.keys() != answer.keys():
                return False
            pending.extend((value, answer[key]) for key, value in expected.items())
        elif isinstance(expected, list | tuple) and isinstance(answer, list | tuple):
            if len(expected) != len(answer):
                return False
            pending.extend(zip(expected, answer, strict=True))
        elif not _same_scalar(tolerance, expected, answer):
            return False
    return True


class ValueUnreadableError(ValueError):
    """The answer of a function is not a JSON value; the message says why."""


def parse_value(text: bytes) -> Any:
    """Parse a function's answer as JSON with unique keys. Raises ValueUnreadableError, also if it nests too deeply."""
    read_integer = _integer if _LONG_NUMBER.search(text) else None
    try:
        return json.loads(text, object_pairs_hook=_unique_keys, parse_int=read_integer)
    except RecursionError:
        raise ValueUnreadableError("the result nests too deeply") from None
    except ValueError as error:
        raise ValueUnreadableError(str(error)) from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("the result has a duplicate key")
    return values


def _integer(digits: str) -> int | LongNumber:
    return int(digits) if len(digits) <= _MAX_DIGITS else LongNumber(digits)


def _tolerance(checker: PlainChecker) -> FloatTolerance | None:
    match checker:
        case FloatChecker(floats=tolerance) | TokensChecker(tokens=TokenRules(floats=tolerance)):
            return tolerance
        case _:
            return None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]


def _same_scalar(tolerance: FloatTolerance | None, expected: Any, answer: Any) -> bool:
    if isinstance(expected, bool) or isinstance(answer, bool):
        return expected is answer
    if isinstance(answer, LongNumber):
        return isinstance(expected, int) and _has_digits(expected, answer)
    if isinstance(expected, int | float) and isinstance(answer, int | float):
        return expected == answer or (tolerance is not None and _is_close(tolerance, expected, answer))
    return type(expected) is type(answer) and expected == answer


def _has_digits(number: int, digits: LongNumber) -> bool:
    """Check whether a number is written with these digits; only one of about the same length is written out."""
    num_digits = number.bit_length() * math.log10(2)
    return abs(num_digits - len(digits)) <= 2 and str(number) == digits


def _same_tokens(tolerance: FloatTolerance | None, expected: list[str], answer: list[str]) -> bool:
    return len(expected) == len(answer) and all(
        one == other or (tolerance is not None and _same_number(tolerance, one, other))
        for one, other in zip(expected, answer, strict=True)
    )


def _same_number(tolerance: FloatTolerance, expected: str, answer: str) -> bool:
    if max(len(expected), len(answer)) > _MAX_NUMBER_LENGTH or "_" in expected or "_" in answer:
        return False  # Python reads 1_000 as a number, but no contest does
    try:
        return _is_close(tolerance, float(expected), float(answer))
    except ValueError:
        return False


def _is_close(tolerance: FloatTolerance, expected: float, answer: float) -> bool:
    try:
        difference, magnitude = abs(expected - answer), abs(expected)
        return math.isfinite(difference) and difference <= max(tolerance.abs, tolerance.rel * magnitude)
    except OverflowError:  # an integer too large for a float
        return False
