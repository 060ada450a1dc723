"""Tests from Python assertions, as MBPP and HumanEval state them. Assertions are parsed here, never run.

All tests of a problem take the first of three forms that fits every assertion:

- `call`: `assert f(args) == value`, with literals that JSON represents exactly. The judge calls `f` and compares.
- `expression`: the left side is sent as text and evaluated in the program's process; only its value comes back to be
  compared. Arguments may then be what JSON lacks (tuples, sets, keys that are not strings) or come from set-up code.
- `nonce`: the assertions run in the program's process, which can therefore forge them (`Problem.is_forgeable`).

In the first two forms the expected value never enters the sandbox. Values are compared as JSON, as everywhere in this
package: a tuple equals a list, but 1 does not equal True. A difference equal to the tolerance is accepted.
"""

import ast
import builtins
import json
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from alphamix.grading.types import Checker, FloatChecker, FloatTolerance, Problem, Test

Form = Literal["call", "expression", "nonce"]

_EVALUATE = "evaluate_expression"
_EVALUATOR = f"def {_EVALUATE}(expression):\n    return eval(expression)\n"
_REPEAT_NONCE = "import sys\nsys.stdout.write(sys.stdin.read())\n"
_COLLECTIONS: dict[str, Callable[[Any], object]] = {"tuple": tuple, "list": list, "sorted": sorted, "set": set}
"""Calls that may wrap a literal on the right side, as in `== set([1, 2])`."""


class Tests(NamedTuple):
    """The fields of a `Problem` that represent its assertions."""

    tests: tuple[Test, ...]
    entry_point: str | None
    epilogue: str | None
    checker: Checker
    time_limit_s: float = 2.0
    memory_limit_mb: float = 256


class _UnfitError(Exception):
    """The assertion cannot be judged by comparing one value outside the sandbox."""


class _Assertion(NamedTuple):
    """An expression, and the JSON value that it must have."""

    left: ast.expr
    form: str
    """Template around the left side `{}`, which sorts its value or makes it a bool so that JSON can represent it."""
    expected: Any
    tolerance: FloatTolerance | None = None


def convert(assertions: Sequence[str], function: str, *, alias: str | None = None, set_up: str = "") -> Tests:
    """Convert assertions about a function to tests, ordered from short inputs to long.

    Args:
        assertions: One `assert` statement each.
        function: The name under which the program defines the function.
        alias: The name by which the assertions call it, if that differs.
        set_up: Code that must run after the program and before the assertions.

    Raises:
        SyntaxError: An assertion is not valid Python.
    """
    called, needs_set_up = alias or function, bool(set_up.strip())
    before = (f"{set_up.strip()}\n" if needs_set_up else "") + (f"{alias} = {function}\n" if alias else "")
    try:
        parsed = [_parse(assertion, called) for assertion in assertions if not _is_idle(assertion)]
        checker = _common_checker(parsed)
    except _UnfitError:
        return nonce(before + "\n".join(assertion.strip() for assertion in assertions))
    inputs = [_arguments(assertion, called) for assertion in parsed]
    entry_point, epilogue = function, None
    if needs_set_up or None in inputs:
        inputs = [[assertion.form.format(ast.unparse(assertion.left))] for assertion in parsed]
        entry_point, epilogue = _EVALUATE, before + _EVALUATOR
    tests = [Test(input=given, output=assertion.expected) for given, assertion in zip(inputs, parsed, strict=True)]
    tests.sort(key=lambda test: len(json.dumps(test.input)))
    return Tests(tuple(tests), entry_point, epilogue, checker)


def nonce(code: str) -> Tests:
    """Return the single test that runs `code` after the program and passes if the end of `code` is reached."""
    return Tests((Test(input=None, output=None),), None, f"{code.rstrip()}\n{_REPEAT_NONCE}", "tokens")


def form_of(problem: Problem) -> Form:
    """Return the form that the tests of a problem have."""
    if problem.is_forgeable:
        return "nonce"
    return "expression" if problem.entry_point == _EVALUATE else "call"


def function_under_test(assertion: str) -> str:
    """Return the name of the outermost call; a built-in only if nothing else is called. Raises SyntaxError."""
    calls = [node.func for node in ast.walk(ast.parse(assertion.strip())) if isinstance(node, ast.Call)]
    names = [function.id for function in calls if isinstance(function, ast.Name)]
    if not names:
        raise SyntaxError(f"no function is called in {assertion!r}")
    return next((name for name in names if not hasattr(builtins, name)), names[0])


