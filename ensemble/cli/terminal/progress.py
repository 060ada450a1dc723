"""Progress of a run: the policies under way, grading, and what is spent.

How it comes to a terminal or a log is `display`'s, how fast it goes `pace`'s, what grading shows `grading_progress`'s.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.cli.terminal.display import Display
from alphamix.ensemble.cli.terminal.formatting import Pace, RecentRate, duration, rate, shortened, time_left
from alphamix.ensemble.cli.terminal.grading_progress import BAR_WIDTH, GradingCounts, bar
from alphamix.ensemble.run.progress_events import Cap, Spent
from alphamix.grading.types import Verdict

_WIDTH_OF_NUMBERS = 62
"""Columns that all but the names take."""
_NARROWEST_NAME = 8
_LINES_BESIDE_POLICIES = 7
_MOST_NAMED = 4
"""Policies in one line of a log."""


@dataclass
class _Policy:
    """One policy, as far as it is known here."""

    planned: int
    sampled: int
    samples: RecentRate
    tokens: RecentRate
    state: Literal["waiting", "under way", "ended"] = "waiting"
    has_answered: bool = False

    @property
    def owed(self) -> int:
        return self.planned - self.sampled


class RunProgress(Display):
    """Shows a run as it goes; see `monitor.Monitor`."""

    def __init__(self, console: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, quiet=quiet, clock=clock)
        now = clock()
        self._policies: dict[str, _Policy] = {}
        self._grading = GradingCounts(now)
        self._spent = Spent(0, 0, 0.0)
        self._cap: Cap | None = None
        self._samples, self._tokens, self._cost = RecentRate(now), RecentRate(now), RecentRate(now)

    def begin(self, progress: pd.DataFrame, cap: Cap | None = None) -> None:
        """Set the totals, also when a plan has grown."""
        now = self.clock()
        with self.lock:
            for name, (planned, sampled) in progress[["planned", "sampled"]].iterrows():
                policy = self._policies.setdefault(str(name), _Policy(0, 0, RecentRate(now), RecentRate(now)))
                policy.planned, policy.sampled = int(planned), int(sampled)
            totals = progress.sum()
            self._spent = Spent(int(totals["sampled"]), int(totals["tokens"]), float(totals["seconds"]))
            self._cap = cap
            self._grading.planned, self._grading.graded = int(totals["planned"]), int(totals["graded"])

    def began(self, policy: str) -> None:
        """Show a policy among those under way."""
        now = self.clock()
        with self.lock:
            one = self._policies[policy]
            one.state, one.has_answered = "under way", False
            one.samples, one.tokens = RecentRate(now), RecentRate(now)

    def ended(self, policy: str) -> None:
        """Show a policy no longer."""
        with self.lock:
            self._policies[policy].state = "ended"

    def sampled(self, policy: str, spent: Spent) -> None:
        """Count samples and what they cost."""
        now = self.clock()
        with self.lock:
            one = self._policies[policy]
            one.has_answered = True
            one.sampled += spent.samples
            for policy_rate, rate_of_all, count in (
                (one.samples, self._samples, spent.samples),
                (one.tokens, self._tokens, spent.tokens),
            ):
                policy_rate.add(count, now)
                rate_of_all.add(count, now)
            self._spent += spent
            if self._cap is not None:
                self._cost.add(spent.of(self._cap.currency), now)
        self.say()

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        with self.lock:
            self._grading.add(verdicts, self.clock())
        self.say()

    def picture(self) -> RenderableType:
        """A table of the policies under way, with totals, verdicts and what is spent below."""
        if not self._policies:
            return Text("getting ready")
        now = self.clock()
        under_way = list(self._in_state("under way").items())
        shown = under_way[: max(1, self.console.height - _LINES_BESIDE_POLICIES)]
        lines = [self._others(len(shown)), self._grading.shares(), self._bill()]
        return Group(
            self._table(shown, now), *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines if line)
        )

    def _table(self, shown: Sequence[tuple[str, _Policy]], now: float) -> Table:
        longest = max(len(name) for name in ("policy", *dict(shown)))
        width = max(_NARROWEST_NAME, min(longest, self.console.width - _WIDTH_OF_NUMBERS))
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("policy", width=width, no_wrap=True)
        table.add_column("", width=BAR_WIDTH)
        for name in ("done", "owed", "samples/s", "tokens/s", "left"):
            table.add_column(name, justify="right", no_wrap=True)
        for name, one in shown:
            left = time_left([Pace(one.owed, one.samples.per_second(now))])
            numbers = [*_rates(one, now), duration(left)] if one.has_answered else ["starting", "", ""]
            table.add_row(Text(shortened(name, width)), bar(one.sampled, one.planned), *_counts(one), *numbers)
        everything = self._everything()
        numbers = [*_rates(everything, now), duration(self._time_left(now))] if everything.owed else []
        table.add_row("all", bar(everything.sampled, everything.planned), *_counts(everything), *numbers, style="bold")
        graded, pace = self._grading.graded, self._grading.pace(now)
        numbers = [rate(pace.per_second), "", duration(time_left([pace]))] if pace.owed else ["reporting"]
        table.add_row("graded", bar(graded, self._grading.planned), f"{graded:,}", f"{pace.owed:,}", *numbers)
        return table

    def line(self) -> str:
        """How far the run is, and how fast each policy under way."""
        now = self.clock()
        everything, grading = self._everything(), self._grading
        under_way = self._in_state("under way")
        named = [
            f"{name} {one.sampled:,}/{one.planned:,} at {rate(one.samples.per_second(now))}/s, "
            f"{rate(one.tokens.per_second(now))} tokens/s"
            if one.has_answered
            else f"{name} starting"
            for name, one in list(under_way.items())[:_MOST_NAMED]
        ]
        if len(under_way) > _MOST_NAMED:
            named.append(f"{len(under_way) - _MOST_NAMED} more under way")
        verdicts = f" ({shares})" if (shares := grading.shares(_MOST_NAMED)) else ""
        parts = [
            f"{everything.sampled:,} sampled and {grading.graded:,} graded{verdicts} of {everything.planned:,}",
            *named,
            self._bill(),
            f"{duration(self._time_left(now))} left",
        ]
        return "; ".join(parts)

    def _in_state(self, state: str) -> dict[str, _Policy]:
        return {name: one for name, one in self._policies.items() if one.state == state}

    def _everything(self) -> _Policy:
        policies = self._policies.values()
        planned, sampled = sum(one.planned for one in policies), sum(one.sampled for one in policies)
        return _Policy(planned, sampled, self._samples, self._tokens)

    def _others(self, num_shown: int) -> str:
        """How many policies are not in the table, by why."""
        rest = [one for one in self._policies.values() if one.state != "under way"]
        counts = {
            "more under way": len(self._in_state("under way")) - num_shown,
            "done": sum(not one.owed for one in rest),
            "waiting": sum(one.owed > 0 and one.state == "waiting" for one in rest),
            "stopped with samples owed": sum(one.owed > 0 and one.state == "ended" for one in rest),
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def _bill(self) -> str:
        """What is spent, of what there is."""
        spent, cap = self._spent, self._cap
        amounts = {"samples": f"{spent.samples:,}", "tokens": f"{spent.tokens:,}"}
        if cap is None:
            return f"spent {amounts['samples']} of {self._everything().planned:,} samples, {amounts['tokens']} tokens"
        share = spent.of(cap.currency) / cap.total
        of_cap = f"{spent.of(cap.currency):,.0f} of {cap.total:,.0f} {cap.currency} ({share:.0%})"
        others = [f"{amount} {currency}" for currency, amount in amounts.items() if currency != cap.currency]
        return "spent " + ", ".join([of_cap, *others])

    def _time_left(self, now: float) -> float | None:
        """Until all is sampled and graded, or nothing is left to spend."""
        answering = [one for one in self._in_state("under way").values() if one.has_answered]
        paces = [Pace(one.owed, one.samples.per_second(now)) for one in answering]
        altogether = Pace(self._everything().owed, self._samples.per_second(now))
        left = time_left([*paces, self._grading.pace(now)], altogether)
        if self._cap is None:
            return left
        cap = Pace(self._cap.total - self._spent.of(self._cap.currency), self._cost.per_second(now))
        return min((one for one in (left, time_left([cap])) if one is not None), default=None)


def _counts(one: _Policy) -> list[str]:
    return [f"{one.sampled:,}", f"{one.owed:,}"]


def _rates(one: _Policy, now: float) -> list[str]:
    return [rate(each.per_second(now)) for each in (one.samples, one.tokens)]
