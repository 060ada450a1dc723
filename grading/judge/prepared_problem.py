"""A problem made ready for judging: its inputs and limits as the sandbox takes them, its answers compared.

Inputs and outputs are encoded when they are first needed, and kept for the next program.
"""

import json
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

from alphamix.grading.checkers import program as checker_program
from alphamix.grading.checkers.compare import ValueUnreadableError, accepts, accepts_value, parse_value
from alphamix.grading.problems import fingerprint
from alphamix.grading.sandbox.controller import Outcome, ProcessLimits
from alphamix.grading.sandbox.workbench import Bench
from alphamix.grading.types import Judgement, Problem, Program, ProgramChecker, Verdict

_MAX_QUOTED = 80
_NONCE_BYTES = 16


@dataclass
class PreparedProblem:
    """A problem with its inputs and outputs as bytes."""

    problem: Problem
    is_forgotten: bool = False
    """Nobody wants to know any more what becomes of its programs."""
    _inputs: dict[int, bytes] = field(default_factory=dict)
    _outputs: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint([self.problem]).encode()
        self.limits = ProcessLimits(self.problem.time_limit_s, int(self.problem.memory_limit_mb * (1 << 20)))
        self.num_tests = len(self.problem.tests)
        self._is_forgeable = self.problem.is_forgeable

    def source(self, program: Program) -> bytes:
        """Return what is compiled: the program, and the epilogue that the problem appends."""
        epilogue = f"\n{self.problem.epilogue}" if self.problem.epilogue is not None else ""
        return (program.source + epilogue).encode(errors="surrogatepass")

    def input(self, index: int) -> bytes:
        """Return what test `index` gives the program to read; a fresh nonce where the judge makes it up."""
        test = self.problem.tests[index]
        if self.problem.entry_point is None and test.is_nonce:
            return secrets.token_hex(_NONCE_BYTES).encode()
        if index not in self._inputs:
            self._inputs[index] = self._encode(test.input)
        return self._inputs[index]

    def output(self, index: int) -> bytes:
        """Return what a program that answers test `index` in the plainest form writes."""
        if index not in self._outputs:
            self._outputs[index] = self._encode(self.problem.tests[index].output)
        return self._outputs[index]

    def _encode(self, value: Any) -> bytes:
        text = value if self.problem.entry_point is None else json.dumps(value)
        return text.encode(errors="surrogateescape")

    def check(self, bench: Bench, index: int, given: bytes, outcome: Outcome) -> Outcome:
        """Turn an outcome that ended well, but with another answer than test `index` expects for `given`, into WA.

        Raises GradingError or ZygoteDiedError where a checker program of the problem's own fails.
        """
        if outcome.verdict is not None:
            return outcome
        try:
            if self._accepts(bench, index, given, outcome.answer):
                return outcome
        except ValueUnreadableError as error:
            return replace(outcome, verdict=Verdict.WA, message=f"the result cannot be read: {error}")
        text = outcome.answer.decode(errors="surrogateescape")
        shown = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
        return replace(outcome, verdict=Verdict.WA, message=f"answered {shown!r}")

    def _accepts(self, bench: Bench, index: int, given: bytes, answer: bytes) -> bool:
        problem, test = self.problem, self.problem.tests[index]
        is_function = problem.entry_point is not None
        if test.is_nonce and not is_function:
            return answer.rstrip().endswith(given)  # before it stands what the program itself printed
        if answer == self.output(index) and not isinstance(problem.checker, ProgramChecker):
            return True  # by every checker, and for much less than it takes to read a long answer
        value = parse_value(answer) if is_function else None
        if isinstance(problem.checker, ProgramChecker):
            return checker_program.accepts(bench, problem.checker, given, self.output(index), answer)
        if is_function:
            return accepts_value(problem.checker, test.output, value)
        return accepts(problem.checker, test.output, answer.decode(errors="surrogateescape"))

    def judgement(self, verdict: Verdict, message: str = "") -> Judgement:
        """Judge a program of which no test was run."""
        return Judgement(verdict, 0, self.num_tests, None, 0.0, 0.0, message, self._is_forgeable)