def _parse(assertion: str, function: str) -> _Assertion:
    match ast.parse(assertion.strip()).body:
        case [ast.Assert(test=test)]:
            parsed = _parse_test(test, function)
        case _:
            raise _UnfitError
    if any(isinstance(node, ast.Compare) for node in ast.walk(parsed.left)):
        raise _UnfitError  # an object of the program could define the outcome of its own comparison
    return parsed


def _parse_test(test: ast.expr, function: str) -> _Assertion:
    match test:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            return _equality(left, right)
        case ast.Compare(left=left, ops=[ast.Is()], comparators=[ast.Constant(value=None | bool() as value)]):
            return _Assertion(left, "{}", value)
        case ast.Compare(
            left=ast.Call(func=ast.Name(id="abs"), args=[ast.BinOp(left=left, op=ast.Sub(), right=right)]),
            ops=[ast.Lt() | ast.LtE()],
            comparators=[bound],
        ):
            return _closeness(left, right, FloatTolerance(abs=_number(bound), rel=0.0))
        case ast.Call(func=ast.Attribute(value=ast.Name(id="math"), attr="isclose"), args=[left, right]):
            given = {keyword.arg: _number(keyword.value) for keyword in test.keywords}
            return _closeness(
                left, right, FloatTolerance(abs=given.get("abs_tol", 0.0), rel=given.get("rel_tol", 1e-9))
            )
        case ast.Call(func=ast.Name(id=name)) if name == function:
            return _Assertion(test, "bool({})", True)
        case ast.UnaryOp(op=ast.Not(), operand=ast.Call(func=ast.Name(id=name)) as call) if name == function:
            return _Assertion(call, "bool({})", False)
        case _:
            raise _UnfitError


def _equality(left: ast.expr, right: ast.expr) -> _Assertion:
    expected, form = _literal(right), "{}"
    try:
        if isinstance(expected, set):
            form, expected = "sorted({})", sorted(expected)
        elif isinstance(expected, dict) and not all(isinstance(key, str) for key in expected):
            form, expected = "sorted(dict.items({}))", sorted(expected.items())
    except TypeError:  # the elements have no common order
        raise _UnfitError from None
    return _Assertion(left, form, _json_value(expected, with_tuples=True))


def _closeness(left: ast.expr, right: ast.expr, tolerance: FloatTolerance) -> _Assertion:
    return _Assertion(left, "{}", _number(right), tolerance)


def _arguments(assertion: _Assertion, function: str) -> list[Any] | None:
    """Return the arguments if the left side is a plain call whose arguments JSON can represent, else None."""
    match assertion:
        case _Assertion(left=ast.Call(func=ast.Name(id=name), args=nodes, keywords=[]), form="{}") if name == function:
            try:
                return [_json_value(_literal(node), with_tuples=False) for node in nodes]
            except _UnfitError:
                return None
        case _:
            return None


def _is_idle(assertion: str) -> bool:
    """Check whether an assertion holds for every program, like HumanEval's `assert True`."""
    match ast.parse(assertion.strip()).body:
        case [ast.Assert(test=ast.Constant(value=value))]:
            return bool(value)
        case _:
            return False


def _common_checker(assertions: Sequence[_Assertion]) -> Checker:
    """Return the checker for all assertions. A problem has only one, so their tolerances must agree."""
    tolerances = [assertion.tolerance for assertion in assertions]
    if not tolerances or any(tolerance != tolerances[0] for tolerance in tolerances):
        raise _UnfitError
    return "tokens" if tolerances[0] is None else FloatChecker(floats=tolerances[0])


def _literal(node: ast.expr) -> Any:
    """Evaluate a literal, or a literal inside `tuple`, `list`, `sorted` or `set`, and nothing else."""
    match node:
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _COLLECTIONS:
            try:
                return _COLLECTIONS[name](_literal(inner))
            except TypeError:
                raise _UnfitError from None
        case _:
            try:
                return ast.literal_eval(node)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                raise _UnfitError from None


def _number(node: ast.expr) -> float:
    value = _literal(node)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _UnfitError
    return value


def _json_value(value: object, *, with_tuples: bool) -> Any:
    """Return the equivalent JSON value; `with_tuples` converts tuples to lists."""
    match value:
        case None | bool() | int() | str():
            return value
        case float() if math.isfinite(value):
            return value
        case list():
            return [_json_value(item, with_tuples=with_tuples) for item in value]
        case tuple() if with_tuples:
            return [_json_value(item, with_tuples=True) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _json_value(item, with_tuples=with_tuples) for key, item in value.items()}
        case _:
            raise _UnfitError
