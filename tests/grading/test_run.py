"""Programs that are run without being judged: their answers are kept and not compared."""

import json
from collections.abc import Callable

import pytest

from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Program, Verdict

MakeProblem = Callable[..., Problem]

ROOM = 1 << 16
NUMBERS = [(f"{n}\n", "") for n in range(4)]


def test_answers_are_kept_and_not_compared(judge: Judge, make_problem: MakeProblem) -> None:
    judgement = judge.run(make_problem(*NUMBERS), Program("print(int(input()) + 1)"), ROOM).result()
    assert (judgement.verdict, judgement.tests_passed) == (Verdict.AC, 4)
    assert judgement.answers == (b"1\n", b"2\n", b"3\n", b"4\n")


def test_a_function_answers_with_json(judge: Judge, make_problem: MakeProblem) -> None:
    problem = make_problem(*(([n], None) for n in range(3)), entry_point="f")
    judgement = judge.run(problem, Program("def f(n): return (n, None)"), ROOM).result()
    assert judgement.answers is not None
    assert [json.loads(answer or b"") for answer in judgement.answers] == [[0, None], [1, None], [2, None]]


def test_a_failure_leaves_the_other_answers(judge: Judge, make_problem: MakeProblem) -> None:
    source = "n = int(input())\nif n == 1: n /= 0\nwhile n == 2: pass\nprint(n)"
    judgement = judge.run(make_problem(*NUMBERS), Program(source), ROOM).result()
    assert (judgement.verdict, judgement.first_failed_test) == (Verdict.RE, 1)
    assert judgement.answers == (b"0\n", None, None, b"3\n")


def test_inputs_do_not_affect_each_other(judge: Judge, make_problem: MakeProblem) -> None:
    source = "import math\nmath.seen = getattr(math, 'seen', 0) + 1\nprint(math.seen)"
    judgement = judge.run(make_problem(*NUMBERS), Program(source), ROOM).result()
    assert judgement.answers == (b"1\n",) * 4


@pytest.mark.parametrize("program", [None, Program("def f(:")])
def test_without_a_program_there_are_no_answers(
    judge: Judge, make_problem: MakeProblem, program: Program | None
) -> None:
    judgement = judge.run(make_problem(*NUMBERS), program, ROOM).result()
    assert judgement.verdict in (Verdict.FE, Verdict.CE)
    assert not any(judgement.answers or ())


def test_answers_beyond_the_size_limit_are_failures(judge: Judge, make_problem: MakeProblem) -> None:
    judgement = judge.run(make_problem(*NUMBERS), Program("print('x' * 30000)"), ROOM).result()
    assert judgement.verdict is Verdict.OLE
    assert [answer is not None for answer in judgement.answers or ()] == [True, True, False, False]


def test_a_run_does_not_judge(judge: Judge, make_problem: MakeProblem) -> None:
    problem, wrong = make_problem(("1\n", "2\n")), Program("print(1)")
    assert judge.run(problem, wrong, ROOM).result().verdict is Verdict.AC
    assert judge.submit(problem, wrong).result().verdict is Verdict.WA
    assert judge.run(problem, wrong, ROOM).result().answers == (b"1\n",)
    judge.forget(problem)
    assert judge.submit(problem, wrong).result().verdict is Verdict.WA


SLOW = "import time\ntime.sleep(0.1)\nprint(int(input()) + 1)"
MANY = [(f"{n}\n", f"{n + 1}\n") for n in range(150)]


@pytest.mark.parametrize("is_run", [False, True])
def test_programs_of_a_problem_that_is_forgotten_end(make_problem: MakeProblem, is_run: bool) -> None:
    """The program would otherwise take 15 seconds or more, and delay every program after it."""
    problem, slow = make_problem(*MANY), Program(SLOW)
    with Judge() as judge:
        future = judge.run(problem, slow, ROOM) if is_run else judge.submit(problem, slow)
        judge.forget(problem)
        judgement = future.result()
        assert (judgement.verdict, judgement.message[:25]) == (Verdict.IE, "the problem was forgotten")
        assert judge.submit(make_problem(*NUMBERS[:1]), Program("print()")).result().verdict is Verdict.AC


def test_a_program_continues_while_an_equal_problem_needs_it(judge: Judge, make_problem: MakeProblem) -> None:
    one, other, slow = make_problem(*MANY[:5]), make_problem(*MANY[:5]), Program(SLOW)
    futures = [judge.submit(problem, slow) for problem in (one, other)]
    judge.forget(one)
    assert [future.result().verdict for future in futures] == [Verdict.AC] * 2
