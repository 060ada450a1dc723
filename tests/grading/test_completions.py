"""A corpus of completions as models write them, each with exactly the program that it answers with.

A file begins with `key: value` lines: `names` are those that the tests call, `language` is that of the program, or
`none`. The prologue (where there is one), the completion and the program follow, each under a line of its own.
"""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

from alphamix.grading.programs.extract import extract_program

COMPLETIONS = Path(__file__).resolve().parents[1] / "completions"


class Case(NamedTuple):
    about: dict[str, str]
    prologue: str | None
    completion: str
    program: str


def read_case(path: Path) -> Case:
    head, *sections = re.split(
        r"^===== (prologue|completion|program)\n", path.read_bytes().decode(), flags=re.MULTILINE
    )
    texts = dict(zip(sections[::2], sections[1::2], strict=True))
    about = dict(line.split(": ", 1) for line in head.splitlines())
    prologue = texts["prologue"].removesuffix("\n") if "prologue" in texts else None
    return Case(about, prologue, texts["completion"].removesuffix("\n"), texts["program"])


CASES = {path.stem: read_case(path) for path in sorted(COMPLETIONS.glob("*.txt"))}


def test_the_corpus_is_large_enough() -> None:
    assert len(CASES) >= 80


@pytest.mark.parametrize("name", CASES)
def test_the_program_is_exactly_what_the_completion_answers(name: str) -> None:
    about, prologue, completion, expected = CASES[name]
    program = extract_program(completion, prologue, about.get("names", "").split())
    found = ("none", "") if program is None else (program.language, program.source)
    assert found == (about.get("language", "python"), expected)
