"""Judging one program in one sandbox: run its tests in their nested order, up to the first that fails.

The tests of a program share a process, which saves most of the time. What one test leaves behind must neither harm nor
help the next: a failure in a process that has already run a test counts only if a fresh process fails as well, and the
last test always runs in a fresh process. Answers are compared on this side; expected outputs never enter the sandbox
of the program.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.sandbox.controller import Outcome, Process
from alphamix.grading.sandbox.packages import find_packages
from alphamix.grading.sandbox.thread_sandboxes import ThreadSandboxes
from alphamix.grading.types import Judgement, Program, Verdict

Isolation = Literal["program", "test"]
"""The unit that gets its own process."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the tests of a program are run."""

    isolate: Isolation = "program"
    all_tests: bool = False
    """Whether to continue after the first failure."""
    keeps_bytes: int | None = None
    """If set, answers are kept rather than compared, up to this size over all tests."""
    packages: tuple[str, ...] = ()
    """Distributions that programs may import, beside those of their problem."""


class _Attempt:
    """The successive processes of one program."""

    def __init__(
        self, sandboxes: ThreadSandboxes, prepared: PreparedProblem, program: Program, options: RunOptions
    ) -> None:
        self._sandboxes = sandboxes
        self._prepared = prepared
        self._program = program
        self._source = prepared.source(program)
        self._options = options
        packages = find_packages((*options.packages, *prepared.problem.packages))
        is_wanted = packages is not None and program.language == "python" and packages.are_named_in(self._source)
        self._packages = packages if is_wanted else None
        self._process: Process | None = None

    def run(self, index: int) -> Outcome:
        """Run test `index`. If it fails in a process that has run a test before, run it again in a fresh one."""
        if self._runs_alone(index):
            self.end()
        is_used = self._process is not None
        outcome = self._run_once(index)
        return self._run_once(index) if outcome.verdict is not None and is_used else outcome

    def _runs_alone(self, index: int) -> bool:
        """Check whether a test needs a fresh process. The last one always does: an accepted program has then passed
        its hardest test with nothing but its source.
        """
        return self._options.isolate == "test" or index == self._prepared.num_tests - 1

    def _run_once(self, index: int) -> Outcome:
        outcome = self._start() if self._process is None else Outcome(None)
        if outcome.verdict is None and self._process is not None:
            given = self._prepared.input(index)
            outcome = self._process.run_test(given)
            if self._options.keeps_bytes is None:
                outcome = self._prepared.check(self._sandboxes, index, given, outcome)
        is_shared = index + 1 < self._prepared.num_tests and not self._runs_alone(index + 1)
        if outcome.verdict is None and outcome.reusable and is_shared:
            return outcome
        # The kernel reports the peak only when the process ends; what the program reported of itself may be too low.
        peak, limit = self.end(), self._prepared.limits.memory_bytes
        if outcome.verdict is None and peak > limit:
            message = f"used {peak >> 20} MB of memory, limit {limit >> 20} MB"
            outcome = replace(outcome, verdict=Verdict.MLE, message=message)
        return replace(outcome, peak_rss_bytes=max(peak, outcome.peak_rss_bytes))

    def _start(self) -> Outcome:
        """Start a process, and return the outcome of compilation."""
        sandboxes, problem, limits = self._sandboxes, self._prepared.problem, self._prepared.limits
        zygote = sandboxes.samples_with(self._packages)
        self._process, outcome = sandboxes.start(
            zygote, self._program.language, self._source, problem.entry_point, limits, len(problem.tests)
        )
        return outcome

    def end(self) -> int:
        """End the current process, if any, and return its peak memory in bytes."""
        process, self._process = self._process, None
        return process.end() if process is not None else 0


def run_tests(
    sandboxes: ThreadSandboxes,
    prepared: PreparedProblem,
    program: Program,
    options: RunOptions,
    is_wanted: Callable[[], bool] = lambda: True,
) -> Judgement:
    """Judge `program` against its problem. `is_wanted` is called before each test; False stops the judgement.

    Raises:
        ZygoteDiedError: A sandbox failed; the program must be judged again in new ones.
        GradingError: This program or problem cannot be judged here, or the judgement is no longer wanted. Another
            attempt would not help.
    """
    entry_point = prepared.problem.entry_point
    if program.language != "python" and entry_point is not None:
        return prepared.judgement(
            Verdict.FE, f"no Python function {entry_point!r}: the program is in {program.language}"
        )
    attempt = _Attempt(sandboxes, prepared, program, options)
    outcomes: list[Outcome] = []
    try:
        for index in range(prepared.num_tests):
            if not is_wanted():
                raise GradingError("the problem was forgotten before its program was judged: submit it again")
            outcomes.append(_limit_answers(attempt.run(index), outcomes, options.keeps_bytes))
            is_program = outcomes[-1].verdict not in (Verdict.CE, Verdict.FE)
            if not is_program or (outcomes[-1].verdict is not None and not options.all_tests):
                break
    except GradingError:
        attempt.end()
        raise
    return _summarise(prepared, outcomes, options)


def _limit_answers(outcome: Outcome, before: list[Outcome], keeps_bytes: int | None) -> Outcome:
    """Drop the answer from an outcome if it is not wanted. If there is no room left for it, return OLE."""
    if keeps_bytes is None or outcome.verdict is not None:
        return replace(outcome, answer=b"")
    if sum(len(other.answer) for other in before) + len(outcome.answer) > keeps_bytes:
        return replace(outcome, verdict=Verdict.OLE, answer=b"", message=f"answered more than {keeps_bytes} bytes")
    return outcome


def _summarise(prepared: PreparedProblem, outcomes: list[Outcome], options: RunOptions) -> Judgement:
    passed_tests = [outcome.verdict is None for outcome in outcomes]
    failed = passed_tests.index(False) if False in passed_tests else None
    failure = outcomes[failed] if failed is not None else None
    missing = [False] * (prepared.num_tests - len(outcomes))  # without a program, the remaining tests do not run
    answers = [outcome.answer if outcome.verdict is None else None for outcome in outcomes]
    judgement = prepared.judgement(failure.verdict or Verdict.AC if failure else Verdict.AC)
    return replace(
        judgement,
        tests_passed=len(outcomes) if failed is None else failed,
        first_failed_test=None if judgement.verdict in (Verdict.CE, Verdict.FE) else failed,
        cpu_s=round(sum(outcome.cpu_s for outcome in outcomes), 6),
        peak_rss_mb=round(max(outcome.peak_rss_bytes for outcome in outcomes) / (1 << 20), 3),
        message=failure.message if failure else "",
        passed_tests=(*passed_tests, *missing) if options.all_tests and options.keeps_bytes is None else None,
        answers=None if options.keeps_bytes is None else (*answers, *(None for _ in missing)),
    )
