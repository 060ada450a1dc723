"""Published benchmarks: what their assertions become, and that their own solutions are accepted."""

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.benchmarks import assertions, humaneval, mbpp
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.problems import load_problems
from alphamix.grading.programs.extract import extract_program
from alphamix.grading.rewards.rewards import as_trl_reward
from alphamix.grading.types import FloatChecker, FloatTolerance, Problem, Program

MBPP = Path(__file__).resolve().parents[3] / "shared" / "data" / "mbpp.jsonl"
NOT_ACCEPTED = {
    "mbpp/414": "the reference returns 1 and 0, the assertions want True and False, and values are compared as JSON"
}
FORGEABLE = {
    "mbpp/590": "expects a complex number",
    "mbpp/596": "expects what sys.getsizeof says",
}


def problem_of(lines: list[str], **settings: Any) -> Problem:
    return Problem(id="p", statement="", **assertions.convert(lines, "f", **settings)._asdict())


@pytest.mark.parametrize(
    ("line", "arguments", "value"),
    [
        ("assert f(-1, 1e3, True, None) == False", [-1, 1000.0, True, None], False),
        ("assert f( [[1], []] )==[]  ", [[[1], []]], []),
        ("assert f(('text'))==('other')", ["text"], "other"),
        ("assert f('é\\n') == ((1,), [2])", ["é\n"], [[1], [2]]),
        ("assert f({'a': 1}) == {'b': (1, 2)}", [{"a": 1}], {"b": [1, 2]}),
        ("assert f(1) == tuple([1, 2])", [1], [1, 2]),
        ("assert f(1) == sorted([2, 1])", [1], [1, 2]),
        ("assert f() == 1, 'said when it fails'", [], 1),
        ("assert f(1) is None", [1], None),
        ("assert f(1) is True", [1], True),
    ],
)
def test_plain_calls_keep_their_meaning(line: str, arguments: list[Any], value: Any) -> None:
    problem = problem_of([line])
    assert (assertions.form_of(problem), problem.entry_point, problem.epilogue) == ("call", "f", None)
    # As text: in Python True equals 1, in JSON it does not.
    (test,) = problem.tests
    assert json.dumps([test.input, test.output]) == json.dumps([arguments, value])


@pytest.mark.parametrize(
    ("line", "expression", "value"),
    [
        ("assert f((1, 2)) == 3", "f((1, 2))", 3),
        ("assert f([(1,)]) == 3", "f([(1,)])", 3),
        ("assert f({1: 2}, {3}, 1j, b'4') == 5", "f({1: 2}, {3}, 1j, b'4')", 5),
        ("assert f(float('inf'), 2 * 3) == 1", "f(float('inf'), 2 * 3)", 1),
        ("assert f(n=1) == 2", "f(n=1)", 2),
        ("assert int(f(1)) == 2", "int(f(1))", 2),
        ("assert f(1) == {2, 1}", "sorted(f(1))", [1, 2]),
        ("assert set(f(1)) == set([2, 1, 2])", "sorted(set(f(1)))", [1, 2]),
        ("assert sorted(f(1)) == sorted((2, 1))", "sorted(f(1))", [1, 2]),
        ("assert f(1) == {2: 'a', 1: 'b'}", "sorted(dict.items(f(1)))", [[1, "b"], [2, "a"]]),
        ("assert f(1)", "bool(f(1))", True),
        ("assert not f(1)", "bool(f(1))", False),
        ("assert f(1)[0] == 2", "f(1)[0]", 2),
    ],
)
def test_other_left_sides_are_evaluated_and_compared_outside(line: str, expression: str, value: Any) -> None:
    problem = problem_of([line])
    assert (assertions.form_of(problem), problem.is_forgeable) == ("expression", False)
    (test,) = problem.tests
    assert json.dumps([test.input, test.output]) == json.dumps([[expression], value])


