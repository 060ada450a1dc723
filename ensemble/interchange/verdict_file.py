"""An append-only file of verdicts in JSON lines, so that grading can be interrupted anywhere and resumed.

A line is there whole or not at all: what a kill leaves of a last line is cut off when the file is next opened, what a
full disk leaves of it at once. Verdicts that say nothing about the sample (IE) are never written.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from alphamix.ensemble.interchange.record_files import InterchangeError
from alphamix.ensemble.interchange.record_schema import SampleKey, VerdictLine, first_error, verdict_record
from alphamix.grading.types import Failure, Judgement, Verdict

_BEGINNING = b'{"problem_id": '
"""How each of our lines begins; a torn line is cut off only if it is one of ours."""


class VerdictsLostError(RuntimeError):
    """Verdicts can no longer be written (the disk is full, say); earlier ones are kept."""


class Mark(NamedTuple):
    """What a verdict says of a sample, without its details."""

    verdict: Verdict
    failure: Failure | None


class VerdictFile:
    """The verdicts of one file; a context manager, for one process at a time.

    Raises:
        InterchangeError: it cannot be opened, is not a file of verdicts, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marks: dict[SampleKey, Mark] = {}
        """All verdicts in the file."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise InterchangeError(
                f"{path} cannot be opened ({error.strerror}): give a file in a folder that you can write to"
            ) from None
        try:
            self._size = self._read()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and release its lock. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def append(self, judged: Iterable[tuple[SampleKey, Judgement, Failure | None, Mapping[str, Any]]]) -> None:
        """Write verdicts, each with its failure class and the judge's description; no kill can take them back.

        Raises:
            VerdictsLostError: the disk refuses; the file is cut back to whole lines.
        """
        judged = list(judged)
        content = b"".join(json.dumps(verdict_record(*verdict), allow_nan=False).encode() + b"\n" for verdict in judged)
        try:
            while content:
                content = content[os.write(self._file, content) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise VerdictsLostError(
                f"{self.path} cannot be written ({error.strerror}): its {len(self.marks)} verdicts are kept; "
                "make room and give the same command again"
            ) from None
        self._size = os.fstat(self._file).st_size
        self.marks.update({key: Mark(judgement.verdict, failure) for key, judgement, failure, _ in judged})

    def _read(self) -> int:
        """Read the verdicts, cut off a torn line, and return the size."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InterchangeError(
                f"another process is writing {self.path}: wait for it, or give another file"
            ) from None
        size = 0
        with open(self._file, "rb", closefd=False) as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n") and (line.startswith(_BEGINNING) or _BEGINNING.startswith(line)):
                    os.ftruncate(self._file, size)
                    break
                self._remember(line, number)
                size += len(line)
        return size

    def _remember(self, line: bytes, number: int) -> None:
        try:
            verdict = VerdictLine.model_validate(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InterchangeError(
                f"{self.path}, line {number}: not a verdict ({first_error(error)}): correct or remove this line, or "
                "give another file"
            ) from None
        if verdict.verdict is not Verdict.IE:  # these samples are owed again
            self.marks[verdict.key] = Mark(verdict.verdict, verdict.failure)
