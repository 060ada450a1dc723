"""LiveCodeBench as problems: dated contest tasks of AtCoder, LeetCode and Codeforces, with all of their tests.

Jain et al. 2024, "LiveCodeBench", arXiv 2403.07974. Reads the published files `test.jsonl`, `test2.jsonl`, … of
`code_generation_lite`, and the same rows as Parquet, a row at a time: the files have gigabytes. Hidden tests are packed
as a pickle, which is never loaded: its one text is taken out of it, and anything else in it is refused.

Verdicts can differ from those of the benchmark's own grader: a limit counts CPU time and not wall time, and a problem
whose answers have decimal fractions is judged with a tolerance, as contests do.
"""

import base64
import binascii
import pickletools
import re
import zlib
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator

from alphamix.grading.benchmarks.records import each_record, parser
from alphamix.grading.benchmarks.rows import FETCH_ANEW
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.benchmarks.tasks import checker_for, with_starter
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import json_value
from alphamix.grading.types import Problem, Test

TIME_LIMIT_S = 6.0
"""The limit of the benchmark's own grader, for each test; the data state none."""
MEMORY_LIMIT_MB = 1024.0
"""The largest limit that is common on the three platforms; the data state none, and the benchmark's grader has none."""
FILES = ("test.jsonl", *(f"test{number}.jsonl" for number in range(2, 7)))
"""Published files: a release adds one to those before it."""
MOST_TEST_BYTES = 1 << 30
"""Bound of the unpacked tests of one problem. A few kilobytes can unpack to as much as a disk holds."""

_IDS_OF_FAULT = {
    "has several right answers, of which the tests accept one": (
        *("abc311_c", "abc326_d", "abc327_b", "abc333_e", "abc343_a", "abc343_e", "abc362_c", "arc185_c"),
        *("find-words-containing-character", "find-the-peaks", "generate-binary-strings-without-adjacent-zeros"),
    ),
    "is interactive": ("abc337_e", "abc355_e"),
    "has wrong tests": ("abc350_c", "arc189_a", "apply-operations-to-make-string-empty", "most-frequent-ids"),
}
ERRATA = {name: fault for fault, names in _IDS_OF_FAULT.items() for name in names}
"""Faults that the benchmark's authors list, by the id of a problem or, for LeetCode, by its title in lower case."""

Platform = Literal["atcoder", "codeforces", "leetcode"]
Difficulty = Literal["easy", "medium", "hard"]


class LiveCodeBenchRecord(BaseModel):
    """One row; other keys are ignored."""

    question_id: Annotated[str, BeforeValidator(str)]
    question_title: str
    question_content: str
    platform: Platform
    difficulty: Difficulty
    contest_date: datetime
    starter_code: str
    public_test_cases: str
    private_test_cases: str
    metadata: str = "{}"

    @property
    def day(self) -> date:
        """The day of the contest."""
        return self.contest_date.date()

    @property
    def erratum(self) -> str | None:
        """What is known to be wrong with this problem."""
        title = "-".join(self.question_title.lower().split())
        return ERRATA.get(self.question_id) or (ERRATA.get(title) if self.platform == "leetcode" else None)


def convert(record: LiveCodeBenchRecord) -> Problem:
    """Return the problem of a record. Raises GradingError, which names the key."""
    function = json_value(record.metadata, "metadata", dict, FETCH_ANEW).get("func_name")
    public = _cases(record.public_test_cases, "public_test_cases")
    private = _cases(unpacked(record.private_test_cases, "private_test_cases"), "private_test_cases")
    convert_test = _text_test if function is None else _call_test
    tests = [convert_test(case) for case in (*public, *sorted(private, key=lambda case: len(case["input"])))]
    starter = record.starter_code.rstrip()
    metadata = {"title": record.question_title, "platform": record.platform, "date": record.day.isoformat()}
    if record.erratum:
        metadata["erratum"] = record.erratum
    return Problem(
        id=record.question_id,
        statement=with_starter(record.question_content.strip(), starter),
        tests=tests,
        entry_point=None if function is None else f"Solution.{function}",
        prologue=starter or None,
        time_limit_s=TIME_LIMIT_S,
        memory_limit_mb=MEMORY_LIMIT_MB,
        checker=checker_for(tests),
        public_tests=len(public),
        test_order="given",
        levels={"public": len(public), "all": len(tests)} if 0 < len(public) < len(tests) else {},
        implied_imports=function is None,
        difficulty=record.difficulty,
        metadata=metadata,
    )


