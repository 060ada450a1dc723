"""Judging without a run: programs of completions against the tests of a problem."""

from collections.abc import Iterable
from typing import Literal

from alphamix.grading.judge.judge import Judge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Problem


def judge(
    problem: Problem,
    completions: Iterable[str],
    *,
    are_programs: bool = False,
    all_tests: bool = False,
    sandbox: Literal["strict", "weak"] = "strict",
    workers: int = 1,
) -> list[Judgement]:
    """Run the programs of completions against a problem's tests, each in a sandbox.

    Args:
        problem: Problem with tests in nested order.
        completions: Texts with a program in them, as models write them.
        are_programs: Whether the texts are the programs themselves.
        all_tests: Whether to run every test, not only those up to the first failure.
        sandbox: `weak` runs programs without confinement: only for programs that you trust.
        workers: Number of programs judged at once.

    Returns:
        One judgement for each completion, in their order. The verdict `IE` says that the judge failed, and nothing
        about the program.

    Raises:
        GradingError: programs cannot be judged safely on this machine; `alphamix doctor` says what is missing.

    Example:
        >>> tests = [{"input": "1", "output": "2"}, {"input": "2", "output": "4"}]
        >>> problem = alphamix.Problem(id="double", statement="Print twice n.", tests=tests)
        >>> right, wrong = alphamix.judge(problem, ["```python\\nprint(2 * int(input()))\\n```", "print(2)"])
        >>> right.verdict, wrong.verdict, wrong.tests_passed
        (<Verdict.AC: 'AC'>, <Verdict.WA: 'WA'>, 1)
    """
    with Judge(workers=workers, sandbox=sandbox, all_tests=all_tests) as opened:
        programs = [program_of(text, problem.prologue, is_code=are_programs) for text in completions]
        return [future.result() for future in [opened.submit(problem, program) for program in programs]]