@pytest.mark.parametrize(
    "line",
    [
        "assert f(1) != 2",
        "assert f(1) > 2",
        "assert f(1) == 2 == 2",
        "assert (f(1) == 2) == True",
        "assert all(x == 1 for x in f(1)) is True",
        "assert f(1) == g(2)",
        "assert f(1) == 1e999",
        "assert f(1) == 2 + 3j",
        "assert f(1) == {1, 'a'}",
        "assert f(1) == [{1: 2}]",
        "assert isinstance(f(1), int)",
        "assert f(1) and f(2)",
        "assert not f(1) == 2",
        "x = f(1)",
        "assert f(1) == 1; f(2)",
    ],
)
def test_what_must_be_decided_inside_is_forgeable(line: str) -> None:
    problem = problem_of(["assert f(1) == 1", line])
    assert (assertions.form_of(problem), problem.is_forgeable) == ("nonce", True)
    assert len(problem.tests) == 1


@pytest.mark.parametrize(
    ("lines", "checker"),
    [
        (["assert abs(f(1) - 0.5) < 1e-6"], FloatTolerance(abs=1e-6, rel=0)),
        (["assert abs(f(1) - -2) <= 1e-6", "assert abs(f(2) - 3) < 1e-6"], FloatTolerance(abs=1e-6, rel=0)),
        (["assert math.isclose(f(1), 0.5)"], FloatTolerance(abs=0, rel=1e-9)),
        (["assert math.isclose(f(1), 0.5, rel_tol=1e-3, abs_tol=0.1)"], FloatTolerance(abs=0.1, rel=1e-3)),
    ],
)
def test_tolerances_become_the_checker(lines: list[str], checker: FloatTolerance) -> None:
    problem = problem_of(lines)
    assert (assertions.form_of(problem), problem.checker) == ("call", FloatChecker(floats=checker))


@pytest.mark.parametrize(
    "lines",
    [
        ["assert abs(f(1) - 0.5) < 1e-6", "assert f(2) == 1"],
        ["assert abs(f(1) - 0.5) < 1e-6", "assert abs(f(1) - 0.5) < 1e-3"],
        ["assert abs(f(1) - True) < 1"],
        ["assert True"],
    ],
)
def test_a_problem_has_one_checker(lines: list[str]) -> None:
    assert assertions.form_of(problem_of(lines)) == "nonce"


def test_all_tests_take_one_form_and_go_from_short_to_long() -> None:
    problem = problem_of(["assert True, 'idle'", "assert f([1, 2]) == 1", "assert f((1,)) == 2"])
    assert [(test.input, test.output) for test in problem.tests] == [(["f((1,))"], 2), (["f([1, 2])"], 1)]


def test_set_up_code_runs_after_the_program(judge: Judge) -> None:
    problem = problem_of(["assert f(root) == 3"], set_up="root = Node(3)")
    assert assertions.form_of(problem) == "expression"
    assert judge.submit(problem, Program("class Node(int): pass\ndef f(n): return n")).result().verdict == "AC"


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("def f(x): return len(x) if x else [7]", "AC"),
        ("def f(x): return 0", "WA"),
        ("class E:\n  __eq__ = lambda s, o: True\n  __hash__ = None\ndef f(x): return E()", "RE"),
        ("def f(x): return eval", "RE"),
        ("import builtins\nbuiltins.eval = lambda text: True\ndef f(x): return 0", "WA"),
        ("import os, sys\ndef f(x): os._exit(0)", "RE"),
        ("print(input())\nimport os\nos._exit(0)", "RE"),
    ],
)
def test_expressions_cannot_be_forged(judge: Judge, code: str, verdict: str) -> None:
    problem = problem_of(["assert f((1, 2)) == 2", "assert f(()) == [7]"])
    judgement = judge.submit(problem, Program(code)).result()
    assert (judgement.verdict, judgement.forgeable) == (verdict, False), judgement


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("def f(x): return x + 1", "AC"),
        ("def f(x): print('chatter', end=''); return x + 1", "AC"),
        ("def f(x): return x", "RE"),
        ("import os\ndef f(x): os._exit(0)", "WA"),
    ],
)
def test_nonces_show_that_the_end_was_reached(judge: Judge, code: str, verdict: str) -> None:
    judgement = judge.submit(problem_of(["assert f(1) > 1", "assert f(2) > 2"]), Program(code)).result()
    assert (judgement.verdict, judgement.forgeable) == (verdict, True), judgement


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def mbpp_record(*lines: str, **changes: Any) -> mbpp.MbppRecord:
    return mbpp.MbppRecord.model_validate({"text": "Do it. ", "task_id": 7, "test_list": lines} | changes)


