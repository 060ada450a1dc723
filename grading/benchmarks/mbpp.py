"""MBPP as problems: 974 short tasks with three assertions each. Reads the published `mbpp.jsonl`, its sanitised form,
and MBPP+ of EvalPlus, whose tests are lists of inputs and results (`evalplus`).

Austin et al. 2021, "Program Synthesis with Large Language Models", arXiv 2108.07732; CC BY 4.0. The statement names the
function and shows the shortest assertion, because the published text alone does not say how the function is called.
The `challenge_test_list` of eleven tasks is not used, as in the paper.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, Field

from alphamix.grading.benchmarks import assertions, evalplus
from alphamix.grading.benchmarks.records import each_record, files_of, parser
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.benchmarks.statements import packages
from alphamix.grading.errors import GradingError
from alphamix.grading.problems import all_problems
from alphamix.grading.types import Problem

SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
"""Numbers of the tasks of each split, as the paper has them."""
FILES = tuple(f"full/{split}-00000-of-00001.parquet" for split in SPLITS)
"""Published Parquet files."""
_ILL_FORMED = (83, 115, 117, 143, 164, 229, 249, 295, 396, 400, 407, 431, 438, 442, 461, 574, 582, 595, 640, 746, 783)
ERRATA: dict[int, str] = dict.fromkeys(_ILL_FORMED, "is ill-formed: EvalPlus removed it from MBPP+ 0.2.0")
"""Tasks with a fault, by number."""
HOW_TO_ANSWER = "Write the Python function in one ```python code block."


class MbppRecord(BaseModel):
    """One line of the file; other keys are ignored."""

    task_id: int
    text: Annotated[str, Field(validation_alias=AliasChoices("text", "prompt"))]
    test_list: Annotated[list[str], Field(min_length=1)]
    test_imports: list[str] = []
    test_setup_code: str = ""
    test: str | None = None
    """Code of MBPP+ that runs all tests."""
    code: str | None = None


def load(path: str | Path) -> list[Problem]:
    """Return all problems, with ids `mbpp/1`, `mbpp/2`, …. Raises GradingError, which names the file and the line."""
    return all_problems(each(Path(path), Selection()))


def each(path: Path, selection: Selection) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a published file, or of a folder of them, or why a row is no problem.

    Raises GradingError if a file cannot be read.
    """

    def is_wanted(record: MbppRecord) -> bool:
        is_in_split = selection.split is None or record.task_id in SPLITS[selection.split]
        return is_in_split and selection.admits(erratum=ERRATA.get(record.task_id))

    return each_record(files_of(path, "mbpp.jsonl*", "**/*.parquet"), parser(MbppRecord, convert, is_wanted))


def convert(record: MbppRecord) -> Problem:
    """Convert one record. Raises SyntaxError if an assertion is not valid Python."""
    function = assertions.function_under_test(record.test_list[0])
    fields = _tests(record, function)
    problem = Problem(
        id=f"mbpp/{record.task_id}",
        statement="",
        reference=record.code,
        **fields._asdict(),
        packages=packages(fields.epilogue or ""),
        metadata={"erratum": ERRATA[record.task_id]} if record.task_id in ERRATA and record.test is None else {},
    )
    example, num_shown = _example(record, function, problem)
    statement = f"{record.text.strip()}\n\nThe function is called `{function}`. {example}\n\n{HOW_TO_ANSWER}"
    return problem.model_copy(update={"statement": statement, "public_tests": num_shown})


def _tests(record: MbppRecord, function: str) -> assertions.Tests:
    if record.test is None:
        set_up = "\n".join((*record.test_imports, record.test_setup_code)).replace("\r\n", "\n")
        return assertions.convert(record.test_list, function, set_up=set_up)
    code = ast.parse(record.test).body
    return evalplus.convert(code, function, function) or evalplus.nonce(code)


def _example(record: MbppRecord, function: str, problem: Problem) -> tuple[str, int]:
    """Return one assertion in words, and the number of tests that this reveals."""
    first = problem.tests[0]
    match assertions.form_of(problem) if record.test is None else "nonce":
        case "call":
            return f"For example, `{function}({', '.join(map(repr, first.input))})` returns `{first.output!r}`.", 1
        case "expression":
            return f"For example, `{first.input[0]}` returns `{first.output!r}`.", 1
        case "nonce":
            return f"For example, `{min(record.test_list, key=len).strip()}` holds.", 0
