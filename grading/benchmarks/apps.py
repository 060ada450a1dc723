"""APPS as problems: 10,000 coding tasks in three levels of difficulty, with standard input or a function.

Hendrycks et al. 2021, "Measuring Coding Challenge Competence With APPS", arXiv 2105.09938; MIT licence. Reads the
published `test.jsonl` and `train.jsonl`, and the folders of the original release (`question.txt`, `input_output.json`,
…). The benchmark's own grader is laxer: it also accepts answers with the right words in any order.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field

from alphamix.grading.benchmarks.records import each_record, files_of, parser, split_of
from alphamix.grading.benchmarks.rows import FETCH_ANEW, Rows
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.benchmarks.tasks import checker_for, with_starter
from alphamix.grading.errors import GradingError, UnfitError
from alphamix.grading.problems import each_of, json_value
from alphamix.grading.types import Problem, Test

SPLITS = ("test", "train")
DIFFICULTIES = ("introductory", "interview", "competition")
TIME_LIMIT_S = 4.0
"""The limit of the benchmark's own grader, for each test; the data state none."""
MEMORY_LIMIT_MB = 1024.0
"""A common limit of the sites; the data state none, and the benchmark's grader has none."""
_MOST_FILE_BYTES = 1 << 28
_FILES_OF_KEY = {
    "question": "question.txt",
    "input_output": "input_output.json",
    "solutions": "solutions.json",
    "starter_code": "starter_code.py",
}


class AppsRecord(BaseModel):
    """One row; other keys are ignored."""

    problem_id: Annotated[str, BeforeValidator(str), Field(validation_alias=AliasChoices("problem_id", "id"))]
    question: str
    input_output: str | None = None
    solutions: str | None = None
    starter_code: str | None = None
    difficulty: str | None = None


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a split in a folder, or why a row is no problem.

    Raises GradingError if a file cannot be read.
    """
    split = split_of(path, selection)
    name = f"apps/{split}"

    def is_wanted(record: AppsRecord) -> bool:
        return selection.admits(difficulty=record.difficulty)

    parse = parser(AppsRecord, lambda record: convert(record, f"{name}/{record.problem_id}"), is_wanted)
    folders = sorted(file.parent for file in path.glob(f"{split}/*/question.txt")) if path.is_dir() else []
    if folders:
        return each_of(_folder_rows(folders), parse)
    return each_record(files_of(path, f"{split}.jsonl*", f"**/{split}*.parquet"), parse)


def convert(record: AppsRecord, name: str) -> Problem:
    """Convert one record to the problem of a name. Raises GradingError, which names the key."""
    tests, function = _tests_of(record.input_output)
    starter = (record.starter_code or "").rstrip()
    return Problem(
        id=name,
        statement=with_starter(record.question.strip(), starter),
        tests=tests,
        entry_point=function if function is None or "class Solution" not in starter else f"Solution.{function}",
        prologue=starter or None,
        time_limit_s=TIME_LIMIT_S,
        memory_limit_mb=MEMORY_LIMIT_MB,
        checker=checker_for(tests),
        test_order="given",
        reference=_first_solution(record.solutions),
        difficulty=record.difficulty,
    )


def _tests_of(text: str | None) -> tuple[list[Test], str | None]:
    """Return the tests of a text as APPS and TACO have it, from short inputs to long, and the function they call."""
    if not (text or "").strip():
        raise UnfitError("input_output: is empty: leave it out, it has no tests")
    content = json_value(text or "", "input_output", dict, FETCH_ANEW)
    given, expected = content.get("inputs"), content.get("outputs")
    if not isinstance(given, list) or not isinstance(expected, list) or len(given) != len(expected):
        raise GradingError(f"input_output: inputs and outputs are no lists of one length: {FETCH_ANEW}")
    if not given:
        raise UnfitError("input_output: has no tests: leave it out")
    function = content.get("fn_name")
    tests = _text_tests(given, expected) if function is None else _call_tests(given, expected)
    return sorted(tests, key=lambda test: len(json.dumps(test.input))), function


def _first_solution(text: str | None) -> str | None:
    """Return the first of the solutions in a JSON list, if there is one."""
    solutions = json_value(text, "solutions", list, FETCH_ANEW) if text and text.strip() else []
    return next((one for one in solutions if isinstance(one, str)), None)


def _text_tests(given: Sequence[Any], expected: Sequence[Any]) -> list[Test]:
    pairs = zip(given, expected, strict=True)
    return [
        Test(input=_text(one, "inputs", at), output=_text(other, "outputs", at))
        for at, (one, other) in enumerate(pairs)
    ]


def _text(value: Any, key: str, index: int) -> str:
    """Return a text that may be given as its lines."""
    lines = value if isinstance(value, list) else [value]
    if not all(isinstance(line, str) for line in lines):
        raise GradingError(f"input_output: {key}[{index}]: is {value!r:.60}: it should be text or a list of lines")
    return "\n".join(lines)


def _call_tests(given: Sequence[Any], expected: Sequence[Any]) -> list[Test]:
    """Return the tests of a function. Results are wrapped in a list of one where all of them are."""
    for index, arguments in enumerate(given):
        if not isinstance(arguments, list):
            raise GradingError(f"input_output: inputs[{index}]: is {arguments!r:.60}: it should be a list of arguments")
        if any(isinstance(one, dict) and one and all(key.lstrip("-").isdigit() for key in one) for one in arguments):
            raise UnfitError(
                f"input_output: inputs[{index}]: has whole numbers as keys, which JSON lacks: leave it out"
            )
    is_wrapped = all(isinstance(result, list) and len(result) == 1 for result in expected)
    results = [result[0] for result in expected] if is_wrapped else expected
    return [Test(input=arguments, output=result) for arguments, result in zip(given, results, strict=True)]


def _folder_rows(folders: Sequence[Path]) -> Rows:
    """Yield a row for each folder of the original release."""
    for folder in folders:
        row: dict[str, Any] = {"problem_id": folder.name}
        try:
            for key, name in _FILES_OF_KEY.items():
                row[key] = _read(folder / name)
            about = _read(folder / "metadata.json")
            row["difficulty"] = (
                json_value(about, "metadata.json", dict, FETCH_ANEW).get("difficulty") if about else None
            )
            yield str(folder), row
        except GradingError as error:
            yield str(folder), GradingError(f"{folder}: {error}")


def _read(path: Path) -> str | None:
    if not path.is_file():
        return None
    if path.stat().st_size > _MOST_FILE_BYTES:
        raise GradingError(f"{path.name}: has more than {_MOST_FILE_BYTES:,} bytes: leave it out")
    try:
        return path.read_text(encoding="utf-8")
    except ValueError:
        raise GradingError(f"{path.name}: is not UTF-8: {FETCH_ANEW}") from None
