"""Status of a run as a table and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.cli.terminal.formatting import duration, rate
from alphamix.ensemble.report.formatting import kinds_label
from alphamix.ensemble.run.status import RECENT_S, RunStatus, StatusCounts
from alphamix.grading.types import Verdict

ALL = "*"
"""Key of all policies together in JSON. No policy has this name."""
_MAX_VERDICTS = 5
"""Maximum number of verdict columns; the rarer verdicts share the last one."""
_MAX_FAILURES = 5


def to_json(status: RunStatus) -> dict[str, Any]:
    """Return what `alphamix status --json` prints: counts by policy, and under `*` those of all policies."""
    policies = {name: _json(status, counts) for name, counts in status.policies.items()}
    failures = [{**failure._asdict(), "is_final": failure.is_final} for failure in status.failures]
    run = {"at_work": status.is_at_work, "last_write": status.last_write, "failures": failures}
    return {**policies, ALL: _json(status, status.all) | run}


def picture(status: RunStatus) -> RenderableType:
    """Return a line on the state of the run, and a table with a row for each policy and one for all."""
    counts = status.all.verdicts.most_common()
    num_columns = len(counts) if len(counts) <= _MAX_VERDICTS else _MAX_VERDICTS - 1
    common = [verdict for verdict in Verdict if verdict in dict(counts[:num_columns])]
    has_others = len(common) < len(counts)
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("policy", overflow="fold", min_width=12)
    rejected = ["rejected"] if status.all.rejected else []
    headings = ["done", "owed", *rejected, "graded", *map(str, common), *(["other"] if has_others else []), "tokens"]
    for heading in (*headings, *(["samples/s", "tok/s", "left"] if status.is_at_work else [])):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, policy in status.policies.items():
        table.add_row(Text(name), *_cells(status, policy, common, has_others))
    table.add_row("all", *_cells(status, status.all, common, has_others), style="bold")
    note = f"tokens: mean per sample; {status.all.tokens:,} in total"
    if status.is_at_work:
        note += f"; rates: over the last {RECENT_S / 60:.0f} minutes"
    lines = [Text(line) for line in (*_answers(status), *_failures(status))]
    return Group(
        Text(str(status.folder), style="bold"), Text(_headline(status)), table, Text(note, style="dim"), *lines
    )


def _answers(status: RunStatus) -> list[str]:
    """Return a line for each policy that gave answers that are not text."""
    return [
        f"answers of {name}: {kinds_label(policy.answer_kinds)}"
        for name, policy in status.policies.items()
        if policy.answer_kinds
    ]


def _failures(status: RunStatus) -> list[str]:
    """Return lines on why samples are missing."""
    shown = [f"{failure.slots:,} × {failure}" for failure in status.failures[:_MAX_FAILURES]]
    more = len(status.failures) - len(shown)
    return [*shown, *([f"and {more} more causes"] if more else [])]


def _headline(status: RunStatus) -> str:
    last_write = f"last write {duration(status.now - status.last_write)} ago"
    if status.is_at_work:
        return f"a process is at work; {last_write}"
    if status.all.rejected and not status.all.owed and status.all.graded == status.all.sampled:
        return (
            f"all samples that could be drawn are graded; {last_write}; `alphamix resume` asks for the others again, "
            "`alphamix report --missing drop-problems` goes on without them"
        )
    if status.all.owed or status.all.graded < status.all.planned:
        return f"no process is at work; {last_write}; `alphamix resume` continues the run"
    return f"all samples are drawn and graded; {last_write}"


def _cells(status: RunStatus, row: StatusCounts, common: Sequence[Verdict], has_others: bool) -> list[str]:
    counts = [row.verdicts[verdict] for verdict in common]
    if has_others:
        counts.append(row.verdicts.total() - sum(counts))
    shares = [f"{count / row.verdicts.total():.0%}" if row.verdicts else "" for count in counts]
    mean = row.tokens_per_sample
    rejected = [f"{row.rejected:,}"] if status.all.rejected else []
    tokens = "" if mean is None else f"{mean:,.0f}"
    cells = [f"{row.sampled:,}", f"{row.owed:,}", *rejected, f"{row.graded:,}", *shares, tokens]
    if status.is_at_work:
        cells += [rate(row.samples_per_second), rate(row.tokens_per_second), duration(status.seconds_left(row))]
    return cells


def _json(status: RunStatus, counts: StatusCounts) -> dict[str, Any]:
    return {key: value for key, value in vars(counts).items() if key != "counted"} | {
        "owed": counts.owed,
        "verdicts": dict(counts.verdicts),
        "answer_kinds": dict(counts.answer_kinds),
        "tokens_per_sample": counts.tokens_per_sample,
        "seconds_left": status.seconds_left(counts),
    }