def test_a_record_of_mbpp_becomes_a_problem() -> None:
    problem = mbpp.convert(mbpp_record("assert f([1, 2, 3], 'x') == {'a': None}", "assert f([], 'y') == (1, 2.5)"))
    assert problem.model_dump(exclude_defaults=True) == {
        "id": "mbpp/7",
        "statement": "Do it.\n\nThe function is called `f`. For example, `f([], 'y')` returns `[1, 2.5]`.\n\n"
        + mbpp.HOW_TO_ANSWER,
        "tests": (
            {"input": [[], "y"], "output": [1, 2.5]},
            {"input": [[1, 2, 3], "x"], "output": {"a": None}},
        ),
        "entry_point": "f",
        "public_tests": 1,
    }


@pytest.mark.parametrize(
    ("line", "function", "example", "public_tests"),
    [
        ("assert set(find((1, 2))) == {3}", "find", "`sorted(set(find((1, 2))))` returns `[3]`", 1),
        ("assert sum(10,15) == 6", "sum", "`sum(10, 15)` returns `6`", 1),
        ("assert f(1) < 2", "f", "`assert f(1) < 2` holds", 0),
    ],
)
def test_the_statement_names_the_function_and_shows_an_example(
    line: str, function: str, example: str, public_tests: int
) -> None:
    problem = mbpp.convert(mbpp_record(line))
    assert f"The function is called `{function}`. For example, {example}." in problem.statement
    assert problem.public_tests == public_tests


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"task_id": 1, "text": ""}', "line 2: test_list: Field required"),
        ('{"task_id": 1, "text": "", "test_list": []}', "line 2: test_list: "),
        ('{"task_id": 1, "text": "", "test_list": ["assert f("]}', "line 2: .*: correct the code of this row"),
        ('{"task_id": 1, "text": "", "test_list": ["assert True"]}', "line 2: no function is called"),
    ],
)
def test_bad_records_are_reported_with_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mbpp.jsonl"
    path.write_text(f"{mbpp_record('assert f(1) == 1').model_dump_json()}\n{line}\n", encoding="utf-8")
    with pytest.raises(GradingError, match=f"mbpp.jsonl, {message}"):
        mbpp.load(path)


def test_empty_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(GradingError, match="has no problems"):
        mbpp.load(tmp_path / "empty")
    with pytest.raises(GradingError, match="cannot be read"):
        humaneval.load(tmp_path / "absent")


@pytest.mark.skipif(not MBPP.is_file(), reason="needs the data of MBPP beside the repository")
@pytest.mark.slow
def test_the_reference_programs_of_mbpp_are_accepted(judge: Judge) -> None:
    records = [json.loads(line) for line in MBPP.read_text(encoding="utf-8").splitlines()]
    # References are not made to be fast: mbpp/123 takes 2.5 s where the default limit is 2 s.
    problems = [problem.model_copy(update={"time_limit_s": 20.0}) for problem in mbpp.load(MBPP)]
    programs = [Program(record["code"]) for record in records]
    futures = [judge.submit(problem, program) for problem, program in zip(problems, programs, strict=True)]
    judged = {problem.id: future.result() for problem, future in zip(problems, futures, strict=True)}
    assert {name: judgement for name, judgement in judged.items() if judgement.verdict != "AC"}.keys() == (
        NOT_ACCEPTED.keys()
    )
    assert {name for name, judgement in judged.items() if judgement.forgeable} == FORGEABLE.keys()
    assert Counter(map(assertions.form_of, problems)) == {"call": 825, "expression": 147, "nonce": 2}


