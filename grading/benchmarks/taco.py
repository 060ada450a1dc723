"""TACO as problems: 26,443 coding tasks in the form of APPS, with limits, topics and five levels of difficulty.

Li et al. 2023, "TACO: Topics in Algorithmic COde generation dataset", arXiv 2312.14852; Apache licence, parts CC BY 4.0
and MIT. Reads the published Parquet files, a row at a time. A row has no id: its number within its split serves as one.

Its authors list the tasks of the test split that need a judge of their own. Where only the case of letters or the
digits of numbers may differ, answers are compared so; the others have a fault, because their tests accept one of
several right answers.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from alphamix.grading.benchmarks import apps
from alphamix.grading.benchmarks.records import files_of, parser, split_of
from alphamix.grading.benchmarks.rows import Row, Rows, each_row
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import each_of
from alphamix.grading.types import Checker, FloatChecker, FloatTolerance, Problem, TokenRules, TokensChecker

SPLITS = ("test", "train")
DIFFICULTIES = ("EASY", "MEDIUM", "MEDIUM_HARD", "HARD", "VERY_HARD", "UNKNOWN_DIFFICULTY")
_SECONDS = re.compile(r"([0-9]*\.?[0-9]+)\s*seconds?")
_BYTES = re.compile(r"([0-9]*\.?[0-9]+)\s*(giga|mega|kilo)?bytes?")
_MEGABYTES = {"giga": 1024.0, "mega": 1.0, "kilo": 1 / 1024, None: 1 / (1 << 20)}

# fmt: off
ERRATA: dict[int, str] = dict.fromkeys(
    (
        5, 10, 16, 36, 42, 47, 54, 56, 71, 77, 81, 83, 84, 90, 94, 106, 115, 119, 137, 140, 143, 155, 161, 162,
        173, 175, 179, 186, 205, 210, 211, 220, 221, 229, 238, 240, 242, 249, 258, 259, 260, 287, 289, 290, 295,
        298, 305, 308, 327, 335, 342, 343, 347, 351, 353, 362, 373, 375, 379, 381, 382, 383, 391, 394, 400, 408,
        412, 417, 422, 444, 465, 475, 477, 485, 487, 488, 490, 510, 519, 552, 555, 558, 561, 565, 574, 577, 582,
        594, 601, 615, 617, 621, 628, 630, 638, 647, 649, 663, 665, 673, 677, 702, 718, 720, 726, 734, 742, 754,
        771, 775, 784, 785, 790, 818, 822, 825, 831, 832, 834, 850, 852, 856, 869, 870, 876, 918, 919, 936, 942,
        945, 946, 952, 958, 968, 969, 972, 984, 986, 991,
    ),
    "has several right answers, of which the tests accept one",
)
"""Tasks of the test split with a fault, by their number (output_spj.jsonl of FlagOpen/TACO)."""
_ANY_CASE = frozenset(
    (
        20, 28, 41, 72, 96, 107, 130, 169, 188, 257, 264, 268, 279, 294, 318, 329, 337, 366, 384, 447, 451, 508,
        522, 527, 531, 568, 578, 579, 583, 625, 629, 695, 723, 774, 820, 864, 867, 889, 957, 962, 988, 992,
    )
)
_FLOATS = frozenset(
    (
        18, 23, 134, 141, 147, 168, 191, 198, 243, 253, 323, 331, 334, 348, 504, 526, 543, 550, 554, 586, 587,
        610, 641, 659, 667, 671, 675, 743, 805, 808, 815, 868, 916, 941, 953, 967, 990,
    )
)
# fmt: on


class TacoRecord(apps.AppsRecord):
    """One row; other keys are ignored. Its `problem_id` is its place within its split, from 0."""

    split: str
    source: str | None = None
    time_limit: str | None = None
    memory_limit: str | None = None

    @property
    def erratum(self) -> str | None:
        """What is known to be wrong with this task."""
        return ERRATA.get(int(self.problem_id)) if self.split == "test" else None


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a split in a folder, or why a row is no problem.

    Raises GradingError if a file cannot be read.
    """
    split = split_of(path, selection)
    files = files_of(path, f"ALL/{split}-*.parquet", f"{split}*.parquet", f"**/{split}*.parquet", f"**/{split}*.jsonl*")

    def is_wanted(record: TacoRecord) -> bool:
        return selection.admits(difficulty=record.difficulty, platform=record.source, erratum=record.erratum)

    return each_of(_numbered(files, split), parser(TacoRecord, convert, is_wanted))


def convert(record: TacoRecord) -> Problem:
    """Convert one record. Raises GradingError, which names the key."""
    problem = apps.convert(record, f"taco/{record.split}/{record.problem_id}")
    metadata = {"platform": record.source, "erratum": record.erratum}
    update = {
        "time_limit_s": _time_limit(record.time_limit),
        "memory_limit_mb": _memory_limit(record.memory_limit),
        "checker": _special_checker(record) or problem.checker,
        "metadata": {key: value for key, value in metadata.items() if value},
    }
    return problem.model_copy(update=update)


def _numbered(files: list[Path], split: str) -> Rows:
    number = 0
    for file in files:
        for where, row in each_row(file):
            about: Row = {"problem_id": number, "split": split}
            yield where, row if isinstance(row, GradingError) else row | about
            number += 1


def _special_checker(record: TacoRecord) -> Checker | None:
    if record.split != "test":
        return None
    if int(record.problem_id) in _ANY_CASE:
        return TokensChecker(tokens=TokenRules(ignore_case=True))
    return FloatChecker(floats=FloatTolerance()) if int(record.problem_id) in _FLOATS else None


def _time_limit(text: str | None) -> float:
    if not text:
        return apps.TIME_LIMIT_S
    if found := _SECONDS.match(text):
        return float(found[1]) or apps.TIME_LIMIT_S
    raise GradingError(f"time_limit: is {text!r}: it should be like '2.0 seconds'")


def _memory_limit(text: str | None) -> float:
    if not text:
        return apps.MEMORY_LIMIT_MB
    if found := _BYTES.match(text):
        return float(found[1]) * _MEGABYTES[found[2]] or apps.MEMORY_LIMIT_MB
    raise GradingError(f"memory_limit: is {text!r}: it should be like '256.0 megabytes'")
