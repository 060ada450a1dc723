"""HumanEval+ and MBPP+ from their inputs, whose results are those of the reference."""

import json
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.benchmarks import plus
from alphamix.grading.benchmarks.catalog import each_problem_of
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import FloatChecker, FloatTolerance, Problem, Program
from alphamix.grading.verification import verify

FORMATS = Path(__file__).resolve().parents[3] / "shared" / "data" / "formats"


def mbpp(number: int, function: str, solution: str, base: list[Any], added: Any, **changes: Any) -> dict[str, Any]:
    return {
        "task_id": f"Mbpp/{number}",
        "prompt": f'"""\nWrite it.\nassert {function}() == 0\n"""\n',
        "entry_point": function,
        "canonical_solution": solution,
        "base_input": base,
        "plus_input": added,
        "atol": 0,
        "contract": "",
        "assertion": "",
    } | changes


def humaneval(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": 'def f(numbers):\n    """ Add up. """\n',
        "entry_point": "f",
        "canonical_solution": "    return sum(numbers)\n",
        "test": "",
        "base_input": [[[1, 2, 3]], [[]]],
        "plus_input": [[[1, 2]], [[0.5]]],
        "atol": 0,
    } | changes


ROWS = [
    humaneval(0),
    humaneval(75, plus_input=[[[2]]]),
    mbpp(793, "last", "def last(a, x):\n    return len(a) - a[::-1].index(x) - 1\n", [[[1, 2], 1], [[1], 1]], {}),
    mbpp(404, "least", "def least(a, b): return min(a, b)\n", [[1, 2]], [[float("-inf"), float("inf")]]),
    mbpp(116, "glue", "def glue(t):\n    assert type(t) is tuple\n    return len(t)\n", [[[1, 2]]], [[[3]]]),
    mbpp(252, "polar", "def polar(z):\n    return z, {z: {1}}\n", [["1j"]], [["(-0-2j)"]], atol=1e-4),
    mbpp(2, "both", "def both(a, b): return tuple(set(a) & set(b))\n", [[[1, 2], [2, 1]]], [[[], []]]),
    mbpp(9, "check_str", "import re\ndef check_str(s): return re.match('a', s)\n", [["ab"]], [["b"]]),
    mbpp(581, "pyramid", "def pyramid(b, s): return 2 * b * s + b * b\n", [[3, 4]], [[30, 4]]),
    mbpp(
        558, "away", "def away(m, n): return sum(abs(int(a) - int(b)) for a, b in zip(str(m), str(n)))\n", [[1, 23]], []
    ),
    mbpp(88, "count", "def count(a): return {x: a.count(x) for x in a}\n", [[[3, 3]]], [[[10, 9, 10]]]),
]


@pytest.fixture(scope="module")
def problems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Problem]:
    path = tmp_path_factory.mktemp("plus") / "Plus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    found = list(plus.reader("MbppPlus")(path, Selection()))
    assert all(isinstance(problem, Problem) for problem in found), found
    return {problem.id: problem for problem in found if isinstance(problem, Problem)}


def test_base_tests_come_first_and_each_part_from_short_inputs_to_long(problems: dict[str, Problem]) -> None:
    problem = problems["HumanEval/0"]
    assert [(test.input, test.output) for test in problem.tests] == [
        ([[]], 0),
        ([[1, 2, 3]], 6),
        ([[0.5]], 0.5),
        ([[1, 2]], 3),
    ]
    assert problem.levels == {"base": 2, "plus": 4}
    assert problem.checker == FloatChecker(floats=FloatTolerance(abs=1e-6, rel=1e-7))
    assert (problem.prologue, problem.entry_point) == (ROWS[0]["prompt"], "f")
    assert "erratum" not in problem.metadata
    assert problems["HumanEval/75"].metadata["erratum"] == "contradicts its tests"
    assert problems["Mbpp/793"].levels == {}
    assert problems["Mbpp/404"].statement.startswith(
        "Write it.\nassert least() == 0\n\nThe function is called `least`."
    )


def test_references_are_fine(problems: dict[str, Problem], judge: Judge) -> None:
    assert [str(finding) for finding in verify(problems.values(), judge)] == [f"{name}: fine" for name in problems]


@pytest.mark.parametrize(
    ("name", "code", "verdict"),
    [
        ("Mbpp/404", "def least(a, b): return a", "AC"),
        ("Mbpp/404", "def least(a, b): return b", "WA"),
        ("Mbpp/116", "def glue(t): return 2 - (t == (3,))", "AC"),
        ("Mbpp/116", "def glue(t): return t[0] if t != (1, 2) else [2]", "WA"),
        ("Mbpp/252", "def polar(z): return [z + 1e-5, {z: frozenset([1])}]", "AC"),
        ("Mbpp/252", "def polar(z): return z, {z: [1]}", "WA"),  # a list is no set
        ("Mbpp/252", "def polar(z): return str(z), {z: {1}}", "WA"),
        ("Mbpp/2", "def both(a, b): return sorted(set(a) & set(b), reverse=True)", "AC"),
        ("Mbpp/2", "def both(a, b): return a[:1]", "WA"),
        ("Mbpp/9", "def check_str(s): return s[0] == 'a'", "AC"),
        ("Mbpp/9", "def check_str(s): return None", "WA"),
        ("Mbpp/581", "def pyramid(b, s): return round(b * b + 2 * b * ((b / 2) ** 2 + s * s) ** 0.5)", "AC"),
        ("Mbpp/581", "def pyramid(b, s): return b", "WA"),
        ("Mbpp/558", "def away(m, n): return 2 + abs(3 - 1)", "AC"),  # with the shorter number filled up by zeros
        ("Mbpp/558", "def away(m, n): return 7", "WA"),
        ("Mbpp/88", "def count(a): return {x: a.count(x) for x in reversed(a)}", "AC"),
        ("Mbpp/88", "def count(a): return {str(x): a.count(x) for x in a}", "WA"),
    ],
)
def test_answers_are_judged_as_evalplus_does(
    problems: dict[str, Problem], judge: Judge, name: str, code: str, verdict: str
) -> None:
    judgement = judge.submit(problems[name], Program(code)).result()
    assert (judgement.verdict, judgement.forgeable) == (verdict, False), judgement


def test_any_root_is_right(judge: Judge, tmp_path: Path) -> None:
    prompt = "def find_zero(xs):\n"
    path = tmp_path / "HumanEvalPlus.jsonl"
    solution = "    return -1.0\n"
    row = humaneval(32, prompt=prompt, entry_point="find_zero", canonical_solution=solution, atol=1e-4)
    row |= {"base_input": [[[-1, 0, 1]]], "plus_input": []}
    path.write_text(json.dumps(row))
    (problem,) = each_recognised_problem(path)
    assert isinstance(problem, Problem)
    for root, verdict in (("1.00001", "AC"), ("-1", "AC"), ("1.1", "WA"), ("'1'", "WA"), ("None", "WA"), ("nan", "RE")):
        program = program_of(f"    return {root}", problem, is_code=False)
        assert judge.submit(problem, program).result().verdict == verdict, root


def test_results_that_are_too_long_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "MbppPlus.jsonl"
    long = mbpp(3, "f", "def f(n): return 10 ** n\n", [[2]], [[100_000], [3]])
    path.write_text(
        json.dumps(mbpp(1, "f", "def f(n): return 'x' * n\n", [[2]], [[1 << 24], [3]])) + "\n" + json.dumps(long)
    )
    for problem in plus.reader("MbppPlus")(tmp_path, Selection()):
        assert isinstance(problem, Problem), problem
        assert problem.levels == {"base": 1, "plus": 2}
        assert [test.input for test in problem.tests] == [[2], [3]]
        assert problem.metadata == {"left_out": "1 of its tests: their results are longer than answers may be"}


def test_a_row_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "MbppPlus.jsonl"
    faults = {
        "canonical_solution: RE on input 1": mbpp(1, "f", "def f(n): return 1 / n\n", [[1]], [[0]]),
        "tests is []: it should have at least 1 item": mbpp(3, "f", "", [], []),
        "base_input or plus_input: does not fit the task": mbpp(124, "f", "", [["1", "i"]], []),
        "task_id: String should match": mbpp(4, "f", "", [[1]], [], task_id="Mbpp/x"),
        "task_id: Field required": {"base_input": [3]},
        "not JSON": None,
    }
    path.write_text("".join("{\n" if row is None else json.dumps(row) + "\n" for row in faults.values()))
    errors = list(plus.reader("MbppPlus")(path, Selection()))
    for number, (error, told) in enumerate(zip(errors, faults, strict=True), start=1):
        assert isinstance(error, GradingError)
        assert f"MbppPlus.jsonl, line {number}: {told}" in str(error)


def test_problems_with_a_fault_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "HumanEvalPlus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:2]))
    kept = each_problem_of("humanevalplus", path, Selection(without_errata=True), print)
    assert [problem.id for problem in kept if isinstance(problem, Problem)] == ["HumanEval/0"]


@pytest.mark.skipif(not FORMATS.is_dir(), reason="needs the sample files beside the repository")
@pytest.mark.parametrize(("name", "number"), [("mbppplus_4.jsonl", 4), ("humanevalplus_3.jsonl", 3)])
def test_real_rows_are_read_and_their_references_accepted(name: str, number: int, judge: Judge) -> None:
    statuses = [finding.status for finding in verify(each_recognised_problem(FORMATS / name), judge)]
    assert statuses == ["fine"] * number
