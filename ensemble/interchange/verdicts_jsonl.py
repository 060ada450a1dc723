"""Verdicts as JSON lines beside the samples: append-only, so that grading can be cut off anywhere and gone on with.

A line is whole or it is not there: what a kill leaves of a last line is cut off at the next opening, what a full disk
leaves of it at once. Verdicts that say nothing about the sample (IE) are never written.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.interchange.samples_jsonl import SampleKey
from alphamix.grading.types import Failure, Judgement, Verdict

_BEGINNING = b'{"problem_id": '
"""How each of our lines begins; a torn line is cut off only if it is one of ours."""


class VerdictsError(EnsembleError):
    """A file of verdicts cannot be used as asked: the message says why, then what to do."""


class VerdictsLostError(RuntimeError):
    """Verdicts cannot be written any more (a full disk, say); those before are kept."""


@dataclass(frozen=True, slots=True)
class Mark:
    """The gist of a verdict."""

    verdict: Verdict
    failure: Failure | None


class VerdictFile:
    """The verdicts of one file; a context manager, for one process at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.marks: dict[SampleKey, Mark] = {}
        """Every verdict that the file holds."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise VerdictsError(
                f"{path} cannot be opened ({error.strerror}): give a file in a folder of yours"
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
        """Close the file and let other processes in. Safe to call twice."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def append(self, judged: Iterable[tuple[SampleKey, Judgement, Failure | None, dict[str, Any]]]) -> None:
        """Write verdicts, each with its failure class and the judge's description, so that no kill can take them back.

        Raises VerdictsLostError, with the file cut back to whole lines.
        """
        judged = list(judged)
        content = b"".join(json.dumps(verdict_line(*one), allow_nan=False).encode() + b"\n" for one in judged)
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
        """Read what is there, cut off a torn line, and return the size."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise VerdictsError(f"another process is writing {self.path}: wait for it, or give another file") from None
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
            verdict: Any = json.loads(line)
            key = SampleKey(verdict["problem_id"], verdict["policy"], verdict["index"])
            failure = verdict["failure"]
            mark = Mark(Verdict(verdict["verdict"]), None if failure is None else Failure(failure))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise VerdictsError(
                f"{self.path}, line {number}: not a verdict ({type(error).__name__}: {error}): "
                "correct or remove this line, or give another file"
            ) from None
        if mark.verdict is not Verdict.IE:  # owed again
            self.marks[key] = mark


def verdict_line(
    key: SampleKey, judgement: Judgement, failure: Failure | None, judge: dict[str, Any]
) -> dict[str, Any]:
    """Return a verdict as every file of verdicts holds it, with the judge's description of itself."""
    verdict: dict[str, Any] = {
        "problem_id": key.problem,
        "policy": key.policy,
        "index": key.index,
        "verdict": judgement.verdict,
        "failure": failure,
        "tests_passed": judgement.tests_passed,
        "num_tests": judgement.num_tests,
        "first_failed_test": judgement.first_failed_test,
        "cpu_s": judgement.cpu_s,
        "peak_rss_mb": judgement.peak_rss_mb,
        "message": judgement.message,
        "judge": judge,
    }
    if judgement.forgeable:
        verdict["forgeable"] = True
    if judgement.passed_tests is not None:
        verdict["passed_tests"] = judgement.passed_tests
    return verdict
