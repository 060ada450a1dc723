"""Progress of grading: a bar with verdict shares on a terminal, a line now and then in a log."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.cli.terminal.display import Display
from alphamix.ensemble.cli.terminal.formatting import Pace, RecentRate, duration, rate, shares, time_left
from alphamix.grading.types import Verdict

BAR_WIDTH = 12


class GradingCounts:
    """Verdicts so far, and how fast they come."""

    def __init__(self, now: float) -> None:
        self.planned = 0
        self.graded = 0
        self.rate = RecentRate(now)
        self._verdicts: Counter[Verdict] = Counter()

    def add(self, verdicts: Sequence[Verdict], now: float) -> None:
        """Count verdicts."""
        self.graded += len(verdicts)
        self.rate.add(len(verdicts), now)
        self._verdicts.update(verdicts)

    def shares(self, most: int = len(Verdict)) -> str:
        """Of the verdicts that came while this was watched."""
        return shares(self._verdicts, most)

    def pace(self, now: float) -> Pace:
        """What is left to grade, and how fast that goes."""
        return Pace(self.planned - self.graded, self.rate.per_second(now))


class GradingProgress(Display):
    """Shows grading where nothing is sampled."""

    def __init__(self, console: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, quiet=quiet, clock=clock)
        self._grading = GradingCounts(clock())

    def begin(self, planned: int, graded: int) -> None:
        """Set the totals."""
        with self.lock:
            self._grading.planned, self._grading.graded = planned, graded

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        with self.lock:
            self._grading.add(verdicts, self.clock())
        self.say()

    def picture(self) -> RenderableType:
        """A bar and a line."""
        pace = self._grading.pace(self.clock())
        table = Table.grid(padding=(0, 1))
        table.add_row(
            "grading",
            bar(self._grading.graded, self._grading.planned),
            f"{self._grading.graded:,} of {self._grading.planned:,}",
            f"{rate(pace.per_second)}/s",
            f"{duration(time_left([pace]))} left",
        )
        return Group(table, Text(self._grading.shares(), no_wrap=True, overflow="ellipsis"))

    def line(self) -> str:
        """How far it is."""
        pace = self._grading.pace(self.clock())
        parts = [
            f"{self._grading.graded:,} graded of {self._grading.planned:,}",
            f"{rate(pace.per_second)}/s",
            self._grading.shares(),
            f"{duration(time_left([pace]))} left",
        ]
        return "; ".join(parts)


def bar(done: int, total: int) -> ProgressBar:
    """How much of a total is done."""
    return ProgressBar(max(total, 1), done, width=BAR_WIDTH)
