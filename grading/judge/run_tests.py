"""Judging one program in one sandbox: its tests in their nested order, up to the first that fails.

Tests of one program share a process, which saves most of the time. What one test leaves behind for the next must
neither harm nor help: a failure in a process that has already run a test counts only when a fresh process fails as
well, and the last test always runs in a fresh process. Expected outputs are compared on this
side and go nowhere.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.sandbox.controller import Outcome, Process
from alphamix.grading.sandbox.workbench import Bench
from alphamix.grading.types import Judgement, Program, Verdict

Isolation = Literal["program", "test"]
"""What gets a process of its own."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How programs are examined."""

    isolate: Isolation = "program"
    all_tests: bool = False
    """Go on after the first failure."""
    keeps_bytes: int | None = None
    """Compare nothing and keep what the program answers: this much over all tests, and none of an answer beyond."""


class _Attempt:
    """The processes, one after the other, of one program."""

    def __init__(self, bench: Bench, prepared: PreparedProblem, program: Program, manner: Manner) -> None:
        self._bench = bench
        self._prepared = prepared
        self._program = program
        self._source = prepared.source(program)
        self._isolate = manner.isolate
        self._keeps_bytes = manner.keeps_bytes
        self._process: Process | None = None

    def run(self, index: int) -> Outcome:
        """Run test `index`; once more in a fresh process, if it failed in one that had run a test."""
        if self._runs_alone(index):
            self.end()
        carries = self._process is not None
        outcome = self._run_once(index)
        return self._run_once(index) if outcome.verdict is not None and carries else outcome

    def _runs_alone(self, index: int) -> bool:
        """Whether a test must find nothing of another. For the last one that is so always: an accepted program has
        then passed its hardest test with nothing but its source.
        """
        return self._isolate == "test" or index == self._prepared.num_tests - 1

    def _run_once(self, index: int) -> Outcome:
        outcome = self._start() if self._process is None else Outcome(None)
        if outcome.verdict is None and self._process is not None:
            given = self._prepared.input(index)
            outcome = self._process.run_test(given)
            if self._keeps_bytes is None:
                outcome = self._prepared.check(self._bench, index, given, outcome)
        goes_on = index + 1 < self._prepared.num_tests and not self._runs_alone(index + 1)
        if outcome.verdict is None and outcome.reusable and goes_on:
            return outcome
        # Only now is the peak known from outside; what the program said of itself may be less.
        peak, limit = self.end(), self._prepared.limits.memory_bytes
        if outcome.verdict is None and peak > limit:
            message = f"used {peak >> 20} MB of memory, limit {limit >> 20} MB"
            outcome = replace(outcome, verdict=Verdict.MLE, message=message)
        return replace(outcome, peak_rss_bytes=max(peak, outcome.peak_rss_bytes))

    def _start(self) -> Outcome:
        """Start a process, and say how compiling went."""
        prepared, entry_point = self._prepared, self._prepared.problem.entry_point
        self._process, outcome = self._bench.start(
            self._bench.samples, self._program.language, self._source, entry_point, prepared.limits, prepared.num_tests
        )
        return outcome

    def end(self) -> int:
        """End the present process, if any, and return its peak memory in bytes."""
        process, self._process = self._process, None
        return process.end() if process is not None else 0


def examine(
    bench: Bench,
    prepared: PreparedProblem,
    program: Program,
    manner: Manner,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Judgement:
    """Judge `program` against its problem. Before each test, `is_wanted` is asked whether to go on.

    Raises:
        ZygoteDiedError: the bench is of no more use.
        GradingError: this program, or this problem, cannot be judged here, or is not wanted any more; trying again
            will not help.
    """
    entry_point = prepared.problem.entry_point
    if program.language != "python" and entry_point is not None:
        return prepared.judgement(
            Verdict.FE, f"no Python function {entry_point!r}: the program is in {program.language}"
        )
    attempt = _Attempt(bench, prepared, program, manner)
    try:
        return _summarise(prepared, _run_tests(attempt, prepared.num_tests, manner, is_wanted), manner)
    except GradingError:
        attempt.end()
        raise


def _run_tests(attempt: _Attempt, num_tests: int, manner: Manner, is_wanted: Callable[[], bool]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for index in range(num_tests):
        if not is_wanted():
            raise GradingError("its problem was forgotten before it was judged: submit it again")
        outcomes.append(_kept(attempt.run(index), outcomes, manner.keeps_bytes))
        is_program = outcomes[-1].verdict not in (Verdict.CE, Verdict.FE)
        if not is_program or (outcomes[-1].verdict is not None and not manner.all_tests):
            break
    return outcomes


def _kept(outcome: Outcome, before: list[Outcome], keeps_bytes: int | None) -> Outcome:
    """Take the answer out of an outcome where it is not wanted, or where there is no room for it."""
    if keeps_bytes is None or outcome.verdict is not None:
        return replace(outcome, answer=b"")
    if sum(len(other.answer) for other in before) + len(outcome.answer) > keeps_bytes:
        return replace(outcome, verdict=Verdict.OLE, answer=b"", message=f"answered more than {keeps_bytes} bytes")
    return outcome


def _summarise(prepared: PreparedProblem, outcomes: list[Outcome], manner: Manner) -> Judgement:
    passed_tests = [outcome.verdict is None for outcome in outcomes]
    failed = passed_tests.index(False) if False in passed_tests else None
    failure = outcomes[failed] if failed is not None else None
    missing = [False] * (prepared.num_tests - len(outcomes))  # no program: no test was run
    answers = [outcome.answer if outcome.verdict is None else None for outcome in outcomes]
    judgement = prepared.judgement(failure.verdict or Verdict.AC if failure else Verdict.AC)
    return replace(
        judgement,
        tests_passed=len(outcomes) if failed is None else failed,
        first_failed_test=None if judgement.verdict in (Verdict.CE, Verdict.FE) else failed,
        cpu_s=round(sum(outcome.cpu_s for outcome in outcomes), 6),
        peak_rss_mb=round(max(outcome.peak_rss_bytes for outcome in outcomes) / (1 << 20), 3),
        message=failure.message if failure else "",
        passed_tests=(*passed_tests, *missing) if manner.all_tests and manner.keeps_bytes is None else None,
        answers=None if manner.keeps_bytes is None else (*answers, *(None for _ in missing)),
    )
