"""Nested test coverage: level x in (0, 1] requires the first ⌈x·T⌉ of T tests, which are ordered from small to large.

This is arithmetic on the length of the passed prefix. A program that clears a level clears every lower one.
"""

import math

from alphamix.grading.errors import GradingError


def tests_required(level: float, num_tests: int) -> int:
    """Return ⌈level · num_tests⌉, reading the level as the decimal that was written: 0.1 of 30 is 3, not 4."""
    if not 0 < level <= 1:
        raise GradingError(f"the coverage level is {level!r}: give a number above 0 and at most 1")
    if num_tests < 1:
        raise GradingError(f"the number of tests is {num_tests}: coverage needs at least one test")
    product = level * num_tests
    nearest = round(product)
    # 0.1 * 30 is 3.0000000000000004 in floating point. Levels have few digits, so a product this close to an integer
    # is meant to be that integer.
    is_whole = math.isclose(product, nearest, rel_tol=1e-9, abs_tol=0.0)
    return max(1, nearest if is_whole else math.ceil(product))


def clears(tests_passed: int, num_tests: int, level: float) -> bool:
    """Check whether a passed prefix of `tests_passed` tests reaches `level`."""
    return tests_passed >= tests_required(level, num_tests)
