"""Data types of grading: problems, programs, verdicts, failure classes and judgements."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from alphamix.grading.errors import GradingError
from alphamix.grading.own_code import fault_in
from alphamix.wording import nearest, requirement, shown

MAX_DIGITS = 100_000
"""Digits of the longest whole number in a problem. Python reads 4,300 by default: the time grows quadratically."""
if 0 < sys.get_int_max_str_digits() < MAX_DIGITS:
    sys.set_int_max_str_digits(MAX_DIGITS)  # wherever problems are handled, because JSON fails at longer numbers


class Verdict(StrEnum):
    """The judge's decision on one sample."""

    AC = "AC"
    """accepted"""
    WA = "WA"
    """wrong answer"""
    TLE = "TLE"
    """CPU time limit"""
    ILE = "ILE"
    """idle limit: too much wall time without CPU use"""
    MLE = "MLE"
    """memory limit"""
    OLE = "OLE"
    """output limit"""
    RE = "RE"
    """run-time error"""
    CE = "CE"
    """does not compile"""
    FE = "FE"
    """format error: no program in the completion, or the entry point is missing"""
    IE = "IE"
    """internal error: the judge failed, which says nothing about the sample; it stays owed"""


class Failure(StrEnum):
    """The class of a sample that was not accepted, from its first failing test in the nested order."""

    OPTIMISATION = "optimisation"
    CORRECTNESS = "correctness"
    FORMAT = "format"
    EXHAUSTED = "exhausted"


FAILURE_MAPPING_NAME = "standard"
FAILURE_OF_VERDICT: dict[Verdict, Failure] = {
    Verdict.TLE: Failure.OPTIMISATION,
    Verdict.MLE: Failure.OPTIMISATION,
    Verdict.WA: Failure.CORRECTNESS,
    Verdict.RE: Failure.CORRECTNESS,
    Verdict.OLE: Failure.CORRECTNESS,
    Verdict.ILE: Failure.CORRECTNESS,
    Verdict.FE: Failure.FORMAT,
    Verdict.CE: Failure.FORMAT,
}
"""The mapping of verdicts to failure classes. The paper does not publish its own, so every report names this one."""


def failure_of(verdict: Verdict, finish_reason: str | None) -> Failure | None:
    """Return the failure class of a graded sample; None if it was accepted or the judge failed.

    `exhausted` takes precedence: if a completion was cut off by its token limit and was not accepted, it failed for
    lack of tokens, whatever its incomplete program does.
    """
    if verdict in (Verdict.AC, Verdict.IE):
        return None
    return Failure.EXHAUSTED if finish_reason == "length" else FAILURE_OF_VERDICT[verdict]


Language = Literal["python", "cpp", "rust"]


