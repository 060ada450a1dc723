"""The `ensemble` object of a request: a budget, a method of selection, and tests. Read strictly, no I/O.

    {"budget": 32, "select": "tests" | "majority" | "agreement", "tests": [{"input", "output"}], "entry_point": null,
     "time_limit_s": 2.0, "memory_limit_mb": 256, "checker": "tokens",
     "setting": "reasoning" | "tool", "tool": {"format": "openai", "calls": 8}}

Tests have the form of a problem's tests, and run in the given order; votes need only their inputs. The cost of running
the programs of a request is bounded before anything is drawn.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from alphamix.ensemble.experiment.schema import CallFormat, ToolSection
from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid
from alphamix.ensemble.serve.protocol.raw_request import NULL, RawRequest
from alphamix.ensemble.serve.protocol.request_schema import validation_failed
from alphamix.grading.sandbox.controller import MIN_IDLE_S
from alphamix.grading.types import PlainChecker, Problem, Test

Select = Literal["tests", "majority", "agreement"]

_MOST_CALLS = 32


class ToolOptions(BaseModel):
    """How Python is offered to the policies, as in `sampling.tool` of an experiment."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: CallFormat = "openai"
    calls: Annotated[int, Field(ge=1, le=_MOST_CALLS)] = ToolSection().calls


@dataclass(frozen=True, slots=True)
class BestOfLimits:
    """Limits for one best-of request, and for the number of them."""

    budget: int = 64
    """Maximum number of draws."""
    tests: int = 200
    bytes: int = 2**20
    """Maximum size of the `ensemble` object."""
    time_limit_s: float = 10.0
    """Maximum CPU seconds of one test."""
    memory_limit_mb: float = 1024.0
    total_s: float = 3600.0
    """Maximum CPU or idle seconds of all programs on all tests, if each takes all its time."""
    requests: int = 16
    """Maximum number of concurrent best-of requests."""


class _TestBody(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    input: Any
    output: Any = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    budget: Annotated[int, Field(ge=1)]
    select: Select
    tests: Annotated[list[_TestBody], Field(min_length=1)]
    entry_point: Annotated[str, Field(pattern=r"^([A-Za-z_]\w*\.)?[A-Za-z_]\w*$")] | None = None
    time_limit_s: Annotated[float, Field(gt=0)] = 2.0
    memory_limit_mb: Annotated[float, Field(gt=0)] = 256
    checker: PlainChecker = "tokens"
    setting: Literal["reasoning", "tool"] = "reasoning"
    tool: ToolOptions | None = None


@dataclass(frozen=True, slots=True)
class BestOfRequest:
    """A best-of request, read and checked."""

    budget: int
    select: Select
    problem: Problem
    """The tests and how they are run; if votes decide, outputs are empty."""
    tool: ToolOptions | None
    """How Python is offered in the setting `tool`; None in `reasoning`."""


def read_best_of(request: RawRequest, limits: BestOfLimits) -> tuple[RawRequest, BestOfRequest | None]:
    """Separate the `ensemble` object from the request that policies receive; it is None if absent.

    Raises:
        ApiError: 400; `param` names what is wrong.
    """
    raw = request.fields.get("ensemble")
    if raw is None:
        return request, None
    without = replace(request, fields={key: value for key, value in request.fields.items() if key != "ensemble"})
    if raw == NULL:
        return without, None
    if len(bytes(raw)) > limits.bytes:
        raise _wrong("", f"send at most {limits.bytes} bytes (got {len(bytes(raw))})")
    try:
        body = _Body.model_validate(from_json(bytes(raw), allow_inf_nan=False))
    except ValidationError as error:
        raise validation_failed(error, "ensemble") from None
    except ValueError as error:
        raise _wrong("", str(error)) from None
    _check_bounds(request, body, limits)
    if body.setting != "tool" and body.tool is not None:
        raise _wrong("tool", "it is of another setting: set ensemble.setting to 'tool', or leave it out")
    tool = (body.tool or ToolOptions()) if body.setting == "tool" else None
    return without, BestOfRequest(body.budget, body.select, _problem(body), tool)


def _check_bounds(request: RawRequest, body: _Body, limits: BestOfLimits) -> None:
    bounds: tuple[tuple[str, float, float], ...] = (
        ("budget", body.budget, limits.budget),
        ("tests", len(body.tests), limits.tests),
        ("time_limit_s", body.time_limit_s, limits.time_limit_s),
        ("memory_limit_mb", body.memory_limit_mb, limits.memory_limit_mb),
    )
    for name, value, limit in bounds:
        if value > limit:
            raise _wrong(name, f"send at most {limit:g} (got {value:g})")
    test_s = max(body.time_limit_s, MIN_IDLE_S)
    total_s = body.budget * len(body.tests) * test_s
    if total_s > limits.total_s:
        product = f"{body.budget} programs × {len(body.tests)} tests × {test_s:g} s are {total_s:g} s"
        raise _wrong("tests", f"{product}, over the limit of {limits.total_s:g} s: send fewer, or a lower budget")
    if request.num_prompts != 1:
        raise invalid(f"best-of takes one prompt (got {request.num_prompts}): send a request for each", param="prompt")
    if request.n > body.budget:
        raise invalid(f"n = {request.n} exceeds the budget of {body.budget}: send n ≤ ensemble.budget", param="n")


def _problem(body: _Body) -> Problem:
    """Build the problem; what each test must have depends on the method of selection and on the entry point."""
    votes, is_function = body.select != "tests", body.entry_point is not None
    tests: list[Test] = []
    for index, test in enumerate(body.tests):
        place = f"tests[{index}]"
        has_output = "output" in test.model_fields_set
        if votes and has_output:
            raise _wrong(f"{place}.output", f"{body.select!r} compares programs with each other: leave out the outputs")
        if not votes and not has_output:
            raise _wrong(f"{place}.output", "it is missing: send the output of a correct program")
        if is_function and not isinstance(test.input, list):
            raise _wrong(f"{place}.input", "send a list of arguments, since entry_point is set")
        if not is_function and not isinstance(test.input, str):
            raise _wrong(f"{place}.input", "send text, since entry_point is not set")
        if not is_function and not votes and not isinstance(test.output, str):
            raise _wrong(f"{place}.output", "send text, since entry_point is not set")
        tests.append(Test(input=test.input, output=test.output if has_output else None if is_function else ""))
    return Problem(
        id="request",
        statement="",
        tests=tuple(tests),
        entry_point=body.entry_point,
        time_limit_s=body.time_limit_s,
        memory_limit_mb=body.memory_limit_mb,
        checker=body.checker,
        test_order="given",
    )


def _wrong(place: str, reason: str) -> ApiError:
    param = f"ensemble.{place}" if place else "ensemble"
    return invalid(f"the parameter {param!r} is wrong: {reason}", param=param)
