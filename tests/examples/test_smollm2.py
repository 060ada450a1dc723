"""The converter of MBPP, on small records, and the problems that it made."""

import json
import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from grading.problems import load_problems

EXAMPLE = Path(__file__).parents[2] / "examples" / "smollm2"
mbpp = SimpleNamespace(**runpy.run_path(str(EXAMPLE / "convert_mbpp.py")))

SOLUTIONS: dict[str, Callable[..., Any]] = {
    "square_nums": lambda numbers: [number**2 for number in numbers],
    "filter_evennumbers": lambda numbers: [number for number in numbers if number % 2 == 0],
    "smallest_num": min,
    "minimum": min,
    "last_Digit": lambda number: number % 10,
    "rectangle_area": lambda width, height: width * height,
    "is_lower": str.lower,
    "big_diff": lambda numbers: max(numbers) - min(numbers),
}


def record(*asserts: str, **changes: Any) -> dict[str, Any]:
    return {"text": "Do it. ", "task_id": 7, "test_setup_code": "", "test_list": list(asserts), **changes}


def test_a_record_becomes_a_problem() -> None:
    problem = mbpp.convert(record("assert f([1, 2, 3], 'x') == {'a': None}", "assert f([], 'y') == (1, 2.5)"))
    assert problem == {
        "id": "mbpp/7",
        "statement": "Do it.\n\nThe function is called `f`. For example, `f([], 'y')` returns `[1, 2.5]`.\n\n"
        + mbpp.HOW_TO_ANSWER,
        "tests": [
            {"input": [[], "y"], "output": [1, 2.5]},
            {"input": [[1, 2, 3], "x"], "output": {"a": None}},
        ],
        "entry_point": "f",
        "public_tests": 1,
    }


@pytest.mark.parametrize(
    ("line", "arguments", "value"),
    [
        ("assert f(-1, 1e3, True, None) == False", [-1, 1000.0, True, None], False),
        ("assert f( [[1], []] )==[]  ", [[[1], []]], []),
        ("assert f(('text'))==('other')", ["text"], "other"),
        ("assert f('é\\n') == ((1,), [2])", ["é\n"], [[1], [2]]),
        ("assert f() == 1, 'said when it fails'", [], 1),
    ],
)
def test_literals_keep_their_meaning(line: str, arguments: list[Any], value: Any) -> None:
    name, got_arguments, got_value = mbpp.read_assert(line)
    assert name == "f"
    # As text: in Python True equals 1, in JSON it does not.
    assert json.dumps([got_arguments, got_value]) == json.dumps([arguments, value])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("assert f((1, 2)) == 3", "a tuple among the arguments"),
        ("assert f([(1,)]) == 3", "a tuple among the arguments"),
        ("assert f(1) == {1, 2}", "a set"),
        ("assert f(1) == {1: 2}", "keys that are no strings"),
        ("assert f(1) == 1e999", "a number that JSON lacks"),
        ("assert f(1) == 2 + 3j", "a complex"),
        ("assert f(x) == 3", "not a literal"),
        ("assert f(__import__('os').getcwd()) == 3", "not a literal"),
        ("assert f(1)", "not of the form"),
        ("assert f(1) != 2", "not of the form"),
        ("assert f(n=1) == 2", "not of the form"),
        ("assert a.f(1) == 2", "not of the form"),
        ("assert set(f(1)) == 2", "not a literal"),
        ("assert f(1) == 2 == 2", "not of the form"),
        ("import os", "not of the form"),
        ("assert f(1) == 2; f(2)", "not one assert"),
        ("assert f(1) == (", "not one assert"),
    ],
)
def test_what_does_not_fit_is_skipped_with_its_reason(line: str, reason: str) -> None:
    with pytest.raises(mbpp.UnfitError, match=reason):
        mbpp.read_assert(line)


def test_setup_code_and_several_functions_do_not_fit() -> None:
    with pytest.raises(mbpp.UnfitError, match="set-up code"):
        mbpp.convert(record("assert f(1) == 1", test_setup_code="import math"))
    with pytest.raises(mbpp.UnfitError, match="different functions"):
        mbpp.convert(record("assert f(1) == 1", "assert g(1) == 1"))


def test_skipped_problems_are_counted_and_ids_keep_their_order() -> None:
    lines = [json.dumps(record(line, task_id=i)) for i, line in enumerate(("assert f(1) == 1", "x", "y"))]
    skipped = Counter[str]()
    assert [problem["id"] for problem in mbpp.convert_all([*lines, "\n"], [], skipped)] == ["mbpp/0"]
    assert skipped == {"not of the form f(args) == value": 2}
    again = mbpp.convert_all([*lines, json.dumps(record("assert g(1) == 1", task_id=9))], [9, 0], skipped)
    assert [problem["id"] for problem in again] == ["mbpp/9", "mbpp/0"]


def test_every_committed_problem_is_read_and_can_be_solved() -> None:
    problems = load_problems(EXAMPLE / "problems.jsonl")
    assert len(problems) == 8
    for problem in problems:
        solve = SOLUTIONS[str(problem.entry_point)]
        assert f"`{problem.entry_point}`" in problem.statement
        assert [solve(*test.input) for test in problem.tests] == [test.output for test in problem.tests]
