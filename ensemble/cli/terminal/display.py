"""What a command shows while it works: a picture kept up to date on a terminal, a line now and then in a log."""

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live

_PICTURES_PER_SECOND = 2
_FIRST_GAP_S = 10.0
_LONGEST_GAP_S = 300.0
_GAP_SHARE = 0.05
"""Of the time since the start that passes between two lines, so that a run of days does not fill its log."""


class Display(ABC):
    """Shows something that changes, while it is open.

    Args:
        console: where to; whether it is a terminal decides how.
        quiet: show nothing.
        clock: seconds, from any start.
    """

    def __init__(self, console: Console, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.lock = threading.RLock()
        """Held while what is shown changes, since the picture is drawn in a thread of its own."""
        self._in_pictures = console.is_terminal and not quiet
        self._live: Live | None = None
        self._in_lines = not (console.is_terminal or quiet)
        self._started = clock()
        self._next_line = self._started + _FIRST_GAP_S

    def __enter__(self) -> Self:
        if self._in_pictures:
            self._live = Live(console=self.console, get_renderable=self._draw, refresh_per_second=_PICTURES_PER_SECOND)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @abstractmethod
    def picture(self) -> RenderableType:
        """For a terminal."""

    @abstractmethod
    def line(self) -> str:
        """For a log."""

    def say(self) -> None:
        """Write a line to the log, if it is time."""
        now = self.clock()
        if self._in_lines and now >= self._next_line:
            self._next_line = now + min(max(_FIRST_GAP_S, _GAP_SHARE * (now - self._started)), _LONGEST_GAP_S)
            self.console.print(self.line(), highlight=False, markup=False, soft_wrap=True)

    def _draw(self) -> RenderableType:
        with self.lock:
            return self.picture()
