"""A problem prepared for judging: inputs, outputs and limits as the sandbox needs them, and the check of answers.

Inputs and outputs are encoded when they are first needed, and cached for the next program.
"""

import json
import re
import secrets
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from alphamix.grading.checkers import program as checker_program
from alphamix.grading.checkers.compare import ValueUnreadableError, accepts, accepts_value, parse_value
from alphamix.grading.judge.implied_imports import with_implied_imports
from alphamix.grading.problems import fingerprint
from alphamix.grading.programs.prologue import with_preamble
from alphamix.grading.sandbox.controller import Outcome, ProcessLimits
from alphamix.grading.sandbox.thread_sandboxes import ThreadSandboxes
from alphamix.grading.types import Judgement, Problem, Program, ProgramChecker, Verdict

_MAX_QUOTED = 80
_NONCE_BYTES = 16
_FLOAT = re.compile(rb"\d[.eE]|NaN|Infinity")
"""A float in JSON. It is also found in text, which does no harm."""


@dataclass
class PreparedProblem:
    """A problem, with caches of its inputs and outputs as bytes."""

    problem: Problem
    is_forgotten: bool = False
    """Whether its programs need not be judged any more (`Judge.forget`)."""
    _inputs: dict[int, bytes] = field(default_factory=dict)
    _outputs: dict[int, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.fingerprint = fingerprint([self.problem]).encode()
        self.limits = ProcessLimits(self.problem.time_limit_s, int(self.problem.memory_limit_mb * (1 << 20)))
        self.num_tests = len(self.problem.tests)
        self._is_forgeable = self.problem.is_forgeable

    @cached_property
    def has_floats(self) -> bool:
        """Whether a test may call the entry point with a float."""
        is_called = self.problem.entry_point is not None
        return is_called and any(_FLOAT.search(self.input(index)) for index in range(self.num_tests))

    def source(self, program: Program) -> bytes:
        """Return the source to compile: the problem's preamble, the program, the problem's epilogue."""
        preamble, epilogue = self.problem.preamble, self.problem.epilogue
        source = program.source
        if self.problem.implied_imports and program.language == "python":
            source = with_implied_imports(source)
        if preamble is not None and program.language == "python":
            source = with_preamble(preamble, source)
        if epilogue is not None:
            source += f"\n{epilogue}"
        return source.encode(errors="surrogatepass")

    def input(self, index: int) -> bytes:
        """Return the input of test `index`; a fresh nonce where the judge generates it."""
        test = self.problem.tests[index]
        if self.problem.entry_point is None and test.is_nonce:
            return secrets.token_hex(_NONCE_BYTES).encode()
        if index not in self._inputs:
            self._inputs[index] = self._encode(test.input)
        return self._inputs[index]

    def output(self, index: int) -> bytes:
        """Return the expected output of test `index`, in the plainest form that a program can write."""
        if index not in self._outputs:
            self._outputs[index] = self._encode(self.problem.tests[index].output)
        return self._outputs[index]

    def _encode(self, value: Any) -> bytes:
        text = value if self.problem.entry_point is None else json.dumps(value)
        return text.encode(errors="surrogateescape")

    def check(self, sandboxes: ThreadSandboxes, index: int, given: bytes, outcome: Outcome) -> Outcome:
        """Return `outcome`, or WA if its answer is not what test `index` expects for the input `given`.

        Raises GradingError or ZygoteDiedError if a checker program of the problem fails.
        """
        if outcome.verdict is not None:
            return outcome
        try:
            if self._accepts(sandboxes, index, given, outcome.answer):
                return outcome
        except ValueUnreadableError as error:
            return replace(outcome, verdict=Verdict.WA, message=f"the result cannot be read: {error}")
        text = outcome.answer.decode(errors="surrogateescape")
        shown = text if len(text) <= _MAX_QUOTED else f"{text[:_MAX_QUOTED]}…"
        return replace(outcome, verdict=Verdict.WA, message=f"answered {shown!r}")

    def _accepts(self, sandboxes: ThreadSandboxes, index: int, given: bytes, answer: bytes) -> bool:
        problem, test = self.problem, self.problem.tests[index]
        is_function = problem.entry_point is not None
        if test.is_nonce and not is_function:
            return answer.rstrip().endswith(given)  # whatever the program itself printed comes before it
        if answer == self.output(index) and not isinstance(problem.checker, ProgramChecker):
            return True  # every built-in checker accepts this, and parsing a long answer would cost much more
        value = parse_value(answer) if is_function else None
        if isinstance(problem.checker, ProgramChecker):
            expected = self.output(index)
            return checker_program.accepts(sandboxes, problem.checker, problem.packages, given, expected, answer)
        if is_function:
            return accepts_value(problem.checker, test.output, value)
        return accepts(problem.checker, test.output, answer.decode(errors="surrogateescape"))

    def judgement(self, verdict: Verdict, message: str = "") -> Judgement:
        """Return the judgement of a program for which no test was run."""
        return Judgement.without_tests(verdict, self.num_tests, message, forgeable=self._is_forgeable)