PROMPT = '''from typing import List


def double(x: int) -> int:
    return 2 * x


def total(numbers: List[int]) -> int:
    """ Add up the doubles.
    >>> total([1, 2])
    6
    """
'''
BODY = """    result = 0
    for number in numbers:
        result += double(number)
    return result
"""
CHECK = """

METADATA = {'author': 'us'}


def check(candidate):
    assert True, "idle"
    assert candidate([1, 2, 3]) == 12, "adds"
    assert candidate([]) == 0
"""


def humaneval_problem(test: str = CHECK) -> Problem:
    return humaneval.convert(humaneval.HumanEvalRecord(task_id="T/0", prompt=PROMPT, entry_point="total", test=test))


def test_a_record_of_humaneval_becomes_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "HumanEval.jsonl"
    record = {"task_id": "T/0", "prompt": PROMPT, "entry_point": "total", "test": CHECK, "canonical_solution": BODY}
    path.write_text(json.dumps(record) + "\n", encoding="utf-8")
    (problem,) = humaneval.load(path)
    assert problem.model_dump(exclude_defaults=True) == {
        "id": "T/0",
        "statement": PROMPT,
        "tests": ({"input": [[]], "output": 0}, {"input": [[1, 2, 3]], "output": 12}),
        "entry_point": "total",
        "prologue": PROMPT,
        "reference": PROMPT + BODY,
    }


@pytest.mark.parametrize(
    ("test", "form"),
    [
        ("def check(candidate):\n    assert candidate((1,)) == 2", "expression"),
        ("import math\ndef check(candidate):\n    assert candidate([1]) == 2", "call"),
        ("LIST = [1]\ndef check(candidate):\n    assert candidate(LIST) == 2", "expression"),
        ("import numpy as np\ndef check(candidate):\n    assert candidate([1]) == 2", "call"),
        ("def check(candidate):\n    assert candidate([1]) == 2\n\ncheck(total)", "call"),
        ("def check(candidate):\n    assert candidate([1]) == 2\nif __name__ == '__main__':\n    check(total)", "call"),
        ("def check(f):\n    assert f([1]) == 2\ndef test():\n    check(total)\n\ntest()", "nonce"),
        ("def one():\n    return [1]\ndef check(candidate):\n    assert candidate(one()) == 2", "expression"),
        ("def twice(n):\n    return 2 * n\ndef check(candidate):\n    assert candidate([4]) == twice(4)", "nonce"),
        ("def check(candidate):\n    for n in range(9):\n        assert candidate([n]) == 2 * n", "nonce"),
        ("def check(candidate):\n    assert candidate([1]) < 3", "nonce"),
    ],
)
def test_every_form_of_humaneval_is_judged(judge: Judge, test: str, form: str) -> None:
    problem = humaneval_problem(test)
    assert assertions.form_of(problem) == form
    right, wrong = (extract_program(body, problem.prologue) for body in (BODY, "    return 3"))
    assert judge.submit(problem, right).result().verdict == "AC"
    assert judge.submit(problem, wrong).result().verdict in ("WA", "RE")


EVALPLUS = """import numpy as np

def is_floats(x) -> bool:
    return isinstance(x, float) or isinstance(x, np.ndarray)

def assertion(out, exp, atol):
    exact_match = out == exp
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    assert exact_match or np.allclose(out, exp, rtol=1e-07, atol=atol)

def check(candidate):
    inputs = INPUTS
    results = RESULTS
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, ATOL)
"""


