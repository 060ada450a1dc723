"""Judging without a run: programs of completions against the tests of a problem."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from alphamix import _checks as checks
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge, check_packages
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Problem
from alphamix.policies.types import Completion
from alphamix.wording import shown


def judge(
    problem: Problem,
    completions: Iterable[str | Completion],
    *,
    are_programs: bool = False,
    all_tests: bool = False,
    sandbox: Literal["strict", "weak"] = "strict",
    workers: int = 1,
    packages: Sequence[str] = (),
) -> list[Judgement]:
    """Run the programs of completions against a problem's tests, each in a sandbox.

    Args:
        problem: Problem with tests in nested order.
        completions: Texts with a program in them, as models write them, or what `Policy.sample` returns.
        are_programs: Whether the texts are the programs themselves.
        all_tests: Whether to run every test, not only those up to the first failure.
        sandbox: `weak` runs programs without confinement: only for programs that you trust.
        workers: Number of programs judged at once.
        packages: Installed packages that programs may import, such as `numpy`, beside those of the problem.

    Returns:
        One judgement for each completion, in their order. The verdict `IE` says that the judge failed, and nothing
        about the program.

    Raises:
        AlphamixError: a value does not hold, or programs cannot be judged safely on this machine; `alphamix doctor`
            says what is missing.

    Example:
        >>> tests = [{"input": "1", "output": "2"}, {"input": "2", "output": "4"}]
        >>> problem = alphamix.Problem(id="double", statement="Print twice n.", tests=tests)
        >>> right, wrong = alphamix.judge(problem, ["```python\\nprint(2 * int(input()))\\n```", "print(2)"])
        >>> right.verdict, wrong.verdict, wrong.tests_passed
        (<Verdict.AC: 'AC'>, <Verdict.WA: 'WA'>, 1)
    """
    _check_problem(problem)
    texts = _texts(completions)
    num_workers = checks.whole_number("workers", workers, 1, thing="number of workers")
    checks.one_of("sandbox", sandbox, ("strict", "weak"))
    names = checks.texts("packages", packages)
    check_packages([problem], names)
    with Judge(workers=num_workers, sandbox=sandbox, all_tests=all_tests, packages=names) as opened:
        programs = [program_of(text, problem, is_code=are_programs) for text in texts]
        return [future.result() for future in [opened.submit(problem, program) for program in programs]]


def _check_problem(problem: Any) -> None:
    if not isinstance(problem, Problem):
        raise GradingError(
            f"problem is {shown(problem)}: give an alphamix.Problem, such as alphamix.Problem(**fields) or one of "
            "alphamix.load_problems"
        )


def _texts(completions: Any) -> list[str]:
    """Return the texts of completions."""
    if isinstance(completions, str | bytes | Completion) or not isinstance(completions, Iterable):
        raise GradingError(f"completions is {shown(completions)}: give a list of programs, even for one: [program]")
    given: list[Any] = list(completions)
    texts = [each.text if isinstance(each, Completion) else each for each in given]
    return checks.texts("completions", texts)
