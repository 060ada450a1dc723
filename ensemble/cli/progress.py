"""Progress of a run, or of grading alone: bars on a terminal, a line now and then in a log."""

import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grading.types import Verdict

_SECONDS_BETWEEN_LINES = 10.0


class RunProgress:
    """Shows a run as it goes; see `filling.Monitor`."""

    def __init__(self, console: Console, *, quiet: bool, sampling: bool = True) -> None:
        self._console = console
        self._quiet = quiet
        self._shows_sampling = sampling
        self._bars = Progress(
            TextColumn("{task.description:<9}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._sampling = self._bars.add_task("sampling", total=None, note="", visible=sampling)
        self._grading = self._bars.add_task("grading", total=None, note="")
        self._policy = ""
        self._tokens = 0
        self._done: Counter[str] = Counter()
        self._verdicts: Counter[Verdict] = Counter()
        self._planned = 0
        self._started = time.monotonic()
        self._next_line = self._started

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def begin(self, planned: int, sampled: int, graded: int) -> None:
        """Set the totals."""
        self._planned = planned
        self._done.update(sampled=sampled, graded=graded)
        self._bars.update(self._sampling, total=planned, completed=sampled)
        self._bars.update(self._grading, total=planned, completed=graded)

    def policy(self, name: str) -> None:
        """Show whose turn it is."""
        self._policy = name

    def sampled(self, count: int, tokens: int) -> None:
        """Count samples and tokens."""
        self._done["sampled"] += count
        self._tokens += tokens
        rate = self._tokens / max(time.monotonic() - self._started, 1e-9)
        self._bars.update(self._sampling, advance=count, note=f"{self._policy}  {rate:,.0f} tokens/s")
        self._line()

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts."""
        self._done["graded"] += len(verdicts)
        self._verdicts.update(verdicts)
        self._bars.update(self._grading, advance=len(verdicts), note=self._shares())
        self._line()

    def _shares(self) -> str:
        total = self._verdicts.total()
        return "  ".join(f"{verdict} {count / total:.0%}" for verdict, count in self._verdicts.most_common(4))

    def _line(self) -> None:
        now = time.monotonic()
        if self._quiet or self._console.is_terminal or now < self._next_line:
            return
        self._next_line = now + _SECONDS_BETWEEN_LINES
        sampled, graded = self._done["sampled"], self._done["graded"]
        if self._shows_sampling:
            at = self._policy or "grading"
            self._console.print(f"{sampled} sampled and {graded} graded of {self._planned}, at {at}")
        else:
            self._console.print(f"{graded} graded of {self._planned}: {self._shares()}", highlight=False)
