"""How a run stands, read from its record: per policy what is done and owed, verdicts, tokens and recent rates.

Rates are of the last five minutes, by when samples came. Nothing is written, and the run may go on meanwhile.
"""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.cli.terminal.formatting import Pace, duration, rate, time_left
from alphamix.ensemble.store import STORE_NAME, Store, is_at_work
from alphamix.grading.types import Verdict

ALL = "*"
"""Stands for all policies together in JSON; no policy has this name."""
_RECENT_S = 300.0
_MOST_VERDICTS = 5
"""Columns; the rarer ones share the last."""


@dataclass(frozen=True)
class StatusCounts:
    """What is done of one policy, or of all."""

    planned: int
    sampled: int
    graded: int
    tokens: int
    """Of all completions."""
    seconds: float
    """That engines took for them."""
    counted: int
    """Samples whose tokens are known."""
    verdicts: Counter[Verdict]
    samples_per_second: float
    tokens_per_second: float
    last_sample: float | None
    """Seconds since the epoch."""

    @property
    def owed(self) -> int:
        """Slots without a sample."""
        return self.planned - self.sampled

    @property
    def tokens_per_sample(self) -> float | None:
        """Mean over samples whose tokens are known."""
        return self.tokens / self.counted if self.counted else None


@dataclass(frozen=True)
class RunStatus:
    """How a run stands at a moment."""

    folder: Path
    policies: dict[str, StatusCounts]
    all: StatusCounts
    is_at_work: bool
    """Whether a process has the run open for writing."""
    last_write: float
    """When its record last changed, in seconds since the epoch."""
    now: float
    num_verdict_sets: int

    def seconds_left(self, count: StatusCounts) -> float | None:
        """Until a policy, or all, has its samples, if a process is at work and the pace stays; None if unknown."""
        if count.owed and not self.is_at_work:
            return None
        alone = Pace(count.owed, count.samples_per_second)
        if count is not self.all:
            return time_left([alone])
        at_work = [one for one in self.policies.values() if one.samples_per_second]
        return time_left([Pace(one.owed, one.samples_per_second) for one in at_work], alone)


def read_status(folder: Path) -> RunStatus:
    """Read how the run in a folder stands now. Raises StoreError."""
    path, now = folder / STORE_NAME, time.time()
    with Store(path, read_only=True) as store, store.snapshot():
        progress, recent = store.progress(), store.recent(now - _RECENT_S)
        verdicts, num_sets = store.verdict_counts(), len(store.verdict_sets())
    policies: dict[str, StatusCounts] = {}
    for name, row in progress.iterrows():
        policy = str(name)
        came = recent.get(policy)
        span = _RECENT_S if came is None or came.began is None else min(max(now - came.began, 1.0), _RECENT_S)
        policies[policy] = StatusCounts(
            planned=int(row["planned"]),
            sampled=int(row["sampled"]),
            graded=int(row["graded"]),
            tokens=int(row["tokens"]),
            seconds=float(row["seconds"]),
            counted=0 if came is None else came.counted,
            verdicts=verdicts.get(policy, Counter()),
            samples_per_second=0.0 if came is None else came.samples / span,
            tokens_per_second=0.0 if came is None else came.tokens / span,
            last_sample=None if came is None else came.last_sample,
        )
    last_write = max(file.stat().st_mtime for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
    counts = list(policies.values())
    return RunStatus(folder, policies, _sum(counts), is_at_work(path), last_write, now, num_sets)


def to_json(standing: RunStatus) -> dict[str, Any]:
    """By policy, and under `*` for all of them, what `alphamix status --json` prints."""
    content: dict[str, Any] = {name: _json(standing, one) for name, one in standing.policies.items()}
    run = {"at_work": standing.is_at_work, "last_write": standing.last_write}
    return content | {ALL: _json(standing, standing.all) | run}


def picture(standing: RunStatus) -> RenderableType:
    """A line on who is at work, a row per policy, and one for all."""
    counts = standing.all.verdicts.most_common()
    most = len(counts) if len(counts) <= _MOST_VERDICTS else _MOST_VERDICTS - 1
    common = [verdict for verdict in Verdict if verdict in dict(counts[:most])]
    has_others = len(common) < len(standing.all.verdicts)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("policy", overflow="fold", min_width=12)
    names = ["done", "owed", "graded", *map(str, common), *(["other"] if has_others else []), "tokens"]
    for name in (*names, *(["samples/s", "tok/s", "left"] if standing.is_at_work else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for name, one in standing.policies.items():
        table.add_row(Text(name), *_cells(standing, one, common, has_others))
    table.add_row("all", *_cells(standing, standing.all, common, has_others), style="bold")
    note = f"tokens: mean per sample; {standing.all.tokens:,} in all"
    if standing.is_at_work:
        note += f"; rates: of the last {_RECENT_S / 60:.0f} minutes"
    return Group(Text(str(standing.folder), style="bold"), Text(_headline(standing)), table, Text(note, style="dim"))


def _headline(standing: RunStatus) -> str:
    total = standing.all
    ago = f"last write {duration(standing.now - standing.last_write)} ago"
    if standing.is_at_work:
        return f"a process is at work; {ago}"
    if total.owed or total.graded < total.planned:
        return f"nobody is at work; {ago}; alphamix resume goes on"
    return f"all samples are there and graded; {ago}"


def _cells(standing: RunStatus, one: StatusCounts, common: Sequence[Verdict], has_others: bool) -> list[str]:
    counts = [one.verdicts[verdict] for verdict in common]
    if has_others:
        counts.append(one.verdicts.total() - sum(counts))
    shares = [f"{count / one.verdicts.total():.0%}" if one.verdicts else "" for count in counts]
    mean = one.tokens_per_sample
    cells = [f"{one.sampled:,}", f"{one.owed:,}", f"{one.graded:,}", *shares, "" if mean is None else f"{mean:,.0f}"]
    if standing.is_at_work:
        cells += [rate(one.samples_per_second), rate(one.tokens_per_second), duration(standing.seconds_left(one))]
    return cells


def _json(standing: RunStatus, one: StatusCounts) -> dict[str, Any]:
    return {
        "planned": one.planned,
        "sampled": one.sampled,
        "graded": one.graded,
        "tokens": one.tokens,
        "seconds": one.seconds,
        "owed": one.owed,
        "verdicts": dict(one.verdicts),
        "tokens_per_sample": one.tokens_per_sample,
        "samples_per_second": one.samples_per_second,
        "tokens_per_second": one.tokens_per_second,
        "seconds_left": standing.seconds_left(one),
        "last_sample": one.last_sample,
    }


def _sum(counts: Sequence[StatusCounts]) -> StatusCounts:
    """All policies together."""
    return StatusCounts(
        planned=sum(one.planned for one in counts),
        sampled=sum(one.sampled for one in counts),
        graded=sum(one.graded for one in counts),
        tokens=sum(one.tokens for one in counts),
        seconds=sum(one.seconds for one in counts),
        counted=sum(one.counted for one in counts),
        verdicts=sum((one.verdicts for one in counts), Counter[Verdict]()),
        samples_per_second=sum(one.samples_per_second for one in counts),
        tokens_per_second=sum(one.tokens_per_second for one in counts),
        last_sample=max((one.last_sample for one in counts if one.last_sample is not None), default=None),
    )
