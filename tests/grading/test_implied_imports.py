"""Programs that leave out imports, as the grader of LiveCodeBench lets them."""

from collections.abc import Callable

import pytest

from alphamix.grading.judge.implied_imports import with_implied_imports
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import fingerprint
from alphamix.grading.sandbox.confined import stateless
from alphamix.grading.sandbox.confined.leetcode import EXPORTS
from alphamix.grading.types import Problem, Program

MakeProblem = Callable[..., Problem]


def imports_of(source: str) -> list[str]:
    """Return the imports that a program gets beside `sys`, for the limit on nested calls."""
    lines = with_implied_imports(source).removesuffix(source).split("\n")
    assert (lines[0], lines[-2], lines[-1]) == ("import sys", "sys.setrecursionlimit(50000)", "")
    return lines[1:-2]


@pytest.mark.parametrize(
    ("source", "imports"),
    [
        ("print(1)", []),
        ("print(gcd(4, 6), deque())", ["from collections import deque", "from math import gcd"]),
        ("print(math.inf)", ["import math"]),
        ("from math import gcd\nprint(gcd(4, 6))", []),
        ("def gcd(a, b): return 1\nprint(gcd(4, 6))", []),
        ("count = 0\nfor mode in [1]:\n    count += mode", []),  # what a program defines itself
        ("print([1].count(1), 'a'.index('a'))", []),  # attributes are no names
        ("from re import *\nprint(deque())", ["from collections import deque"]),
        ("def f(x: List[int]):\n    return heappop(x)", ["from typing import List", "from heapq import heappop"]),
        ("print(unknown, pow(2, 3))", []),
        ("print(", []),
    ],
)
def test_only_names_that_a_program_lacks_are_imported(source: str, imports: list[str]) -> None:
    assert imports_of(source) == imports


def test_imports_stand_below_those_from_the_future() -> None:
    lines = with_implied_imports("from __future__ import annotations\nprint(gcd(2, 2))").split("\n")
    assert lines[:3] == ["from __future__ import annotations", "import sys", "from math import gcd"]


def test_every_name_can_be_imported() -> None:
    for module, names in EXPORTS.items():
        for name in names.split():
            exec(f"from {module} import {name}", {})


def test_a_program_is_proven_with_its_imports() -> None:
    source = with_implied_imports("print(gcd(4, 6), deque([int(input())]))").encode()
    assert stateless.prove(source, has_floats=False) == {"sys", "math", "collections"}


LACKS_IMPORTS = "print(reduce(add, map(int, input().split())), gcd(4, 6))"
DEEP = "def down(n):\n    return n and 1 + down(n - 1)\nprint(down(int(input())))"


def test_a_problem_says_whether_imports_are_implied(judge: Judge, make_problem: MakeProblem) -> None:
    for source, given, expected in ((LACKS_IMPORTS, "1 2\n", "3 2\n"), (DEEP, "20000\n", "20000\n")):
        plain = make_problem((given, expected))
        with_imports = make_problem((given, expected), implied_imports=True)
        assert judge.submit(plain, Program(source)).result().verdict == "RE"
        assert judge.submit(with_imports, Program(source)).result().verdict == "AC"
        assert fingerprint([plain]) != fingerprint([with_imports])


def test_a_program_that_breaks_its_own_names_fails_by_itself(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(("", "1\n"), implied_imports=True)
    for source in ("print(nothing)", "del print\nprint(1)", "import math\ndel math\nprint(math.pi)"):
        assert judge.submit(problem, Program(source)).result().verdict == "RE"
