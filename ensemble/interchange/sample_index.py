"""An index of a file of samples in JSON lines, for files that are larger than memory.

Every line is checked and indexed first; texts are read later, as they are needed.
"""

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alphamix.ensemble.interchange.record_files import InterchangeError, listed, read_json_lines
from alphamix.ensemble.interchange.record_schema import SampleKey, SampleLine, first_error
from alphamix.text_lines import open_plain


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One sample of a file, without its text."""

    key: SampleKey
    finish_reason: str | None
    offset: int
    """Where its line begins in the decompressed file, in bytes."""


@dataclass(frozen=True)
class SampleIndex:
    """All samples of a file, and what is wrong with its other lines."""

    path: Path
    entries: list[SampleEntry]
    complaints: list[str]


class SampleText(NamedTuple):
    """The text of a sample."""

    text: str
    is_code: bool
    """Whether the text is the program itself, not a completion that contains a program."""


def read_index(path: Path, problems: Container[str]) -> SampleIndex:
    """Read all lines of a file; malformed ones become complaints.

    Raises:
        InterchangeError: the file is unreadable, or a sample is of an unknown problem or occurs twice: skipping lines
            would not help.
    """
    entries: list[SampleEntry] = []
    complaints: list[str] = []
    errors: list[str] = []
    line_of_key: dict[SampleKey, int] = {}
    for record in read_json_lines(path):
        try:
            if record.error:
                raise ValueError(record.error)
            line = SampleLine.model_validate(record.content)
        except ValueError as error:
            complaints.append(f"{record.where}: {first_error(error)}")
            continue
        first = line_of_key.setdefault(line.key, record.number)
        if first != record.number:
            errors.append(f"{record.where}: {line.key} is in line {first} already")
        elif line.key.problem not in problems:
            errors.append(f"{record.where}: unknown problem {line.key.problem!r}")
        entries.append(SampleEntry(line.key, line.finish_reason, record.offset))
    if errors:
        raise InterchangeError(f"{listed(errors)}\ncorrect or remove these samples, or add the problems they belong to")
    return SampleIndex(path, entries, complaints)


def read_texts(path: Path, entries: Iterable[SampleEntry]) -> Iterator[SampleText]:
    """Read the texts of samples, in the given order."""
    with open_plain(path) as file:
        for entry in entries:
            file.seek(entry.offset)
            line = SampleLine.model_validate(json.loads(file.readline()))
            yield SampleText(line.text, line.is_code)
