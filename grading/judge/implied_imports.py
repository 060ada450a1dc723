"""Imports that a program leaves out, because the grader of its benchmark makes them for every program.

That of LiveCodeBench runs `from … import *` for the usual modules of the standard library. Here a program gets an
import for each name that it uses without defining it, and no other; a program that imports what it uses stays as it is,
apart from its limit on nested calls. The imports are part of the source, so that they are confined and proven with it.
"""

from alphamix.grading.programs.names import undefined_names
from alphamix.grading.programs.prologue import with_preamble
from alphamix.grading.sandbox.confined.leetcode import MODULE_OF_NAME, MODULES, RECURSION_LIMIT


def with_implied_imports(source: str) -> str:
    """Return a Python program after the imports that it lacks, and with a higher limit on nested calls."""
    missing = sorted(undefined_names(source))
    lines = [f"import {name}" for name in missing if name in MODULES and name != "sys"]
    lines += [
        f"from {MODULE_OF_NAME[name]} import {name}"
        for name in missing
        if name in MODULE_OF_NAME and name not in MODULES
    ]
    return with_preamble("\n".join(["import sys", *lines, f"sys.setrecursionlimit({RECURSION_LIMIT})"]), source)