@pytest.mark.parametrize(
    ("inputs", "results", "atol", "form", "tolerance"),
    [
        ("[[[1, 2]], [[]]]", "[6, 0]", "0", "call", None),
        ("[[[1, 2.5]], [[]]]", "[7.0000001, 0]", "0", "call", 1e-6),
        ("[[[1, 2]], [[5]]]", "[6, 10]", "0.1", "call", 0.1),
        ("[[(1, 2)], [()]]", "[6, 0]", "0", "expression", None),
        ("[[[1e999]]]", "[float('inf')]", "0", "nonce", None),
        ("[[[1, 2.5]], [[1]]]", "[float(7.0000001), 2]", "0", "nonce", None),
    ],
)
def test_evalplus_is_judged_without_numpy(
    judge: Judge, inputs: str, results: str, atol: str, form: str, tolerance: float | None
) -> None:
    test = EVALPLUS.replace("INPUTS", inputs).replace("RESULTS", results).replace("ATOL", atol)
    problem = humaneval_problem(test)
    floats = FloatTolerance(abs=tolerance, rel=1e-7) if tolerance else None
    assert assertions.form_of(problem) == form
    assert problem.checker == (FloatChecker(floats=floats) if floats else "tokens")
    assert "numpy" not in (problem.epilogue or "")
    right, wrong = (extract_program(body, problem.prologue) for body in (BODY, "    return 77"))
    assert judge.submit(problem, right).result().verdict == "AC"
    assert judge.submit(problem, wrong).result().verdict in ("WA", "RE")


MBPP_PLUS = """import numpy as np

def is_floats(x) -> bool:
    return isinstance(x, float)

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    COMPARED
    if out != exp and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp

inputs = INPUTS
results = RESULTS
for i, (inp, exp) in enumerate(zip(inputs, results)):
    assertion(pair(*inp), exp, 0)
"""


@pytest.mark.parametrize(
    ("compared", "inputs", "results", "form", "wrong"),
    [
        ("pass", "[[1, 2], [3, 4]]", "[[2, 1], [4, 3]]", "call", "[a, b]"),
        ("pass", "[[1, 2], [(3,), 4]]", "[(2, 1), (4, (3,))]", "expression", "[a, b]"),
        ("out = set(out); exp = set(exp)", "[[1, 2], [3, 4]]", "[[1, 2], [3, 4, 4]]", "expression", "[a]"),
    ],
)
def test_mbpp_plus_is_judged_by_its_own_tests(
    judge: Judge, tmp_path: Path, compared: str, inputs: str, results: str, form: str, wrong: str
) -> None:
    test = MBPP_PLUS.replace("COMPARED", compared).replace("INPUTS", inputs).replace("RESULTS", results)
    record = {"task_id": "7", "prompt": "Swap.", "test_list": ["assert pair(1, 2) == [2, 1]"], "test": test}
    (problem,) = mbpp.load(write(tmp_path / "MbppPlus-OriginFmt.jsonl", record))
    assert (problem.id, len(problem.tests), assertions.form_of(problem)) == ("mbpp/7", 2, form)
    assert "For example, `assert pair(1, 2) == [2, 1]` holds." in problem.statement
    assert judge.submit(problem, Program("def pair(a, b): return [b, a]")).result().verdict == "AC"
    assert judge.submit(problem, Program(f"def pair(a, b): return {wrong}")).result().verdict == "WA"


def test_suites_that_call_a_reference_have_the_limits_of_evalplus() -> None:
    loop = "for i, inp in enumerate(inputs):\n        assertion(candidate(*inp), ref_func(*inp), 0)"
    code = "def ref_func(x): return x\n\ndef check(candidate):\n    inputs = [[1]]\n    "
    problem = humaneval_problem(EVALPLUS[: EVALPLUS.index("def check")] + code + loop)
    assert assertions.form_of(problem) == "nonce"
    assert (problem.time_limit_s, problem.memory_limit_mb, problem.packages) == (60, 4096, ())


def test_an_assertion_that_no_program_passes_is_corrected(judge: Judge) -> None:
    poly = "def _poly(xs, x):\n    return sum(c * x**i for i, c in enumerate(xs))\n\n"
    loop = (
        "for i, (inp, exp) in enumerate(zip(inputs, results)):\n        assert _poly(*candidate(*inp), inp) <= 0.0001"
    )
    problem = humaneval_problem(
        f"{poly}def check(candidate):\n    inputs = [[[1, 2]]]\n    results = [-0.5]\n    {loop}"
    )
    assert judge.submit(problem, Program("def total(xs): return -xs[0] / xs[1]")).result().verdict == "AC"
    assert judge.submit(problem, Program("def total(xs): return -xs[1]")).result().verdict == "RE"


