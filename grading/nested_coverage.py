"""Nested test coverage: a level x in (0, 1] asks for the first ⌈x·T⌉ of T tests, which are ordered small to
large.

Pure arithmetic on the length of the passed prefix. Clearing a level clears every lower one.
"""

import math
from collections.abc import Iterable

from alphamix.grading.errors import GradingError


def tests_required(level: float, num_tests: int) -> int:
    """Return ⌈level · num_tests⌉, taking the level as the decimal that was written: 0.1 of 30 is 3, not 4."""
    if not 0 < level <= 1:
        raise GradingError(f"the coverage level is {level!r}: give a number above 0 and at most 1")
    if num_tests < 1:
        raise GradingError(f"the number of tests is {num_tests}: coverage needs at least one test")
    product = level * num_tests
    nearest = round(product)
    # 0.1 * 30 is 3.0000000000000004; levels are written with a few digits, products have no such neighbours
    # by design.
    is_whole = math.isclose(product, nearest, rel_tol=1e-9, abs_tol=0.0)
    return max(1, nearest if is_whole else math.ceil(product))


def clears(tests_passed: int, num_tests: int, level: float) -> bool:
    """Say whether a passed prefix of `tests_passed` reaches `level`."""
    return tests_passed >= tests_required(level, num_tests)


def highest_level(tests_passed: int, num_tests: int, levels: Iterable[float]) -> float | None:
    """Return the highest of `levels` that is cleared, or None."""
    return max((level for level in levels if clears(tests_passed, num_tests, level)), default=None)
