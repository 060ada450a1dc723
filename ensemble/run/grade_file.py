"""Grading a file of samples into a file of verdicts, resumable at any line."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from alphamix.ensemble.interchange.record_schema import SampleKey
from alphamix.ensemble.interchange.sample_index import SampleEntry, SampleIndex, read_texts
from alphamix.ensemble.interchange.verdict_file import Mark, VerdictFile, VerdictsLostError
from alphamix.ensemble.run.grading_loop import Ungraded, VerdictKeeper, grade_all
from alphamix.ensemble.run.progress_events import GradingObserver
from alphamix.grading.errors import GradingError
from alphamix.grading.parallel.backends import BackendError
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.types import Problem


@dataclass(frozen=True)
class FileGrading:
    """Result of grading a file."""

    summary: dict[str, Any]
    """Counts over all samples of the file, with those of each policy under `policies`."""
    owed: Counter[str]
    """Samples that the judge failed on, by reason."""
    failure: str
    """Why grading stopped before its end; empty if it did not."""


def grade_file(
    problems: Mapping[str, Problem],
    index: SampleIndex,
    output: Path,
    options: JudgeOptions,
    backend: BackendOptions,
    progress: GradingObserver,
) -> FileGrading:
    """Judge every sample of a file that has no verdict yet, and append the verdicts to `output`.

    Raises:
        InterchangeError: `output` is not a file of verdicts, or another process is writing it.
        BackendError: the backend is unavailable.
    """
    failure = ""
    with VerdictFile(output) as verdicts:
        entries = [entry for entry in index.entries if entry.key not in verdicts.marks]
        entries.sort(key=attrgetter("key.problem"))  # chunks hold samples of one problem
        progress.begin(len(index.entries), len(index.entries) - len(entries))
        keeper = VerdictKeeper(verdicts, progress)
        try:
            grade_all(problems, _ungraded(index.path, entries), len(entries), keeper, options, backend)
        except BackendError:
            raise  # the options are wrong, not the grading
        except (GradingError, VerdictsLostError) as error:
            failure = str(error)
        return FileGrading(_summary(index, verdicts.marks, keeper), keeper.owed, failure)


def _ungraded(path: Path, entries: list[SampleEntry]) -> Iterator[Ungraded[SampleKey]]:
    for entry, (text, is_code) in zip(entries, read_texts(path, entries), strict=True):
        yield Ungraded(entry.key, entry.key.problem, entry.finish_reason, text, is_code)


def _summary(index: SampleIndex, marks: Mapping[SampleKey, Mark], keeper: VerdictKeeper[SampleKey]) -> dict[str, Any]:
    policies: dict[str, Any] = {}
    for entry in index.entries:
        counts = policies.setdefault(entry.key.policy, {"samples": 0, "verdicts": {}, "failures": {}})
        counts["samples"] += 1
        mark = marks.get(entry.key)
        if mark is not None:
            counts["verdicts"][mark.verdict] = counts["verdicts"].get(mark.verdict, 0) + 1
        if mark is not None and mark.failure is not None:
            counts["failures"][mark.failure] = counts["failures"].get(mark.failure, 0) + 1
    graded = sum(sum(counts["verdicts"].values()) for counts in policies.values())
    return {
        "samples": len(index.entries),
        "graded": graded,
        "owed": len(index.entries) - graded,
        "owed_because": dict(keeper.owed),
        "skipped": len(index.complaints),
        "missing_modules": dict(keeper.missing_modules.most_common()),
        "policies": policies,
    }