def test_packages_that_the_tests_need_are_named() -> None:
    problem = humaneval_problem("import numpy as np\ndef check(candidate):\n    assert np.isclose(candidate([1]), 2)")
    named = list(problem.packages)
    assert list(named) == ["numpy"]


def test_a_record_without_check_is_reported() -> None:
    with pytest.raises(SyntaxError, match="do not define check"):
        humaneval_problem("assert total([]) == 0")


WHOLE = "def total(numbers: List[int]) -> int:\n    return double(sum(numbers))\n"


@pytest.mark.parametrize(
    ("completion", "verdict"),
    [
        (BODY, "AC"),
        (f"\n{BODY}\n\n", "AC"),
        (BODY.strip(), "AC"),
        (BODY[1:], "AC"),  # some tokenizers drop the first space
        (textwrap.dedent(BODY), "AC"),
        ("return 2 * sum(numbers)", "AC"),
        ("    return f(numbers)\n\ndef f(x): return 2 * sum(x)", "AC"),
        (PROMPT + BODY, "AC"),
        (WHOLE, "AC"),
        ("total = lambda numbers: 2 * sum(numbers)", "AC"),
        ("from __future__ import annotations\ndef total(numbers: List[int]):\n    return 2 * sum(numbers)", "AC"),
        (f"```python\n{BODY}```", "AC"),
        (f"```\n{BODY}```", "AC"),
        (f"<think>Add them up.</think>Here it is:\n\n```python\n{WHOLE}```\nIt adds.", "AC"),
        (f"1. Do this:\n   ```python\n{textwrap.indent(WHOLE, '   ')}   ```", "AC"),
        (f"<think>Add them up.</think>\n{BODY}", "AC"),
        ("    return 2", "WA"),
        ("    pass", "WA"),
        ("def other(numbers):\n    return 0", "FE"),
        ("```python\n    return (\n```", "CE"),
        ("    return (", "FE"),
        ("", "FE"),
        ("    total", "FE"),
        ("Sorry", "FE"),
        ("I would add them up:\n\n    return 2 * sum(numbers)", "FE"),
        ("```java\nclass Main {}\n```", "FE"),
    ],
)
def test_bodies_and_whole_programs_follow_the_prompt(judge: Judge, completion: str, verdict: str) -> None:
    problem = humaneval_problem()
    judgement = judge.submit(problem, extract_program(completion, problem.prologue)).result()
    assert judgement.verdict == verdict, judgement


def test_rewards_put_bodies_after_the_prompt_too(judge: Judge) -> None:
    reward = as_trl_reward(judge, [humaneval_problem()])
    assert reward(completions=[BODY, "    return 3", "Sorry"], problem_id=["T/0"] * 3) == [1.0, 0.0, 0.0]


def test_without_a_prologue_a_body_is_not_a_program() -> None:
    assert extract_program(BODY) is None
    assert extract_program(f"```python\n{WHOLE}```") == Program(WHOLE)


def test_programs_in_cpp_are_left_as_they_are() -> None:
    assert extract_program("```cpp\nint main() {}\n```", PROMPT) == Program("int main() {}\n", "cpp")


def test_a_decorator_of_the_function_is_not_left_behind() -> None:
    prologue = "import functools\n\n\n@functools.cache\ndef f(n):\n"
    assert extract_program("def f(n):\n    return n\n", prologue) == Program(
        "import functools\n\n\ndef f(n):\n    return n\n"
    )


def test_problems_can_be_written_and_read_again(tmp_path: Path) -> None:
    problems = [
        mbpp.convert(mbpp_record("assert f((1,)) == {2}", task_id=1)),
        mbpp.convert(mbpp_record("assert f(1) > 2", task_id=2)),
        mbpp.convert(mbpp_record("assert abs(f(1) - 2) < 0.1", task_id=3)),
        humaneval_problem(),
    ]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(problem.model_dump_json(exclude_defaults=True) + "\n" for problem in problems))
    assert load_problems(path) == problems
