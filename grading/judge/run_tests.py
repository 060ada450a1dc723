"""Judging one program in one sandbox: run its tests in their nested order, up to the first that fails.

Every test runs in a fresh process, unless the program is proven to carry nothing from one test to the next
(`confined.stateless`). Then its tests share a process, which saves most of the time. A used process may still be faster
than a fresh one, because it has compiled its regular expressions, say, and has memory at hand; or it may be short of
memory. So it is used only while it is small, and a test that comes close to its time limit or exceeds a limit is run
again in a fresh process.

Answers are compared on this side; expected outputs never enter the sandbox of the program.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.prepared_problem import PreparedProblem
from alphamix.grading.sandbox.controller import Outcome, Process
from alphamix.grading.sandbox.packages import packages_for
from alphamix.grading.sandbox.thread_sandboxes import ThreadSandboxes
from alphamix.grading.types import Judgement, Program, Verdict

_MAX_SAVED_S = 0.1
"""More CPU seconds than a used process can save in a test: warm bytecode of `stateless.MAX_SOURCE_BYTES`, and
_MAX_USED_BYTES of memory, which the kernel hands out at 1 to 3 µs per 4 KiB."""
_MAX_USED_BYTES = 16 << 20
"""Peak memory up to which a process is used again."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the tests of a program are run."""

    all_tests: bool = False
    """Whether to continue after the first failure."""
    keeps_bytes: int | None = None
    """If set, answers are kept rather than compared, up to this size over all tests."""
    packages: tuple[str, ...] = ()
    """Distributions that programs may import, beside those of their problem."""
    may_share: bool = True
    """Whether the tests of a program that is proven stateless share a process."""


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
        distributions = (*options.packages, *prepared.problem.packages) if program.language == "python" else ()
        self._packages = packages_for(self._source, distributions)
        self._may_share = options.may_share
        self._process: Process | None = None

    def run(self, index: int) -> Outcome:
        """Run test `index`: in the process of earlier tests if that can decide, else in a fresh one."""
        if self._process is not None:
            outcome = self._run_here(index)
            if self._decides(outcome):
                return outcome
            self.end()
        outcome = self._run_afresh(index)
        if outcome.refuted:
            self.end()
            outcome = self._run_afresh(index)
        return outcome

    def _decides(self, outcome: Outcome) -> bool:
        """Check whether a fresh process could not come to another result than a used one."""
        has_time_left = outcome.cpu_s + _MAX_SAVED_S < self._prepared.limits.cpu_s
        return outcome.verdict in (None, Verdict.WA, Verdict.RE) and has_time_left and not outcome.refuted

    def _run_afresh(self, index: int) -> Outcome:
        """Run a test in a process that is kept for the next test if the program is proven stateless."""
        sandboxes, prepared = self._sandboxes, self._prepared
        self._process, outcome = sandboxes.start(
            sandboxes.samples(self._packages),
            self._program.language,
            self._source,
            prepared.problem.entry_point,
            prepared.limits,
            prepared.num_tests - index if self._may_share else 1,
            prepared.has_floats,
        )
        self._may_share &= self._process is not None and self._process.is_stateless
        return self._run_here(index) if outcome.verdict is None else self._conclude(outcome)

    def _run_here(self, index: int) -> Outcome:
        if self._process is None:
            raise RuntimeError("no process")
        given = self._prepared.input(index)
        outcome = self._process.run_test(given)
        self._may_share &= not outcome.refuted
        is_kept = self._may_share and outcome.reusable and outcome.peak_rss_bytes <= _MAX_USED_BYTES
        if self._options.keeps_bytes is None:
            outcome = self._prepared.check(self._sandboxes, index, given, outcome)
            outcome.answer = b""  # up to 16 MiB
        return outcome if is_kept else self._conclude(outcome)

    def _conclude(self, outcome: Outcome) -> Outcome:
        """End the process. Only then the kernel reports its peak; what a program reported of itself may be too low."""
        peak, limit = self.end(), self._prepared.limits.memory_bytes
        if outcome.verdict is None and peak > limit:
            message = f"used {peak >> 20} MB of memory, limit {limit >> 20} MB"
            outcome = replace(outcome, verdict=Verdict.MLE, message=message)
        return replace(outcome, peak_rss_bytes=max(peak, outcome.peak_rss_bytes))

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
        attempt.end()
    except GradingError:
        attempt.end()
        raise
    return _summarise(prepared, outcomes, options)


def _limit_answers(outcome: Outcome, before: list[Outcome], keeps_bytes: int | None) -> Outcome:
    """Drop the answer from an outcome if it is not wanted. If there is no room left for it, return OLE."""
    if keeps_bytes is None or outcome.verdict is not None:
        return replace(outcome, answer=b"") if outcome.answer else outcome
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
