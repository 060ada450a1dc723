"""Reading problems from JSON lines, and naming a set of problems by what it holds.

The format is the contract of the design ("Problems"): `id`, `statement` and `tests` are required, unknown
keys are kept under `metadata`. Tests are put in order here, from small inputs to large, unless a problem says
`"test_order": "given"`.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alphamix.grading.errors import GradingError
from alphamix.grading.types import Problem, Test


def load_problems(path: str | Path) -> list[Problem]:
    """Read all problems of a file of JSON lines.

    Raises:
        GradingError: names the file and the line, and says what to correct.

    Example:
        >>> len(alphamix.load_problems("examples/ladder/problems.jsonl"))
        40
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise GradingError(f"{path}: cannot be read ({error}): give a UTF-8 file of JSON lines") from None
    problems: list[Problem] = []
    line_of_id: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        problem = _parse(line, f"{path}, line {number}")
        if problem.id in line_of_id:
            first = line_of_id[problem.id]
            raise GradingError(
                f"{path}, line {number}: the id {problem.id!r} stands in line {first} already: "
                "rename or remove one of them"
            )
        line_of_id[problem.id] = number
        problems.append(problem)
    if not problems:
        raise GradingError(f"{path}: no problem in it: give a file with one JSON object per line")
    return problems


def fingerprint(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of all that the problems hold, in their order, whatever the file looked like."""
    digest = hashlib.sha256()
    for problem in problems:
        content = problem.model_dump(mode="json")
        del content["test_order"]  # the tests stand in it
        for key in ("prologue", "epilogue"):
            if content[key] is None:  # as before there were any, so that older runs keep their names
                del content[key]
        digest.update(json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _parse(line: str, where: str) -> Problem:
    try:
        content: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise GradingError(f"{where}: not JSON ({error}): write one JSON object per line") from None
    if not isinstance(content, dict):
        raise GradingError(f"{where}: a {type(content).__name__}, not an object: write one JSON object per line")
    known = {key: value for key, value in content.items() if key in Problem.model_fields}
    unknown = {key: value for key, value in content.items() if key not in Problem.model_fields}
    if unknown and isinstance(known.get("metadata", {}), dict):
        known["metadata"] = {**known.get("metadata", {}), **unknown}
    try:
        return _in_order(Problem.model_validate(known))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the problem"
        raise GradingError(f"{where}: {key}: {first['msg']}: correct this line") from None


def _in_order(problem: Problem) -> Problem:
    """Sort the tests behind the public ones by the length of their input, unless the file gives their order."""
    if problem.test_order == "given":
        return problem
    public, others = problem.tests[: problem.public_tests], problem.tests[problem.public_tests :]
    return problem.model_copy(update={"tests": (*public, *sorted(others, key=_size))})


def _size(test: Test) -> int:
    return len(test.input if isinstance(test.input, str) else json.dumps(test.input))
