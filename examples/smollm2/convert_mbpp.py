"""Turn lines of MBPP into problems of alphamix: `assert f(args) == value` becomes a test of one function.

MBPP: Austin et al. 2021, "Program Synthesis with Large Language Models", arXiv 2108.07732; CC BY 4.0. Nothing
is executed here: arguments and values are read as Python literals and must mean the same in JSON, else the
problem is skipped and counted. So a set, a dictionary with keys that are no strings, an infinity, or a tuple
among the *arguments* (JSON would hand the function a list) all make a problem unfit; a tuple as the *value*
is compared as a list.
"""

import argparse
import ast
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

HOW_TO_ANSWER = "Write the Python function in one ```python code block."


class UnfitError(ValueError):
    """An MBPP problem that cannot be told as calls with JSON values: the message says why."""


def convert(record: dict[str, Any]) -> dict[str, Any]:
    """Convert one MBPP record (`text`, `task_id`, `test_setup_code`, `test_list`).

    Raises:
        UnfitError: it cannot be told as calls of one function with JSON arguments and values.
    """
    if record["test_setup_code"].strip():
        raise UnfitError("needs set-up code")
    calls = [read_assert(line) for line in record["test_list"]]
    names = {name for name, _, _ in calls}
    if len(names) != 1:
        raise UnfitError("asserts call different functions")
    (name,) = names
    tests = [{"input": arguments, "output": value} for _, arguments, value in calls]
    # Tests are nested from small inputs to large; the sort keeps MBPP's order among equals.
    tests.sort(key=lambda test: len(json.dumps(test["input"])))
    return {
        "id": f"mbpp/{record['task_id']}",
        "statement": statement(record["text"], name, tests[0]),
        "tests": tests,
        "entry_point": name,
        "public_tests": 1,
    }


def statement(text: str, name: str, example: dict[str, Any]) -> str:
    """Say what to write, the function's name, and one call that shows the types of its arguments."""
    call = f"{name}({', '.join(map(repr, example['input']))})"
    returned = f"`{call}` returns `{example['output']!r}`"
    return f"{text.strip()}\n\nThe function is called `{name}`. For example, {returned}.\n\n{HOW_TO_ANSWER}"


def read_assert(line: str) -> tuple[str, list[Any], Any]:
    """Read `assert f(args) == value` into the name, the arguments and the value.

    Raises:
        UnfitError: the line is something else, or its literals have no equal in JSON.
    """
    try:
        (node,) = ast.parse(line.strip()).body
    except (SyntaxError, ValueError):
        raise UnfitError("not one assert") from None
    match node:
        case ast.Assert(
            test=ast.Compare(
                left=ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]),
                ops=[ast.Eq()],
                comparators=[value],
            )
        ):
            return (
                name,
                [json_value(literal(node)) for node in arguments],
                json_value(literal(value), value_side=True),
            )
        case _:
            raise UnfitError("not of the form f(args) == value")


def literal(node: ast.expr) -> object:
    """Evaluate a Python literal, and nothing else."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise UnfitError("not a literal") from None


def json_value(value: object, *, value_side: bool = False) -> Any:
    """Give the JSON value that means the same; on the value's side a tuple is compared as a list."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            if math.isfinite(value):
                return value
            raise UnfitError("a number that JSON lacks")
        case list():
            return [json_value(item, value_side=value_side) for item in value]
        case tuple() if value_side:
            return [json_value(item, value_side=value_side) for item in value]
        case tuple():
            raise UnfitError("a tuple among the arguments")
        case dict() if all(isinstance(key, str) for key in value):
            return {key: json_value(item, value_side=value_side) for key, item in value.items()}
        case dict():
            raise UnfitError("a dictionary with keys that are no strings")
        case _:
            raise UnfitError(f"a {type(value).__name__}, which JSON lacks")


def convert_all(lines: Iterable[str], ids: Sequence[int], skipped: Counter[str]) -> Iterator[dict[str, Any]]:
    """Convert all lines, or those with the given task ids in their order; count why others were skipped."""
    records = [json.loads(line) for line in lines if line.strip()]
    if ids:
        by_id = {record["task_id"]: record for record in records}
        records = [by_id[task_id] for task_id in ids]
    for record in records:
        try:
            yield convert(record)
        except UnfitError as reason:
            skipped[str(reason)] += 1


def main() -> None:
    """Convert a file; say aloud what did not fit."""
    parser = argparse.ArgumentParser(description="Convert MBPP to alphamix problems (JSON lines).")
    parser.add_argument("mbpp", type=Path, help="MBPP's JSON lines (mbpp.jsonl)")
    parser.add_argument("output", type=Path, help="where to write the problems")
    parser.add_argument("--ids", type=int, nargs="+", default=[], help="only these task ids")
    arguments = parser.parse_args()
    skipped = Counter[str]()
    with arguments.mbpp.open(encoding="utf-8") as lines:
        problems = list(convert_all(lines, arguments.ids, skipped))
    with arguments.output.open("w", encoding="utf-8") as output:
        output.writelines(json.dumps(problem, ensure_ascii=False) + "\n" for problem in problems)
    print(f"converted {len(problems)}, skipped {skipped.total()}", file=sys.stderr)
    for reason, count in skipped.most_common():
        print(f"  {count:4d}  {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()
