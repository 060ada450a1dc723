"""Status of a run, read from its record: what is done and owed for each policy, verdicts, tokens and recent rates.

Rates cover the last five minutes, by the times at which samples arrived. Reading changes nothing, and a process may
continue the run meanwhile.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from alphamix.ensemble.analysis.run_summary import RunRemarks
from alphamix.ensemble.run.pace import Pace, time_left
from alphamix.ensemble.run_settings import RunSettings
from alphamix.ensemble.store import STORE_NAME, FailureCount, Recent, Store, is_at_work
from alphamix.grading.types import Problem, Verdict
from alphamix.policies.types import AnswerKind

RECENT_S = 300.0
"""Span that rates cover."""


@dataclass(frozen=True)
class StatusCounts:
    """What is done for one policy, or for all of them together."""

    planned: int
    sampled: int
    graded: int
    tokens: int
    """Tokens of all completions."""
    seconds: float
    """Engine time for all completions."""
    counted: int
    """Number of samples whose tokens are known."""
    verdicts: Counter[Verdict]
    rejected: int
    """Number of slots without a sample that cannot be filled by asking again."""
    failed: int
    """Number of slots without a sample for which asking failed in another way since the run last began or went on."""
    answer_kinds: Counter[AnswerKind]
    """Number of answers that are not text, by kind."""
    samples_per_second: float
    tokens_per_second: float
    last_sample: float | None
    """Time of the last sample, in seconds since the epoch."""

    @property
    def owed(self) -> int:
        """Number of slots without a sample, except those that were rejected."""
        return self.planned - self.sampled - self.rejected

    @property
    def pending(self) -> int:
        """Number of slots that the process at work has yet to ask for."""
        return self.owed - self.failed

    @property
    def tokens_per_sample(self) -> float | None:
        """Mean over the samples whose tokens are known."""
        return self.tokens / self.counted if self.counted else None


@dataclass(frozen=True)
class RunStatus:
    """Status of a run at one moment."""

    folder: Path
    policies: dict[str, StatusCounts]
    all: StatusCounts
    failures: list[FailureCount]
    """Slots without a sample for which asking failed, by cause, the most frequent first."""
    is_at_work: bool
    """Whether a process has the run open for writing."""
    last_write: float
    """Time at which the record last changed, in seconds since the epoch."""
    now: float
    num_verdict_sets: int

    def seconds_left(self, count: StatusCounts) -> float | None:
        """Return the seconds until a policy, or all, has its samples, or None if no process is at work on the run."""
        if count.owed and not (self.is_at_work and count.pending):
            return None
        alone = Pace(count.pending, count.samples_per_second)
        if count is not self.all:
            return time_left([alone])
        active = [policy for policy in self.policies.values() if policy.samples_per_second]
        return time_left([Pace(policy.pending, policy.samples_per_second) for policy in active], alone)


def remarks_on(store: Store, verdict_set: str | None = None, problems: Iterable[Problem] = ()) -> RunRemarks:
    """Count what a report has to mention: what is missing, answers that are not text, and known faults of problems."""
    progress = store.progress()
    rejected = int(progress["rejected"].sum())
    unfilled = int((progress["planned"] - progress["graded"]).sum())
    settings = RunSettings.of_plan(store.about())
    # In the setting of one turn, how an answer ended is told by its kind and its failure.
    endings = {name: ends for name, ends in store.endings().items() if settings.split(name).setting != "reasoning"}
    errata = {problem.id: problem.metadata["erratum"] for problem in problems if "erratum" in problem.metadata}
    return RunRemarks(
        unfilled - rejected,
        rejected,
        store.answer_kinds(),
        endings,
        store.missing_modules(verdict_set),
        errata,
    )


def read_status(folder: Path) -> RunStatus:
    """Read the present status of the run in a folder. Raises StoreError."""
    path = folder / STORE_NAME
    with Store(path, read_only=True) as store, store.snapshot():
        now = time.time()
        progress, recent = store.progress(), store.recent(now - RECENT_S)
        verdicts, num_sets = store.verdict_counts(), len(store.verdict_sets())
        kinds, failures = store.answer_kinds(), store.failures()
    policies: dict[str, StatusCounts] = {}
    for name, row in progress.iterrows():
        policy = str(name)
        activity = recent.get(policy, Recent(0, 0, None, None, 0))
        # A policy that began within the span is rated over the time since then.
        span = RECENT_S if activity.began is None else min(max(now - activity.began, 1.0), RECENT_S)
        policies[policy] = StatusCounts(
            planned=int(row["planned"]),
            sampled=int(row["sampled"]),
            graded=int(row["graded"]),
            tokens=int(row["tokens"]),
            seconds=float(row["seconds"]),
            counted=activity.counted,
            verdicts=verdicts.get(policy, Counter()),
            rejected=int(row["rejected"]),
            failed=int(row["failed"]),
            answer_kinds=kinds.get(policy, Counter()),
            samples_per_second=activity.samples / span,
            tokens_per_second=activity.tokens / span,
            last_sample=activity.last_sample,
        )
    # SQLite writes to the write-ahead log first, so the younger of the two files shows when something was last written.
    last_write = max(file.stat().st_mtime for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    total = _sum(list(policies.values()))
    # A process may have written since, and the clocks of files and processes differ by some milliseconds.
    return RunStatus(folder, policies, total, failures, is_at_work(path), min(last_write, now), now, num_sets)


def _sum(counts: Sequence[StatusCounts]) -> StatusCounts:
    by_kind = ("verdicts", "answer_kinds", "last_sample")
    summed = [each.name for each in fields(StatusCounts) if each.name not in by_kind]
    return StatusCounts(
        **{name: sum(getattr(count, name) for count in counts) for name in summed},
        verdicts=sum((count.verdicts for count in counts), Counter[Verdict]()),
        answer_kinds=sum((count.answer_kinds for count in counts), Counter[AnswerKind]()),
        last_sample=max((count.last_sample for count in counts if count.last_sample is not None), default=None),
    )
