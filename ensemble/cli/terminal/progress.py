"""Progress of a run or of grading, built on `rich.progress`: a live table on a terminal, an occasional line in a log.

Rates are `RecentRate`s rather than rich's own: `Task.speed` does not fall while nothing arrives, and is unknown for an
engine that reports one batch every few minutes.
"""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import pandas as pd
from rich.console import Console, JustifyMethod, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column, Table
from rich.text import Text

from alphamix.ensemble.cli.terminal.formatting import duration, rate, shares, shortened
from alphamix.ensemble.run.pace import Pace, RecentRate, time_left
from alphamix.ensemble.run.progress_events import Cap, JudgeLoad, Spent
from alphamix.grading.types import Verdict

_REFRESHES_PER_SECOND = 2
_FIRST_GAP_S = 10.0
_LONGEST_GAP_S = 300.0
_GAP_SHARE = 0.05
"""Share of the time since the start that passes between two lines, so that a run of days does not fill its log."""
_BAR_WIDTH = 12
_WIDTH_OF_NUMBERS = 62
"""Width of everything but the names."""
_NARROWEST_NAME = 8
_LINES_BESIDE_POLICIES = 7
_MAX_NAMED = 4
"""Policies, and kinds of verdicts, in one line of a log."""


class LoggedProgress(Progress, ABC):
    """Progress that rich draws on a terminal, and that is otherwise written as an occasional line.

    Args:
        columns: the columns of rich's table of tasks.
        console: where to show it.
        quiet: show nothing.
        clock: seconds from any origin.
    """

    def __init__(
        self, *columns: ProgressColumn, console: Console, quiet: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        is_live = console.is_terminal and not quiet
        super().__init__(
            *columns, console=console, refresh_per_second=_REFRESHES_PER_SECOND, get_time=clock, disable=not is_live
        )
        self._writes_lines = not (console.is_terminal or quiet)
        self._began = clock()
        self._next_line = self._began + _FIRST_GAP_S

    @abstractmethod
    def line(self) -> str:
        """Return the current state as one line for a log."""

    def write_line_if_due(self) -> None:
        """Write a line if the output is a log and the last line is old enough."""
        now = self.get_time()
        if self._writes_lines and now >= self._next_line:
            self._next_line = now + min(max(_FIRST_GAP_S, _GAP_SHARE * (now - self._began)), _LONGEST_GAP_S)
            self.console.print(self.line(), highlight=False, markup=False, soft_wrap=True)


class _TextColumn(ProgressColumn):
    """Column whose text is a function of the task."""

    def __init__(self, heading: str, text_of: Callable[[Task], str], *, justify: JustifyMethod = "right") -> None:
        super().__init__(Column(heading, justify=justify, no_wrap=True))
        self._text_of = text_of

    def render(self, task: Task) -> Text:
        """Return the cell of a task."""
        return Text(self._text_of(task), style="bold" if task.fields.get("is_total") else "")


class _SampleProgress(LoggedProgress):
    """Progress of samples, counted by verdict as they are graded."""

    def __init__(self, *columns: ProgressColumn, console: Console, quiet: bool, clock: Callable[[], float]) -> None:
        self._verdicts: Counter[Verdict] = Counter()  # set before rich's constructor, which draws once
        super().__init__(*columns, console=console, quiet=quiet, clock=clock)
        self._grading = self._new_task("graded")

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count new verdicts."""
        with self._lock:
            self._verdicts.update(verdicts)
            self._count(self._grading, len(verdicts))
        self.write_line_if_due()

    def get_renderable(self) -> RenderableType:
        """Return what a terminal shows."""
        with self._lock:  # rich draws in a thread of its own, while other threads count
            return super().get_renderable()

    def _new_task(self, name: str, *, visible: bool = True, start: bool = True, is_total: bool = False) -> Task:
        # Do not call this with the lock held: `add_task` draws, so it waits for a drawing thread that waits for us.
        rates = RecentRate(self.get_time()), RecentRate(self.get_time())
        task_id = self.add_task(
            name, start, total=0, visible=visible, is_total=is_total, rate=rates[0], tokens_rate=rates[1]
        )
        return self._tasks[task_id]

    def _count(self, task: Task, count: int, num_tokens: int = 0) -> None:
        self.advance(task.id, count)
        task.fields["rate"].add(count, self.get_time())
        task.fields["tokens_rate"].add(num_tokens, self.get_time())

    def _rate(self, task: Task, of: Literal["rate", "tokens_rate"] = "rate") -> float:
        return task.fields[of].per_second(self.get_time())

    def _pace(self, task: Task) -> Pace:
        return Pace(task.remaining or 0, self._rate(task))


class GradingProgress(_SampleProgress):
    """Progress of grading alone, without sampling."""

    def __init__(self, console: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(
            _TextColumn("", lambda _: "grading"),
            BarColumn(_BAR_WIDTH),
            _TextColumn("", lambda task: f"{task.completed:,.0f} of {task.total:,.0f}"),
            _TextColumn("", lambda task: f"{rate(self._rate(task))}/s"),
            _TextColumn("", lambda task: f"{duration(time_left([self._pace(task)]))} left"),
            console=console,
            quiet=quiet,
            clock=clock,
        )

    def begin(self, planned: int, graded: int) -> None:
        """Set how many verdicts are planned, and how many already exist."""
        self.update(self._grading.id, total=planned, completed=graded)

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield a bar, and the shares of verdicts below it."""
        yield self.make_tasks_table(self.tasks)
        yield _one_line(shares(self._verdicts))

    def line(self) -> str:
        """Return the progress and the rate of grading."""
        task = self._grading
        return (
            f"{task.completed:,.0f} graded of {task.total:,.0f}; {rate(self._rate(task))}/s; "
            f"{shares(self._verdicts)}; {duration(time_left([self._pace(task)]))} left"
        )


class RunProgress(_SampleProgress):
    """Progress of a run: the policies under way, grading, and what has been spent. It is a `RunObserver`.

    Each policy is a task of rich: visible while the policy is under way, started once samples have come from it, and
    stopped when the policy has ended.
    """

    def __init__(self, console: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._policies: dict[str, Task] = {}
        name_width = max(_NARROWEST_NAME, console.width - _WIDTH_OF_NUMBERS)
        super().__init__(
            _TextColumn("policy", lambda task: shortened(task.description, name_width), justify="left"),
            BarColumn(_BAR_WIDTH),
            _TextColumn("done", lambda task: f"{task.completed:,.0f}"),
            _TextColumn("owed", lambda task: f"{task.remaining:,.0f}"),
            _TextColumn("samples/s", lambda task: self._speeds(task)[0]),
            _TextColumn("tokens/s", lambda task: self._speeds(task)[1]),
            _TextColumn("left", lambda task: self._speeds(task)[2]),
            console=console,
            quiet=quiet,
            clock=clock,
        )
        self._all = self._new_task("all", is_total=True)
        self._spent = Spent(0, 0, 0.0)
        self._cap: Cap | None = None
        self._cost = RecentRate(clock())
        self._load = JudgeLoad(0, 0, 0, 0)
        self._runs = RecentRate(clock())
        """Programs that the judge has run. Verdicts of equal programs come at once, and say nothing of its pace."""

    def begin(self, progress: pd.DataFrame, cap: Cap | None = None) -> None:
        """Set the totals. This is called again when a plan has grown."""
        for name, (planned, sampled) in progress[["planned", "sampled"]].iterrows():
            policy = str(name)
            if policy not in self._policies:
                self._policies[policy] = self._new_task(policy, visible=False, start=False)
            self.update(self._policies[policy].id, total=int(planned), completed=int(sampled))
        totals = progress.sum()
        with self._lock:
            self._spent = Spent(int(totals["sampled"]), int(totals["tokens"]), float(totals["seconds"]))
            self._cap = cap
            self._load = JudgeLoad(0, 0, 0, 0)
        self.update(self._all.id, total=int(totals["planned"]), completed=int(totals["sampled"]))
        self.update(self._grading.id, total=int(totals["planned"]), completed=int(totals["graded"]))

    def began(self, policy: str) -> None:
        """Show a policy among those under way, and measure its rate from now on."""
        task, now = self._policies[policy], self.get_time()
        self.update(task.id, visible=True, rate=RecentRate(now), tokens_rate=RecentRate(now))
        task.start_time = None  # it counts as started again once samples arrive

    def ended(self, policy: str) -> None:
        """Remove a policy from those under way."""
        self.stop_task(self._policies[policy].id)
        self.update(self._policies[policy].id, visible=False)

    def sampled(self, policy: str, spent: Spent) -> None:
        """Count new samples and what they cost."""
        with self._lock:
            self.start_task(self._policies[policy].id)
            for task in (self._policies[policy], self._all):
                self._count(task, spent.samples, spent.tokens)
            self._spent += spent
            if self._cap is not None:
                self._cost.add(spent.of(self._cap.currency), self.get_time())
        self.write_line_if_due()

    def judging(self, load: JudgeLoad) -> None:
        """Take note of what the judge has done and has to do."""
        with self._lock:
            self._runs.add(load.runs - self._load.runs, self.get_time())
            self._load = load

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the policies that fit on the screen, the totals, and what has been spent."""
        if not self._policies:
            yield Text("getting ready")
            return
        shown = self._under_way()[: max(1, self.console.height - _LINES_BESIDE_POLICIES)]
        yield self.make_tasks_table([*shown, self._all, self._grading])
        lines = self._counts_beside(len(shown)), shares(self._verdicts), self._bill()
        yield from (_one_line(line) for line in lines if line)

    def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
        """Return rich's table of tasks, with headings."""
        table = super().make_tasks_table(tasks)
        table.show_header = True
        table.padding = (0, 2)
        return table

    def line(self) -> str:
        """Return the progress of the run, and of each policy under way."""
        under_way = self._under_way()
        named = [
            f"{task.description} {task.completed:,.0f}/{task.total:,.0f} at {rate(self._rate(task))}/s, "
            f"{rate(self._rate(task, 'tokens_rate'))} tokens/s"
            if task.started
            else f"{task.description} starting"
            for task in under_way[:_MAX_NAMED]
        ]
        if len(under_way) > _MAX_NAMED:
            named.append(f"{len(under_way) - _MAX_NAMED} more under way")
        verdicts = f" ({shares(self._verdicts, _MAX_NAMED)})" if self._verdicts else ""
        done = f"{self._all.completed:,.0f} sampled and {self._grading.completed:,.0f} graded{verdicts}"
        of_all = f"{done} of {self._all.total:,.0f}"
        return "; ".join([of_all, *named, self._bill(), f"{duration(self._run_time_left())} left"])

    def _under_way(self) -> list[Task]:
        return [task for task in self._policies.values() if task.visible]

    def _speeds(self, task: Task) -> tuple[str, str, str]:
        """Return the cells of samples per second, tokens per second and the time left."""
        if not task.started:
            return "starting", "", ""
        if not task.remaining:
            return "reporting" if task is self._grading else "", "", ""
        tokens = "" if task is self._grading else rate(self._rate(task, "tokens_rate"))
        left = self._run_time_left() if task is self._all else time_left([self._pace(task)])
        return rate(self._rate(task)), tokens, duration(left)

    def _counts_beside(self, num_shown: int) -> str:
        """Return how many policies are not in the table, by reason."""
        under_way = self._under_way()
        others = [task for task in self._policies.values() if not task.visible]
        owing = [task for task in others if task.remaining]
        num_waiting = sum(task.stop_time is None for task in owing)
        counts = {
            "more under way": len(under_way) - num_shown,
            "done": len(others) - len(owing),
            "waiting": num_waiting,
            "stopped with samples owed": len(owing) - num_waiting,
        }
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)

    def _bill(self) -> str:
        """Return what has been spent, and out of how much."""
        spent, cap = self._spent, self._cap
        amounts = {"samples": f"{spent.samples:,}", "tokens": f"{spent.tokens:,}"}
        if cap is None:
            return f"spent {amounts['samples']} of {self._all.total:,.0f} samples, {amounts['tokens']} tokens"
        share = spent.of(cap.currency) / cap.total
        of_cap = f"{spent.of(cap.currency):,.0f} of {cap.total:,.0f} {cap.currency} ({share:.0%})"
        others = [f"{amount} {currency}" for currency, amount in amounts.items() if currency != cap.currency]
        return "spent " + ", ".join([of_cap, *others])

    def _pace(self, task: Task) -> Pace:
        """Return the pace of a task; that of grading in programs that the judge has to run, as far as they are known.

        Of samples that it has not seen, as large a share is assumed to need a run as of those that it has.
        """
        load, pace = self._load, super()._pace(task)
        if task is not self._grading or not load.samples:
            return pace
        share = (load.runs + load.waiting_runs) / load.samples
        unseen = max(0, pace.owed - load.waiting_samples)
        return Pace(load.waiting_runs + share * unseen, self._runs.per_second(self.get_time()))

    def _run_time_left(self) -> float | None:
        """Return the seconds until everything is sampled and graded, or the cap is reached."""
        answering = [self._pace(task) for task in self._under_way() if task.started]
        left = time_left([*answering, self._pace(self._grading)], self._pace(self._all))
        if self._cap is None:
            return left
        unspent = Pace(self._cap.total - self._spent.of(self._cap.currency), self._cost.per_second(self.get_time()))
        return min((seconds for seconds in (left, time_left([unspent])) if seconds is not None), default=None)


def _one_line(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")
