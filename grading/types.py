"""The words of grading: problems, verdicts, failure classes and judgements. Data only.

This package takes a problem and a program, and never hears of a policy.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Verdict(StrEnum):
    """The judge's word on one sample."""

    AC = "AC"
    """accepted"""
    WA = "WA"
    """wrong answer"""
    TLE = "TLE"
    """CPU time limit"""
    ILE = "ILE"
    """idle limit: wall time without CPU use"""
    MLE = "MLE"
    """memory limit"""
    OLE = "OLE"
    """output limit"""
    RE = "RE"
    """run-time error"""
    CE = "CE"
    """does not compile"""
    FE = "FE"
    """format error: no program in the completion, or no such entry point"""
    IE = "IE"
    """the judge failed; says nothing about the sample, which is owed again"""


class Failure(StrEnum):
    """Why a sample was not accepted, by its first failing test in the nested order."""

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
"""A choice, not a law: the paper does not publish its mapping. Reports name the mapping they used."""


def failure_of(verdict: Verdict, finish_reason: str | None) -> Failure | None:
    """Name the failure class of a graded sample; None when it was accepted (or the judge failed).

    `exhausted` goes before all others: a completion cut off by its token limit that holds no accepted
    program failed for want of tokens, whatever its torso would have done.
    """
    if verdict in (Verdict.AC, Verdict.IE):
        return None
    return Failure.EXHAUSTED if finish_reason == "length" else FAILURE_OF_VERDICT[verdict]


Language = Literal["python", "cpp"]


@dataclass(frozen=True, slots=True)
class Program:
    """The text of a program, and the language that it is written in."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    source: str
    language: Language = "python"


class Test(BaseModel):
    """One input with its expected output: text for programs, JSON values for functions. Both None: the judge makes
    up a nonce (see `Problem.epilogue`).
    """

    __test__ = False  # not a pytest class
    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Any
    output: Any

    @property
    def is_nonce(self) -> bool:
        """Whether the judge makes up what to read and what to write."""
        return self.input is None and self.output is None


class FloatTolerance(BaseModel):
    """Numbers match within `abs`, or within `rel` of the expected value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    abs: Annotated[float, Field(ge=0)] = 1e-6
    rel: Annotated[float, Field(ge=0)] = 1e-6


class FloatChecker(BaseModel):
    """Compare token by token (or value by value), numbers with tolerance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    floats: FloatTolerance


class ProgramChecker(BaseModel):
    """Ask a program (see `checker_program` for what it reads)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: Program


PlainChecker = Literal["tokens", "exact", "lines"] | FloatChecker
Checker = PlainChecker | ProgramChecker


class Problem(BaseModel):
    """A task with its statement and its tests, which run in their order.

    Example:
        >>> problem = alphamix.Problem(id="one", statement="Print 1.", tests=[{"input": "", "output": "1"}])
        >>> problem.time_limit_s
        2.0
    """

    # Written as Infinity or NaN, as `json` has them: null would be another test.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    id: Annotated[str, Field(min_length=1)]
    statement: str
    tests: Annotated[tuple[Test, ...], Field(min_length=1)]
    entry_point: Annotated[str, Field(pattern=r"^([A-Za-z_]\w*\.)?[A-Za-z_]\w*$")] | None = None
    """None: reads standard input, writes standard output. Else `name` or `Solution.name`, called with the
    arguments.
    """
    prologue: str | None = None
    """The beginning of a Python program that ends in the head of a function, which answers may go on from: what they
    hold is put behind it (see `grading.programs.prologue`). The statement shows it.
    """
    epilogue: str | None = None
    """Code appended to the program, for assertions that cannot be turned into calls. A test without input and output
    gives it a nonce on standard input, fresh for every run, which it writes to the end of standard output once all
    assertions hold. It shares a process with the program, which can therefore forge it.
    """
    time_limit_s: Annotated[float, Field(gt=0)] = 2.0
    """CPU seconds per test."""
    memory_limit_mb: Annotated[float, Field(gt=0)] = 256
    checker: Checker = "tokens"
    public_tests: Annotated[int, Field(ge=0)] = 0
    """How many tests, from the first on, the statement shows."""
    test_order: Literal["size", "given"] = "size"
    """What a file of problems says of its tests: to be run from small inputs to large (behind the public ones), or as
    they stand.
    """
    difficulty: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tests_fit_entry_point(self) -> Self:
        for index, test in enumerate(self.tests):
            if self.entry_point is None and test.is_nonce and self.epilogue is not None:
                continue
            if self.entry_point is None and not (isinstance(test.input, str) and isinstance(test.output, str)):
                raise ValueError(f"tests[{index}] needs text as input and output, since there is no entry_point")
            if self.entry_point is not None and not isinstance(test.input, list | tuple):
                raise ValueError(f"tests[{index}].input must be a list of arguments, since there is an entry_point")
        return self

    @property
    def is_forgeable(self) -> bool:
        """Whether a program that knows the protocol could have itself accepted: it could answer a nonce itself."""
        return self.entry_point is None and any(test.is_nonce for test in self.tests)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What running one program against one problem's tests showed.

    Example:
        >>> problem = alphamix.Problem(id="one", statement="Print 1.", tests=[{"input": "", "output": "1"}])
        >>> (judgement,) = alphamix.judge(problem, ["print(2)"])
        >>> judgement.verdict.value, judgement.num_tests
        ('WA', 1)
    """

    verdict: Verdict
    tests_passed: int
    """Length of the prefix of tests that passed."""
    num_tests: int
    first_failed_test: int | None
    cpu_s: float
    """CPU seconds over all tests that ran, read from outside the program."""
    peak_rss_mb: float
    message: str = ""
    forgeable: bool = False
    """Whether the problem is one whose acceptance a program can forge (`Problem.is_forgeable`)."""
    passed_tests: tuple[bool, ...] | None = None
    """[T] which tests passed, where the judge was asked to run them all; None where it stops at the first failure."""
    answers: tuple[bytes | None, ...] | None = None
    """[T] what the program answered to each input, None where it failed; only where it was run (`Judge.run`)."""
