"""Whole numbers that are longer than the 4,300 digits that Python reads by default."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alphamix.grading.checkers.compare import accepts_value, parse_value
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.types import FloatChecker, FloatTolerance, Problem, Program

LONG = 10**9000 + 7
MakeProblem = Callable[..., Problem]


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("def f(n): return n + 1", "AC"),
        ("def f(n): return n", "WA"),
        ("def f(n): return str(n + 1)", "WA"),
        ("def f(n): return 10 ** 200_000", "WA"),
    ],
)
def test_arguments_and_results(judge: Judge, make_problem: MakeProblem, code: str, verdict: str) -> None:
    problem = make_problem(([LONG], LONG + 1), ([-LONG], 1 - LONG), entry_point="f")
    assert judge.submit(problem, Program(code)).result().verdict == verdict


def test_standard_input_and_output(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem((f"{LONG}\n", f"{LONG + 1}\n"))
    assert judge.submit(problem, Program("print(int(input()) + 1)")).result().verdict == "AC"
    assert judge.submit(problem, Program("print(int(input()) + 2)")).result().verdict == "WA"


def test_problem_files(tmp_path: Path) -> None:
    tests = [{"input": [LONG], "output": LONG}]
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"id": "p", "statement": "", "entry_point": "f", "tests": tests}))
    (problem,) = load_problems(path)
    assert problem.tests[0].output == LONG
    assert len(fingerprint([problem])) == 64


@pytest.mark.parametrize("checker", ["tokens", FloatChecker(floats=FloatTolerance())])
@pytest.mark.parametrize("expected", [LONG, -LONG, 1, 0.5, "1", True, None, [LONG]])
def test_only_the_same_number_is_accepted(checker: FloatChecker, expected: object) -> None:
    answer = parse_value(b"-1" + b"0" * 8999 + b"7")
    assert accepts_value(checker, expected, answer) == (expected == -LONG)


def test_a_bomb_of_digits_is_refused_in_linear_time() -> None:
    answer = b"[" + b", ".join([b"9" * 1_000_000] * 16) + b"]"
    started = time.process_time()
    assert not accepts_value("tokens", [LONG] * 16, parse_value(answer))
    assert time.process_time() - started < 2
