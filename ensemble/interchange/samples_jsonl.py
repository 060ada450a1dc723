"""Samples as JSON lines, the form in which other programs hand them over.

A file is read twice: first every line is checked and indexed, later the texts are read as they are needed, so that it
may be larger than memory. Unknown keys are ignored.
"""

import json
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alphamix.ensemble.errors import EnsembleError

_MAX_NAMED = 20
"""Complaints that one error shows."""


class SamplesError(EnsembleError):
    """A file of samples cannot be used: the message says why, then what to do."""


@dataclass(frozen=True, slots=True)
class SampleKey:
    """What tells one sample from all others."""

    problem: str
    policy: str
    index: int

    def __str__(self) -> str:
        return f"sample {self.index} of {self.policy!r} at {self.problem!r}"


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """One sample of a file, without its text."""

    key: SampleKey
    finish_reason: str | None
    offset: int
    """Where its line begins, in bytes."""


@dataclass(frozen=True)
class SampleIndex:
    """All samples of a file, and what is wrong with its other lines."""

    path: Path
    entries: list[SampleEntry]
    complaints: list[str]


class SampleText(NamedTuple):
    """What is to be judged."""

    text: str
    is_code: bool
    """Whether it is the program itself, and not a completion with a program in it."""


def read_index(path: Path, problems: Container[str]) -> SampleIndex:
    """Read all lines of a file.

    Raises SamplesError for what no skipping mends: an unreadable file, samples of an unknown problem, double keys.
    """
    entries: list[SampleEntry] = []
    complaints: list[str] = []
    errors: list[str] = []
    line_of_key: dict[SampleKey, int] = {}
    try:
        for number, offset, line in _lines(path):
            try:
                entry = _entry(json.loads(line), offset)
            except (ValueError, RecursionError) as error:
                complaints.append(f"{path}, line {number}: {_shortly(error)}")
                continue
            first = line_of_key.setdefault(entry.key, number)
            if first != number:
                errors.append(f"{path}, line {number}: {entry.key} stands in line {first} already")
            elif entry.key.problem not in problems:
                errors.append(f"{path}, line {number}: no problem {entry.key.problem!r} among the problems")
            entries.append(entry)
    except OSError as error:
        raise SamplesError(f"{path} cannot be read ({error.strerror}): give a file of JSON lines") from None
    if errors:
        raise SamplesError(f"{listed(errors)}\ncorrect or remove these samples, or name the problems they belong to")
    return SampleIndex(path, entries, complaints)


def read_texts(path: Path, entries: Iterable[SampleEntry]) -> Iterator[SampleText]:
    """Read the texts of samples, in the order asked for."""
    with path.open("rb") as file:
        for entry in entries:
            file.seek(entry.offset)
            sample: dict[str, Any] = json.loads(file.readline())
            code = sample.get("code")
            yield SampleText(sample["completion"], False) if code is None else SampleText(code, True)


def listed(complaints: list[str]) -> str:
    """Return complaints as lines, the first ones if there are many."""
    rest = len(complaints) - _MAX_NAMED
    return "\n".join(complaints[:_MAX_NAMED] + ([f"… and {rest} more like these"] if rest > 0 else []))


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield the number, offset and content of every line that is not blank."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, offset, line
            offset += len(line)


def _entry(sample: Any, offset: int) -> SampleEntry:
    if not isinstance(sample, dict):
        raise ValueError(f"a {type(sample).__name__}, not an object")
    for key, kind in (("problem_id", str), ("policy", str), ("index", int)):
        if type(sample.get(key)) is not kind:  # true is not 1
            raise ValueError(f"{key} is {json.dumps(sample.get(key))}, not {_NAME_OF_TYPE[kind]}")
    text = sample.get("code") if sample.get("code") is not None else sample.get("completion")
    if not isinstance(text, str):
        raise ValueError("neither code nor completion is text")
    finish_reason = sample.get("finish_reason")
    if not isinstance(finish_reason, str | None):
        raise ValueError(f"finish_reason is {json.dumps(finish_reason)}, not text")
    key = SampleKey(sample["problem_id"], sample["policy"], sample["index"])
    return SampleEntry(key, finish_reason, offset)


_NAME_OF_TYPE = {str: "text", int: "a whole number"}


def _shortly(error: Exception) -> str:
    return f"not JSON ({error})" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
