"""Verifying problems: their references are judged, so that a fault of a problem is found before a model is blamed.

Where a limit on time is to follow from the reference, as judges do that have none in their problems, it is measured.
"""

import math
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Literal

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Problem, Verdict
from alphamix.wording import shown

Status = Literal["fine", "reference fails", "no reference", "broken"]
_CURE_OF_LIMIT = {
    Verdict.TLE: "raise the problem's time_limit_s, or make the reference faster",
    Verdict.MLE: "raise the problem's memory_limit_mb, or make the reference smaller",
}
_MOST_MEASURED_S = 60.0
_CURE = "correct the reference, or this test"


@dataclass(frozen=True, slots=True)
class ProblemFinding:
    """What is known of one problem."""

    status: Status
    problem_id: str | None
    """None where the line is no problem; the message then names the line."""
    message: str

    def __str__(self) -> str:
        name = "" if self.problem_id is None else f"{self.problem_id}: "
        return f"{name}{self.status}{self.message and f': {self.message}'}"


def with_measured_limit(problem: Problem, judge: Judge) -> Problem:
    """Return a problem with a time limit of whole seconds: its slowest test times `metadata.time_multiplier`.

    A problem without the multiplier, or without a reference, is returned as it is.

    Raises:
        GradingError: the reference fails a test.
    """
    multiplier = problem.metadata.get("time_multiplier")
    if multiplier is None or problem.reference is None:
        return problem
    program = program_of(problem.reference, problem, is_code=True)
    alone = {"levels": {}, "public_tests": 0, "time_limit_s": _MOST_MEASURED_S}
    futures = [judge.submit(problem.model_copy(update={**alone, "tests": (test,)}), program) for test in problem.tests]
    judgements = [future.result() for future in futures]
    for index, judgement in enumerate(judgements):
        if judgement.verdict is not Verdict.AC:
            cause = f"{judgement.verdict}{judgement.message and f', {judgement.message}'}"
            raise GradingError(f"{problem.id}: the reference fails test {index} ({cause}), so no limit can be measured")
    slowest = max(judgement.cpu_s for judgement in judgements)
    limit = max(1.0, float(math.ceil(slowest * multiplier)))
    metadata = {key: value for key, value in problem.metadata.items() if key != "time_multiplier"}
    metadata["time_limit"] = f"measured: {slowest:.3g} s times {multiplier:g}, rounded up"
    return problem.model_copy(update={"time_limit_s": limit, "metadata": metadata})


def verify(problems: Iterable[Problem | GradingError], judge: Judge) -> Iterator[ProblemFinding]:
    """Judge the reference of every problem, and yield a finding for each, in their order.

    An error among the problems, as `problems.each_problem` yields them, is a broken problem.
    """
    submitted: list[tuple[Problem | GradingError, Future[Judgement] | None]] = []
    for problem in problems:
        future = None
        if isinstance(problem, Problem) and problem.reference is not None:
            future = judge.submit(problem, program_of(problem.reference, problem, is_code=True))
        submitted.append((problem, future))
    for problem, future in submitted:
        if isinstance(problem, GradingError):
            yield ProblemFinding("broken", None, str(problem))
        elif future is None:
            yield ProblemFinding("no reference", problem.id, "")
        else:
            yield _finding(problem, future.result())


def _finding(problem: Problem, judgement: Judgement) -> ProblemFinding:
    if judgement.verdict is Verdict.AC:
        return ProblemFinding("fine", problem.id, "")
    if judgement.verdict is Verdict.IE:
        return ProblemFinding("broken", problem.id, judgement.message)
    cause = f"{judgement.verdict}{judgement.message and f', {judgement.message}'}"
    index = judgement.first_failed_test
    if index is None:
        return ProblemFinding("reference fails", problem.id, f"{cause}: correct the reference")
    test = problem.tests[index]
    place = (
        f"test {index}" if test.is_nonce else f"test {index}, input {shown(test.input)}, expects {shown(test.output)}"
    )
    cure = _CURE_OF_LIMIT.get(judgement.verdict, _CURE)
    return ProblemFinding("reference fails", problem.id, f"{place}: {cause}: {cure}")
