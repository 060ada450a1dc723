"""Reading problems from JSON lines, and fingerprinting a set of problems by its content.

`docs/grading.md` specifies the format. Only `id`, `statement` and `tests` are required. Unknown keys are kept under
`metadata`; one that is nearly the name of a key is refused. Tests are sorted here from small inputs to large, unless a
problem says `"test_order": "given"`.
"""

import difflib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from alphamix.grading.errors import GradingError
from alphamix.grading.types import MAX_DIGITS, Problem, ProgramChecker, Test
from alphamix.text_lines import open_plain

Row = TypeVar("Row")
_JSON_KINDS = {dict: "an object", list: "a list", object: "a value"}
_MISSPELT = 0.85
"""Likeness from which an unknown key is taken for a known one: `time_limit` is `time_limit_s`, `uid` is not `id`."""


def load_problems(path: str | Path) -> list[Problem]:
    """Return all problems of a file of JSON lines.

    Raises:
        GradingError: names the file and the line, and says what to correct.

    Example:
        >>> len(alphamix.load_problems("examples/ladder/problems.jsonl"))
        40
    """
    return all_problems(each_problem(path, parse_problem))


def each_problem(path: str | Path, parse: Callable[[str, str], Problem]) -> Iterator[Problem | GradingError]:
    """Yield what `parse` makes of each line and its place in words, or why it is no problem; no two share an id.

    Raises GradingError if the file cannot be read, or is empty.
    """
    return each_of(((f"{path}, line {number}", line) for number, line in read_lines(path, "problems")), parse)


def each_of(
    rows: Iterable[tuple[str, Row | GradingError]], parse: Callable[[Row, str], Problem | None]
) -> Iterator[Problem | GradingError]:
    """Yield what `parse` makes of each row and its place in words, or why it is no problem; no two share an id.

    Args:
        rows: each with its place; an error stands for a row that cannot be read.
        parse: returns None for a row that is not wanted.
    """
    where_of_id: dict[str, str] = {}
    for where, row in rows:
        try:
            if isinstance(row, GradingError):
                raise row
            problem = parse(row, where)
            if problem is None:
                continue
            if (first := where_of_id.setdefault(problem.id, where)) != where:
                raise GradingError(f"{where}: {first} has the same id {problem.id!r}: rename or remove one of them")
            yield problem
        except GradingError as error:
            yield error


def all_problems(parsed: Iterable[Problem | GradingError]) -> list[Problem]:
    """Return the problems of `each_problem`. Raises the first error among them."""
    problems: list[Problem] = []
    for problem in parsed:
        if isinstance(problem, GradingError):
            raise problem
        problems.append(problem)
    return problems


def read_lines(path: str | Path, contents: str) -> list[tuple[int, str]]:
    """Return the lines of a file that are not blank, with their numbers, counted from 1.

    Raises GradingError if the file cannot be read, or is empty; `contents` says what it should hold.
    """
    try:
        with open_plain(Path(path)) as file:
            lines = file.read().decode().split("\n")
    except (OSError, ValueError, TypeError) as error:  # ValueError: not UTF-8, or no path; TypeError: no path either
        cause = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise GradingError(f"{path}: cannot be read ({cause}): give a UTF-8 file of JSON lines") from None
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise GradingError(f"{path}: has no {contents}: give a file with one JSON object per line")
    return numbered


def invalid_line(error: ValidationError, where: str, whole: str) -> GradingError:
    """Return the error for a line that fails validation; `whole` names the object if no single key is at fault."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or whole
    return GradingError(f"{where}: {key}: {first['msg']}: correct this line")


def fingerprint(problems: Iterable[Problem]) -> str:
    """Return the SHA-256 of the problems' content, in their order; how the file was formatted does not matter."""
    digest = hashlib.sha256()
    for problem in problems:
        content = problem.model_dump(mode="json", exclude={"reference", "levels"})  # which no verdict depends on
        del content["test_order"]  # the order of `tests` already reflects it
        for key in ("preamble", "packages", "prologue", "epilogue", "implied_imports"):
            if not content[key]:  # these keys were added later; older runs keep their fingerprints
                del content[key]
        if isinstance(problem.checker, ProgramChecker) and problem.checker.interface == "documents":
            content["checker"] = {"program": content["checker"]["program"]}
        digest.update(json.dumps(content, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def json_value(text: str | bytes, where: str, kind: type, cure: str) -> Any:
    """Return the value of a JSON text, which must be of a kind: `dict`, `list`, or `object` for any.

    Raises GradingError, which begins with `where` and ends with `cure`.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        if "digits" in str(error):
            raise GradingError(
                f"{where}: a number has more than {MAX_DIGITS:,} digits: shorten it, or make it a text"
            ) from None
        raise GradingError(f"{where}: not JSON ({error}): {cure}") from None
    if not isinstance(value, kind):
        raise GradingError(f"{where}: a {type(value).__name__}, not {_JSON_KINDS[kind]}: {cure}")
    return value


def parse_problem(line: str, where: str) -> Problem:
    """Return the problem of one line. Raises GradingError, which begins with `where`."""
    content = json_value(line, where, dict, "write one JSON object per line")
    unknown = {key: content.pop(key) for key in list(content) if key not in Problem.model_fields}
    _refuse_misspelt(unknown, [key for key in Problem.model_fields if key not in content], where)
    if unknown and isinstance(content.setdefault("metadata", {}), dict):
        content["metadata"] |= unknown
    try:
        return _sort_tests(Problem(**content))
    except GradingError as error:
        raise GradingError(f"{where}: {error}") from None


def _refuse_misspelt(unknown: Iterable[str], absent: Sequence[str], where: str) -> None:
    """Refuse an unknown key that is nearly one that the problem lacks, since it would change nothing there."""
    for key in unknown:
        for meant in difflib.get_close_matches(key, absent, n=1, cutoff=_MISSPELT):
            raise GradingError(
                f"{where}: unknown key {key!r}: did you mean {meant!r}? If not, put it into the problem's metadata"
            )


def _sort_tests(problem: Problem) -> Problem:
    """Sort the tests after the public ones by the length of their input, unless the file gives their order."""
    if problem.test_order == "given":
        return problem
    public, others = problem.tests[: problem.public_tests], problem.tests[problem.public_tests :]
    return problem.model_copy(update={"tests": (*public, *sorted(others, key=_size))})


def _size(test: Test) -> int:
    return len(test.input if isinstance(test.input, str) else json.dumps(test.input))
