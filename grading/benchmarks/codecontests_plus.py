"""CodeContests+ as problems: the tasks of CodeContests with new tests, and a checker for each.

Wang et al. 2025, "CodeContests+", arXiv 2506.05817; CC BY 4.0. Reads the published Parquet files, a row at a time.
Checkers are C++ programs that include `testlib.h`, which is not part of the data and is needed beside the files
(https://github.com/MikeMirzayanov/testlib, MIT). They run in the sandbox.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator

from alphamix.grading.benchmarks.records import each_record, files_of, parser
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError, UnfitError
from alphamix.grading.types import Checker, Problem, Program, ProgramChecker, Test

RELEASES = ("1x", "2x", "3x", "4x", "5x")
_TESTLIB = "testlib.h"
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]testlib\.h[>"].*$', re.MULTILINE)
_MOST_TESTLIB_BYTES = 1 << 20


class _Case(BaseModel):
    input: str
    output: str


class _Submission(BaseModel):
    language: str
    code: str


class CodeContestsPlusRecord(BaseModel):
    """One row; other keys are ignored."""

    source: str
    id: Annotated[str, BeforeValidator(str)]
    title: str
    description: str
    time_limit: float
    """Milliseconds."""
    memory_limit: float
    """Megabytes."""
    test_cases: list[_Case] | None = None
    checker: str | None = None
    correct_submissions: list[_Submission] | None = None


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a release in a folder, or why a row is no problem.

    Raises GradingError if a file cannot be read, or `testlib.h` is missing.
    """
    release = selection.release or RELEASES[0]
    if release not in RELEASES:
        raise GradingError(f"release {release!r} is unknown: name one of {', '.join(RELEASES)}")
    testlib = _testlib(path)
    files = files_of(path, f"ccplus_{release}/*.parquet", "*.parquet", "*.jsonl*")

    def is_wanted(record: CodeContestsPlusRecord) -> bool:
        return selection.admits(platform=record.source.lower())

    return each_record(files, parser(CodeContestsPlusRecord, lambda record: convert(record, testlib), is_wanted))


def convert(record: CodeContestsPlusRecord, testlib: str) -> Problem:
    """Convert one record; `testlib` is the content of testlib.h. Raises GradingError, which names the key."""
    cases = sorted(record.test_cases or (), key=lambda case: len(case.input))
    if not cases:
        raise UnfitError("test_cases: is empty: leave it out")
    submissions = [one.code for one in record.correct_submissions or () if one.language.lower() in ("py3", "python3")]
    return Problem(
        id=f"codecontests-plus/{record.source.lower()}/{record.id}",
        statement=f"{record.title}\n\n{record.description.strip()}",
        tests=[Test(input=case.input, output=case.output) for case in cases],
        time_limit_s=record.time_limit / 1000,
        memory_limit_mb=record.memory_limit,
        checker=_checker(record.checker, testlib),
        test_order="given",
        reference=submissions[0] if submissions else None,
        metadata={"title": record.title, "platform": record.source.lower()},
    )


def _checker(source: str | None, testlib: str) -> Checker:
    if not (source or "").strip():
        return "tokens"
    source = _INCLUDE.sub(lambda _: testlib, source or "", count=1)
    return ProgramChecker(program=Program(source, "cpp"), interface="testlib")


def _testlib(path: Path) -> str:
    """Return testlib.h from the folder of the files, or one above."""
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder.parent):
        file = place / _TESTLIB
        if file.is_file() and file.stat().st_size <= _MOST_TESTLIB_BYTES:
            return file.read_text(encoding="utf-8")
    raise GradingError(
        f"{folder} has no {_TESTLIB}, which the checkers include: put it there "
        "(https://github.com/MikeMirzayanov/testlib)"
    )