def unpacked(text: str, where: str) -> str:
    """Return the JSON text of private tests, which is plain or compressed in a pickle of one text.

    Nothing is unpickled: a pickle that holds more than one text could run code. Raises GradingError.
    """
    if text.lstrip().startswith("["):
        return text
    try:
        packed = base64.b64decode(text, validate=True)
        unzip = zlib.decompressobj()
        pickled = unzip.decompress(packed, MOST_TEST_BYTES)
    except (binascii.Error, zlib.error) as error:
        raise GradingError(f"{where}: neither JSON nor packed as the benchmark does ({error}): fetch it anew") from None
    if unzip.unconsumed_tail:
        raise GradingError(f"{where}: unpacks to more than {MOST_TEST_BYTES:,} bytes: leave this problem out")
    return _text_of_pickle(pickled, where)


_HARMLESS = {"PROTO", "FRAME", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "STOP"}


def _text_of_pickle(pickled: bytes, where: str) -> str:
    try:
        operations = [(operation.name, argument) for operation, argument, _ in pickletools.genops(pickled)]
    except ValueError as error:
        raise GradingError(f"{where}: a damaged pickle ({error}): fetch it anew") from None
    texts = [str(argument) for name, argument in operations if name.endswith("UNICODE")]
    others = {name for name, _ in operations if not name.endswith("UNICODE")} - _HARMLESS
    if others or len(texts) != 1:
        raise GradingError(
            f"{where}: a pickle of more than one text ({', '.join(sorted(others)) or f'{len(texts)} texts'}), "
            "which may run code: use the published files"
        )
    return texts[0]


def _cases(text: str, where: str) -> list[dict[str, str]]:
    cases = json_value(text, where, list, FETCH_ANEW)
    for number, case in enumerate(cases):
        if not isinstance(case, dict) or not all(isinstance(case.get(key), str) for key in ("input", "output")):
            raise GradingError(f"{where}[{number}]: no object with the texts input and output: fetch it anew")
    return cases


def _text_test(case: dict[str, str]) -> Test:
    return Test(input=case["input"], output=case["output"])


def _call_test(case: dict[str, str]) -> Test:
    """Each line of the input is one argument, and the output one value, as JSON."""
    lines = [line for line in case["input"].split("\n") if line.strip()]
    arguments = [json_value(line, "an input", object, FETCH_ANEW) for line in lines]
    return Test(input=arguments, output=json_value(case["output"], "an output", object, FETCH_ANEW))


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a folder of them, or why a row is no problem.

    The tests of other rows are not unpacked.

    Raises:
        GradingError: a file of the release is missing or cannot be read.
    """

    def is_wanted(record: LiveCodeBenchRecord) -> bool:
        return selection.admits(
            difficulty=record.difficulty, platform=record.platform, day=record.day, erratum=record.erratum
        )

    return each_record(files(path, selection.release), parser(LiveCodeBenchRecord, convert, is_wanted))


def files(path: Path, release: str | None) -> list[Path]:
    """Return the files that hold a release, which is the newest one where None is given.

    Release `v3` is the first three of the files `test.jsonl`, `test2.jsonl`, …, and `v4_v6` is the last three of six. A
    folder of Parquet files is one release: the folder `release_v3` beside or below `path`, or `path` itself.

    Raises:
        GradingError: `path` is a single file and a release is named, or a file of the release is missing.
    """
    if not path.is_dir():
        if release is not None:
            raise GradingError(f"{path} is one file, which has no releases: give the folder, or no release")
        return [path]
    wanted = [path / name for name in names_of(release)]
    if any(file.is_file() for file in wanted):
        if release is None:
            wanted = [file for file in wanted if file.is_file()]
        if missing := [file.name for file in wanted if not file.is_file()]:
            raise GradingError(f"{path} lacks {', '.join(missing)}: fetch what release {release} consists of")
        return wanted
    folder = path / f"release_{release}" if release else path
    shards = sorted(folder.glob("*.parquet"))
    if not shards:
        raise GradingError(f"{folder} has neither test.jsonl nor Parquet files: give the folder of the published files")
    return shards


def names_of(release: str | None) -> tuple[str, ...]:
    """Return the names of the files that a release consists of. Raises GradingError if there is no such release."""
    if release is None:
        return FILES
    numbers = re.fullmatch(r"(?:v(\d)_)?v(\d)", release.removeprefix("release_"))
    first, last = (int(numbers[1] or 1) - 1, int(numbers[2])) if numbers else (0, 0)
    if not 0 <= first < last <= len(FILES):
        raise GradingError(f"release {release!r} is unknown: name v1 to v{len(FILES)}, or a range such as v4_v6")
    return FILES[first:last]
