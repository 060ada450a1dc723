import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.grading.checkers.compare import accepts, accepts_value, parse_value
from alphamix.grading.types import Checker, FloatChecker, FloatTolerance, TokenRules, TokensChecker

FLOATS = FloatChecker(floats=FloatTolerance(abs=1e-6, rel=1e-6))


def words(**rules: Any) -> TokensChecker:
    return TokensChecker(tokens=TokenRules.model_validate(rules))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("checker", "expected", "answer", "accepted"),
    [
        ("tokens", "1 2\n3\n", "1\n2   3", True),
        ("tokens", "1 2", "12", False),
        ("tokens", "1.0", "1.00", False),
        ("tokens", "", "\n", True),
        ("lines", "a b \nc\n", "a b\nc\n\n", True),
        ("lines", "a b", "a  b", False),
        ("lines", "a\n\nb", "a\nb", False),
        ("lines", " a", "a", False),
        ("exact", "a\n", "a\n", True),
        ("exact", "a\n", "a", False),
        (FLOATS, "YES 0.5", "YES 0.5000001", True),
        (FLOATS, "1000000000", "1000000999", True),
        (FLOATS, "0.5", "0.51", False),
        (FLOATS, "0.5", "0.5 0.5", False),
        (FLOATS, "YES", "yes", False),
        (FLOATS, "1000", "1_000", False),
        (FLOATS, "1", "nan", False),
        (FLOATS, "1", "inf", False),
        (FLOATS, "inf", "inf", True),
        (FLOATS, "1", "1e999999999999", False),
        (FLOATS, "1" * 500, "1" * 499 + "2", False),
        (words(ignore_case=True), "Yes  ÉT", "yes ét", True),
        (words(ignore_case=True), "1.0", "1.00", False),
        (words(keep_spaces=True), "a  b\n", "a  b\n", True),
        (words(keep_spaces=True), "a  b\n", "a b\n", False),
        (words(keep_spaces=True), "a", "a\n", False),
        (words(floats={"abs": 0.1, "rel": 0}), "1 A", "1.05 A", True),
        (words(floats={"abs": 0.1, "rel": 0}, keep_spaces=True), "1  A", "1.05 A", False),
        (words(floats={"abs": 0.1, "rel": 0}), "1 A", "1.05 a", False),
    ],
)
def test_text(checker: Checker, expected: str, answer: str, accepted: bool) -> None:
    assert accepts(checker, expected, answer) is accepted


@pytest.mark.parametrize(
    ("checker", "expected", "answer", "accepted"),
    [
        ("tokens", [1, [2]], (1, (2,)), True),
        ("tokens", True, 1, False),
        ("tokens", 0, False, False),
        ("tokens", None, False, False),
        ("tokens", 1, 1.0, True),
        ("tokens", 0.3, 0.1 + 0.2, False),
        (FLOATS, 0.3, 0.1 + 0.2, True),
        (FLOATS, [{"a": 1.0}], [{"a": 1 + 1e-9}], True),
        (FLOATS, 1.0, 10**400, False),
        (FLOATS, True, 1, False),
        ("tokens", "a  b", "a b", False),
        ("tokens", "1", 1, False),
        ("tokens", {"1": 2}, {1: 2}, False),
        ("tokens", {"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ("tokens", [1, 2], [1], False),
        ("tokens", [], {}, False),
        ("tokens", float("nan"), float("nan"), False),
    ],
)
def test_values(checker: Checker, expected: Any, answer: Any, accepted: bool) -> None:
    assert accepts_value(checker, expected, answer) is accepted


@given(json_values)
def test_a_value_equals_what_json_makes_of_it(value: Any) -> None:
    assert accepts_value("tokens", value, parse_value(json.dumps(value).encode()))


@given(json_values, json_values)
def test_values_are_equal_only_as_their_json_is(one: Any, other: Any) -> None:
    if accepts_value("tokens", one, other):
        assert one == other


@given(st.text())
def test_every_text_checker_accepts_the_expected_text(text: str) -> None:
    for checker in ("tokens", "lines", "exact", FLOATS):
        assert accepts(checker, text, text)


def test_deep_values_are_compared_without_recursion() -> None:
    one: list[Any] = []
    other: list[Any] = []
    for _ in range(100_000):
        one, other = [one], [other]
    assert accepts_value("tokens", one, other)
    assert not accepts_value("tokens", one, other[0])
    while one:  # taken apart by hand, so that the end of the test does not recurse either
        one, other = one[0], other[0] if other else []


@pytest.mark.parametrize("text", [b"", b"{", b'{"a": 1, "a": 2}', b"[" * 100_000, b"\xff"])
def test_unreadable_results_are_value_errors(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_value(text)
