"""What a client says under `ensemble` of a request: a budget, a way to select, and tests. Read strictly, no I/O.

    {"budget": 32, "select": "tests" | "majority" | "agreement", "tests": [{"input", "output"}], "entry_point": null,
     "time_limit_s": 2.0, "memory_limit_mb": 256, "checker": "tokens"}

Tests have the form of a problem's, and run in the order in which they stand. To vote takes their inputs alone. What the
programs of a request may cost is bounded before anything is drawn.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid
from alphamix.ensemble.serve.protocol.raw_request import NULL, RawRequest
from alphamix.grading.sandbox.controller import MIN_IDLE_S
from alphamix.grading.types import PlainChecker, Problem, Test

Select = Literal["tests", "majority", "agreement"]
_LONGEST_SHOWN = 80


@dataclass(frozen=True, slots=True)
class BestOfLimits:
    """What one request may ask for, and how many requests at once."""

    budget: int = 64
    """Choices that are drawn."""
    tests: int = 200
    bytes: int = 2**20
    """Of all that is said under `ensemble`."""
    time_limit_s: float = 10.0
    """CPU seconds of one test."""
    memory_limit_mb: float = 1024.0
    total_s: float = 3600.0
    """CPU or idle seconds of all programs on all tests, if each takes all of its time."""
    requests: int = 16
    """Under way at once."""


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


@dataclass(frozen=True, slots=True)
class BestOfRequest:
    """What is wanted."""

    budget: int
    select: Select
    problem: Problem
    """The tests and how they are run; where votes decide, outputs are empty."""


def read_best_of(request: RawRequest, limits: BestOfLimits) -> tuple[RawRequest, BestOfRequest | None]:
    """Split a request in what policies are asked, and what is to be done with their answers.

    Raises:
        ApiError: 400; `param` names what is wrong.
    """
    raw = request.fields.get("ensemble")
    if raw is None:
        return request, None
    asked = replace(request, fields={key: value for key, value in request.fields.items() if key != "ensemble"})
    if raw == NULL:
        return asked, None
    if len(bytes(raw)) > limits.bytes:
        raise _wrong("", f"send {limits.bytes} bytes at most (got {len(bytes(raw))})")
    try:
        body = _Body.model_validate(from_json(bytes(raw), allow_inf_nan=False))
    except ValidationError as error:
        raise _refusal(error) from None
    except ValueError as error:
        raise _wrong("", str(error)) from None
    _check_bounds(request, body, limits)
    return asked, BestOfRequest(body.budget, body.select, _problem(body))


def _check_bounds(request: RawRequest, body: _Body, limits: BestOfLimits) -> None:
    bounds: tuple[tuple[str, float, float], ...] = (
        ("budget", body.budget, limits.budget),
        ("tests", len(body.tests), limits.tests),
        ("time_limit_s", body.time_limit_s, limits.time_limit_s),
        ("memory_limit_mb", body.memory_limit_mb, limits.memory_limit_mb),
    )
    for name, value, most in bounds:
        if value > most:
            raise _wrong(name, f"send {most:g} at most (got {value:g})")
    test_s = max(body.time_limit_s, MIN_IDLE_S)
    total_s = body.budget * len(body.tests) * test_s
    if total_s > limits.total_s:
        what = f"{body.budget} programs × {len(body.tests)} tests × {test_s:g} s are {total_s:g} s"
        raise _wrong("tests", f"{what}, and {limits.total_s:g} s is the most; send fewer, or a lower budget")
    if request.num_prompts != 1:
        raise invalid(f"best-of takes one prompt at a time (got {request.num_prompts})", param="prompt")
    if request.n > body.budget:
        raise invalid(f"n = {request.n} of a budget of {body.budget}: send n ≤ ensemble.budget", param="n")


def _problem(body: _Body) -> Problem:
    """Make a problem of the tests; what each must hold depends on the way to select, and on the entry point."""
    votes, is_function = body.select != "tests", body.entry_point is not None
    tests: list[Test] = []
    for index, test in enumerate(body.tests):
        place = f"tests[{index}]"
        has_output = "output" in test.model_fields_set
        if votes and has_output:
            raise _wrong(f"{place}.output", f"{body.select!r} compares programs with each other: leave outputs out")
        if not votes and not has_output:
            raise _wrong(f"{place}.output", "it is missing: send what a right program answers")
        if is_function and not isinstance(test.input, list):
            raise _wrong(f"{place}.input", "send a list of arguments, since there is an entry_point")
        if not is_function and not isinstance(test.input, str):
            raise _wrong(f"{place}.input", "send text, since there is no entry_point")
        if not is_function and not votes and not isinstance(test.output, str):
            raise _wrong(f"{place}.output", "send text, since there is no entry_point")
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


def _refusal(error: ValidationError) -> ApiError:
    first = error.errors(include_url=False, include_context=False)[0]
    place = first["loc"][:1] if first["loc"][:1] == ("checker",) else first["loc"]  # what follows names our own types
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    shown = repr(cast("object", first["input"]))
    shown = shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"
    got = "" if first["type"] == "missing" else f" (got {shown})"
    return _wrong("".join(steps).removeprefix("."), f"{first['msg']}{got}")


def _wrong(place: str, reason: str) -> ApiError:
    param = f"ensemble.{place}" if place else "ensemble"
    return invalid(f"the parameter {param!r} is wrong: {reason}", param=param)
