from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.grading import nested_coverage as coverage
from alphamix.grading.errors import GradingError
from alphamix.grading.nested_coverage import clears

percent = st.integers(1, 100)
num_tests = st.integers(1, 2000)


@given(percent, num_tests)
def test_is_the_ceiling_of_the_written_decimal(hundredths: int, total: int) -> None:
    product = Fraction(hundredths, 100) * total
    ceiling = -(-product.numerator // product.denominator)
    assert coverage.tests_required(hundredths / 100, total) == ceiling


@pytest.mark.parametrize(
    ("level", "total", "required"),
    [(0.1, 30, 3), (0.7, 10, 7), (0.29, 100, 29), (1.0, 7, 7), (0.01, 3, 1), (0.34, 3, 2), (0.5, 1, 1)],
)
def test_known_values(level: float, total: int, required: int) -> None:
    assert coverage.tests_required(level, total) == required


@given(percent, percent, num_tests, st.data())
def test_is_nested(one: int, other: int, total: int, data: st.DataObject) -> None:
    low, high = sorted((one / 100, other / 100))
    passed = data.draw(st.integers(0, total))
    assert clears(passed, total, low) or not clears(passed, total, high)


@pytest.mark.parametrize(("level", "total"), [(0.0, 5), (-0.1, 5), (1.01, 5), (float("nan"), 5), (0.5, 0)])
def test_invalid_levels_are_refused(level: float, total: int) -> None:
    with pytest.raises(GradingError, match=r"is (nan|-?[\d.]+): "):
        coverage.tests_required(level, total)