@dataclass(frozen=True, slots=True)
class Program:
    """Source text of a program, with its language."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: str
    language: Language = "python"


class Test(BaseModel, frozen=True, extra="forbid"):
    """One input with its expected output: text for programs, JSON values for functions.

    If both are None, the judge generates a nonce (see `Problem.epilogue`).
    """

    __test__ = False  # not a pytest class

    input: Any
    output: Any

    @property
    def is_nonce(self) -> bool:
        """Whether the judge generates the input and the expected output."""
        return self.input is None and self.output is None


class FloatTolerance(BaseModel, frozen=True, extra="forbid"):
    """Absolute and relative tolerance: numbers match within `abs`, or within `rel` times the expected value."""

    abs: Annotated[float, Field(ge=0)] = 1e-6
    rel: Annotated[float, Field(ge=0)] = 1e-6


class FloatChecker(BaseModel, frozen=True, extra="forbid"):
    """Checker that compares token by token (or value by value), and numbers with a tolerance."""

    floats: FloatTolerance


class TokenRules(BaseModel, frozen=True, extra="forbid"):
    """How the words of two texts are compared."""

    ignore_case: bool = False
    keep_spaces: bool = False
    """Whether the white space between words must be the same as well."""
    floats: FloatTolerance | None = None
    """Tolerance for numbers; None compares them as text."""


class TokensChecker(BaseModel, frozen=True, extra="forbid"):
    """Checker that compares token by token, with rules of its own."""

    tokens: TokenRules


class ProgramChecker(BaseModel, frozen=True, extra="forbid"):
    """Checker that runs a program (`checkers.program` describes what it reads)."""

    program: Program
    interface: Literal["documents", "kattis", "testlib"] = "documents"
    """How it is given what it checks, and says what it finds: our own way, or that of a judge it was written for."""
    arguments: tuple[str, ...] = ()
    """Arguments of its command, after the names of files; not for `documents`."""


PlainChecker = Literal["tokens", "exact", "lines"] | FloatChecker | TokensChecker
Checker = PlainChecker | ProgramChecker


class Problem(BaseModel):
    """A task: a statement, and tests that run in the given order.

    Raises:
        GradingError: a value does not hold, in one line about the first such value.

    Example:
        >>> problem = alphamix.Problem(id="one", statement="Print 1.", tests=[{"input": "", "output": "1"}])
        >>> problem.time_limit_s
        2.0
    """

    # Infinity and NaN are written as the `json` module does; null would be a different test.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    id: Annotated[str, Field(min_length=1)]
    statement: str
    tests: Annotated[tuple[Test, ...], Field(min_length=1)]
    entry_point: Annotated[str, Field(pattern=r"^([A-Za-z_]\w*\.)?[A-Za-z_]\w*$")] | None = None
    """Function that is called with the arguments, as `name` or `Solution.name`. If None, the program reads standard
    input and writes standard output.
    """
    preamble: str | None = None
    """Python source that stands before every Python program, such as imports and helper classes."""
    packages: tuple[str, ...] = ()
    """Installed distributions that programs and a checker in Python may import, such as `numpy`, with those that they
    depend on.
    """
    prologue: str | None = None
    """Start of a Python program, up to the head of a function, that the statement shows and an answer may continue;
    `programs.prologue` puts the two together.
    """
    epilogue: str | None = None
    """Code appended to the program, for assertions that cannot be converted to calls. A test without input and output
    passes it a nonce on standard input, fresh for every run, which it writes to the end of standard output if all
    assertions hold. It shares a process with the program, which can therefore forge it.
    """
    time_limit_s: Annotated[float, Field(gt=0)] = 2.0
    """CPU seconds per test."""
    memory_limit_mb: Annotated[float, Field(gt=0)] = 256
    checker: Checker = "tokens"
    public_tests: Annotated[int, Field(ge=0)] = 0
    """Number of tests, from the first on, that the statement shows."""
    test_order: Literal["size", "given"] = "size"
    """Order in which a file's tests run: after the public ones from small inputs to large, or as given."""
    levels: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Names of nested sets of tests: each has this number of tests, from the first on. No verdict depends on them."""
    implied_imports: bool = False
    """Whether a Python program may use common names of the standard library, such as `deque` or `gcd`, without
    importing them, and nest 50,000 calls, as under the grader of LiveCodeBench.
    """
    reference: str | None = None
    """Code that solves the problem, for `alphamix problems verify`. It never reaches a model or a program."""
    difficulty: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            id: str,  # noqa: A002
            statement: str,
            tests: Sequence[Test | Mapping[str, Any]],
            entry_point: str | None = None,
            preamble: str | None = None,
            packages: Sequence[str] = (),
            prologue: str | None = None,
            epilogue: str | None = None,
            time_limit_s: float = 2.0,
            memory_limit_mb: float = 256,
            checker: Checker | Mapping[str, Any] = "tokens",
            public_tests: int = 0,
            test_order: Literal["size", "given"] = "size",
            levels: Mapping[str, int] = ...,
            implied_imports: bool = False,
            reference: str | None = None,
            difficulty: str | None = None,
            metadata: Mapping[str, Any] = ...,
        ) -> None: ...

    else:

        def __init__(self, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as invalid:
                raise GradingError(_first_fault(invalid)) from None

    @model_validator(mode="after")
    def _tests_fit_entry_point(self) -> Self:
        for index, test in enumerate(self.tests):
            if self.entry_point is None and test.is_nonce and self.epilogue is not None:
                continue
            if self.entry_point is None and not (isinstance(test.input, str) and isinstance(test.output, str)):
                raise ValueError(f"tests[{index}] needs text as input and output, because there is no entry_point")
            if self.entry_point is not None and not isinstance(test.input, list | tuple):
                raise ValueError(f"tests[{index}].input must be a list of arguments, because there is an entry_point")
        return self

    @model_validator(mode="after")
    def _levels_are_nested(self) -> Self:
        sizes = list(self.levels.values())
        if sizes != sorted(set(sizes)) or any(size > len(self.tests) for size in sizes):
            raise ValueError(f"levels are {self.levels}: they should grow, up to the {len(self.tests)} tests")
        if sizes and self.test_order != "given":
            raise ValueError('levels need the tests in their order: add "test_order": "given"')
        return self

    @model_validator(mode="after")
    def _own_code_can_work(self) -> Self:
        code = {"preamble": self.preamble, "epilogue": self.epilogue}
        if isinstance(self.checker, ProgramChecker) and self.checker.program.language == "python":
            code["checker"] = self.checker.program.source
        for key, source in code.items():
            if source is not None and (fault := fault_in(source, has_packages=bool(self.packages))):
                raise ValueError(f"the {key} of {self.id!r} {fault}")
        return self

    @property
    def is_forgeable(self) -> bool:
        """Whether a program that knows the protocol could pass without solving the task, by echoing a nonce."""
        return self.entry_point is None and any(test.is_nonce for test in self.tests)


_SHOULD = {
    "checker": 'be "tokens", "exact", "lines", {"floats": {"abs": 1e-6, "rel": 1e-6}}, '
    '{"tokens": {"ignore_case": true}} or {"program": {"source": "…"}}',
    "entry_point": "name a function, such as solve or Solution.solve",
}
"""What the value of a key should do, where pydantic names patterns and each member of a union."""


def _first_fault(invalid: ValidationError) -> str:
    """Return what is wrong with a problem, and what to do, in one line."""
    fault = invalid.errors(include_url=False)[0]
    location = [str(part) for part in fault["loc"]]
    if location and location[0] in _SHOULD:
        return f"{location[0]} is {shown(fault['input'])}: it should {_SHOULD[location[0]]}"
    key = ".".join(location) or "the problem"
    if fault["type"] == "missing":
        return f"{key} is missing: add it"
    if fault["type"] == "extra_forbidden":
        known = Problem.model_fields if len(location) == 1 else Test.model_fields
        return f"unknown key {key!r}: {nearest(location[-1], list(known)).rstrip('.')}"
    if fault["type"] == "value_error":
        return str(fault["msg"]).removeprefix("Value error, ")
    return f"{key} is {shown(fault['input'])}: it should {requirement(fault)}"


_MISSING_MODULE = re.compile(r"ModuleNotFoundError: No module named '([A-Za-z_]\w{0,63})[.']", re.ASCII)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Result of running one program against the tests of one problem.

    Example:
        >>> problem = alphamix.Problem(id="one", statement="Print 1.", tests=[{"input": "", "output": "1"}])
        >>> (judgement,) = alphamix.judge(problem, ["print(2)"])
        >>> judgement.verdict.value, judgement.num_tests
        ('WA', 1)
    """

    verdict: Verdict
    tests_passed: int
    """Length of the longest prefix of tests that all passed."""
    num_tests: int
    first_failed_test: int | None
    cpu_s: float
    """CPU seconds over all tests that ran, measured from outside the program."""
    peak_rss_mb: float
    message: str = ""
    forgeable: bool = False
    """Whether a program could forge its acceptance by this problem (`Problem.is_forgeable`)."""
    passed_tests: tuple[bool, ...] | None = None
    """[T] Whether each test passed, if the judge runs all tests; None if it stops at the first failure."""
    answers: tuple[bytes | None, ...] | None = None
    """[T] The program's answer to each input, None where it failed. Only `Judge.run` fills this."""

    @property
    def missing_module(self) -> str | None:
        """The module for want of which the program failed, as far as its message tells."""
        found = _MISSING_MODULE.match(self.message) if self.verdict is Verdict.RE else None
        return found[1] if found else None

    @classmethod
    def without_tests(cls, verdict: Verdict, num_tests: int, message: str = "", *, forgeable: bool = False) -> Self:
        """Return the judgement of a program for which no test was run."""
        return cls(verdict, 0, num_tests, None, 0.0, 0.0, message, forgeable)
