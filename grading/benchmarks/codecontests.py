"""CodeContests as problems: contest tasks of six sites, with public, hidden and generated tests.

Li et al. 2022, "Competition-Level Code Generation with AlphaCode", arXiv 2203.07814; CC BY 4.0. Reads the published
Parquet files. The levels are the public tests, then with the hidden ones, then with those that were generated. Answers
are compared as the benchmark's own grader does: by words in any case, numbers within 10⁻⁵. It has no checkers, so a
task with several right answers accepts one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel

from alphamix.grading.benchmarks.records import each_record, files_of, parser, split_of
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError, UnfitError
from alphamix.grading.types import FloatTolerance, Problem, Test, TokenRules, TokensChecker

FILES = {
    "test": "data/test-00000-of-00001-9c49eeff30aacaa8.parquet",
    "valid": "data/valid-00000-of-00001-5e672c5751f060d3.parquet",
    "train": "data/train-*.parquet",
}
"""Published files of each split; those of the last have 39 names."""
DIFFICULTIES = ("unknown", "easy", "medium", "hard", "harder", "hardest", "external", *"ABCDEFGHIJKLMNOPQRSTUV")
"""Names of the numbers that the data have; the letters are those of Codeforces."""
PLATFORMS = ("unknown", "codechef", "codeforces", "hackerearth", "codejam", "atcoder", "aizu")
TIME_LIMIT_S = 10.0
"""The limit of the benchmark's own grader, where the data state none."""
MEMORY_LIMIT_MB = 1024.0
"""A common limit of the sites, where the data state none."""
_CHECKER = TokensChecker(tokens=TokenRules(ignore_case=True, floats=FloatTolerance(abs=1e-5, rel=0.0)))
_PYTHON, _CPP = 3, 2


class _Tests(BaseModel):
    input: list[str] = []
    output: list[str] = []


class _Duration(BaseModel):
    seconds: float | None = None
    nanos: float | None = None


class _Solutions(BaseModel):
    language: list[int] = []
    solution: list[str] = []


class CodeContestsRecord(BaseModel):
    """One row; other keys are ignored."""

    name: str
    description: str
    public_tests: _Tests | None = None
    private_tests: _Tests | None = None
    generated_tests: _Tests | None = None
    source: int = 0
    difficulty: int = 0
    solutions: _Solutions | None = None
    time_limit: _Duration | None = None
    memory_limit_bytes: int | None = None
    input_file: str | None = None
    output_file: str | None = None


class _Part(NamedTuple):
    name: str
    tests: Sequence[Test]


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a split in a folder, or why a row is no problem.

    Raises GradingError if a file cannot be read.
    """

    def is_wanted(record: CodeContestsRecord) -> bool:
        return selection.admits(
            difficulty=_name(DIFFICULTIES, record.difficulty), platform=_name(PLATFORMS, record.source)
        )

    split = split_of(path, selection)
    files = files_of(path, f"data/{split}-*.parquet", f"{split}*.parquet", f"{split}*.jsonl*")
    return each_record(files, parser(CodeContestsRecord, convert, is_wanted))


def convert(record: CodeContestsRecord) -> Problem:
    """Convert one record. Raises GradingError, which names the key."""
    if record.input_file or record.output_file:
        raise UnfitError("input_file: the task reads and writes files, which programs cannot do here: leave it out")
    parts = [
        _Part(name, _tests(getattr(record, f"{name}_tests"), f"{name}_tests"))
        for name in ("public", "private", "generated")
    ]
    levels: dict[str, int] = {}
    tests: list[Test] = []
    for part in parts:
        tests += sorted(part.tests, key=lambda test: len(test.input)) if part.name != "public" else part.tests
        if part.tests:
            levels[part.name] = len(tests)
    if not tests:
        raise UnfitError("has no tests: leave it out")
    memory = record.memory_limit_bytes or 0
    return Problem(
        id=f"codecontests/{_name(PLATFORMS, record.source)}/{record.name}",
        statement=record.description.strip(),
        tests=tests,
        time_limit_s=_seconds(record.time_limit) or TIME_LIMIT_S,
        memory_limit_mb=memory / (1 << 20) if memory > 0 else MEMORY_LIMIT_MB,
        checker=_CHECKER,
        public_tests=len(parts[0].tests),
        test_order="given",
        levels=levels if len(levels) > 1 else {},
        reference=_reference(record.solutions or _Solutions()),
        difficulty=_name(DIFFICULTIES, record.difficulty),
        metadata={"platform": _name(PLATFORMS, record.source)},
    )


def _tests(part: _Tests | None, where: str) -> list[Test]:
    if part is None:
        return []
    if len(part.input) != len(part.output):
        raise GradingError(f"{where}: has {len(part.input)} inputs and {len(part.output)} outputs: fetch the file anew")
    return [Test(input=given, output=expected) for given, expected in zip(part.input, part.output, strict=True)]


def _seconds(limit: _Duration | None) -> float:
    return 0.0 if limit is None else (limit.seconds or 0.0) + (limit.nanos or 0.0) / 1e9


def _reference(solutions: _Solutions) -> str | None:
    pairs = list(zip(solutions.language, solutions.solution, strict=False))
    return next((code for wanted in (_PYTHON, _CPP) for language, code in pairs if language == wanted), None)


def _name(names: Sequence[str], number: int) -> str:
    return names[number] if 0 <= number < len(names) else "unknown"
