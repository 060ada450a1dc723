"""Judging one program in one sandbox: tests in their nested order, up to the first that fails.

A failure in a process that has already run a test counts only when a fresh process fails as well, so that
what an earlier test left behind is never held against a program. Expected outputs are compared here and go
nowhere.
"""

import json
from dataclasses import dataclass, field, replace

from grading.checkers import accepts, accepts_value, parse_value
from grading.problems import fingerprint
from grading.sandbox.controller import Limits, Outcome, Program
from grading.sandbox.zygote_handle import Zygote
from grading.types import Judgement, Problem, Verdict

_MAX_QUOTED = 80


@dataclass
class PreparedProblem:
    """A problem with its inputs as bytes, made when they are first needed and kept for the next program."""

    problem: Problem
    _inputs: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint([self.problem]).encode()
        self.limits = Limits(self.problem.time_limit_s, int(self.problem.memory_limit_mb * (1 << 20)))

    def input(self, index: int) -> bytes:
        """Return what test `index` gives the program to read."""
        if index not in self._inputs:
            value = self.problem.tests[index].input
            text = value if self.problem.entry_point is None else json.dumps(value)
            self._inputs[index] = text.encode(errors="surrogateescape")
        return self._inputs[index]

    def check(self, index: int, outcome: Outcome) -> Outcome:
        """Turn an outcome that ended well, but with another answer than test `index` expects, into WA."""
        if outcome.verdict is not None:
            return outcome
        expected = self.problem.tests[index].output
        text = outcome.answer.decode(errors="surrogateescape")
        if self.problem.entry_point is None:
            if accepts(self.problem.checker, expected, text):
                return outcome
        else:
            try:
                if accepts_value(self.problem.checker, expected, parse_value(outcome.answer)):
                    return outcome
            except ValueError as error:
                return replace(outcome, verdict=Verdict.WA, message=f"the result cannot be read: {error}")
        shown = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
        return replace(outcome, verdict=Verdict.WA, message=f"answered {shown!r}")


class _Attempt:
    """Programs' processes, one after the other, for one source."""

    def __init__(self, zygote: Zygote, prepared: PreparedProblem, source: bytes) -> None:
        self._zygote = zygote
        self._prepared = prepared
        self._source = source
        self._program: Program | None = None

    def run(self, index: int) -> tuple[Outcome, bool]:
        """Run test `index`; also say whether it was the first of its process."""
        prepared, is_first = self._prepared, self._program is None
        if self._program is None:
            problem = prepared.problem
            self._program = Program(
                self._zygote, self._source, problem.entry_point, prepared.limits, len(problem.tests)
            )
            compiled = self._program.compile()
            if compiled.verdict is not None:
                return compiled, True
        return prepared.check(index, self._program.run_test(prepared.input(index))), is_first

    def end(self) -> int:
        """End the present process, if any, and return its peak memory in bytes."""
        program, self._program = self._program, None
        return program.end() if program is not None else 0


def examine(zygote: Zygote, prepared: PreparedProblem, source: bytes) -> Judgement:
    """Judge `source` against its problem. Raises ZygoteDiedError, after which the zygote is of no more
    use.
    """
    num_tests = len(prepared.problem.tests)
    attempt = _Attempt(zygote, prepared, source)
    passed, cpu_s, peak_rss_bytes = 0, 0.0, 0
    while passed < num_tests:
        outcome, is_first = attempt.run(passed)
        is_last = passed == num_tests - 1
        if outcome.verdict is not None or is_last or not outcome.reusable:
            # Only now is the peak known from outside; what the program said of itself may be less.
            peak = attempt.end()
            if outcome.verdict is None and peak > prepared.limits.memory_bytes:
                message = f"used {peak >> 20} MB of memory, limit {prepared.limits.memory_bytes >> 20} MB"
                outcome = replace(outcome, verdict=Verdict.MLE, message=message)
            outcome = replace(outcome, peak_rss_bytes=max(peak, outcome.peak_rss_bytes))
        if outcome.verdict is not None and not is_first:
            continue  # once more, in a fresh process
        cpu_s += outcome.cpu_s
        peak_rss_bytes = max(peak_rss_bytes, outcome.peak_rss_bytes)
        if outcome.verdict is not None:
            ran = outcome.verdict not in (Verdict.CE, Verdict.FE)
            first_failed = passed if ran else None
            return _judgement(outcome.verdict, passed, num_tests, first_failed, cpu_s, peak_rss_bytes, outcome.message)
        passed += 1
    return _judgement(Verdict.AC, passed, num_tests, None, cpu_s, peak_rss_bytes)


def _judgement(
    verdict: Verdict,
    passed: int,
    num_tests: int,
    first_failed: int | None,
    cpu_s: float,
    peak_rss_bytes: int,
    message: str = "",
) -> Judgement:
    peak_rss_mb = round(peak_rss_bytes / (1 << 20), 3)
    return Judgement(verdict, passed, num_tests, first_failed, round(cpu_s, 6), peak_rss_mb, message)
