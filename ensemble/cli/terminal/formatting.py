"""How fast work goes, how long it will take, and how that is written. Pure: the time is always given, in seconds."""

from collections import Counter, deque
from collections.abc import Iterable
from typing import NamedTuple

from alphamix.grading.types import Verdict

_WINDOW_S = 60.0
_FEWEST_MARKS = 5
"""Kept however old they are: of an engine that tells of a batch every few minutes, the last batches are the pace."""
_APART_S = 1.0


class RecentRate:
    """Things per second over the last minute, or over the last few times that any came if that is longer ago.

    A standstill shows as a rate that falls.
    """

    def __init__(self, now: float) -> None:
        self._total = 0.0
        self._marks = deque([(now, 0.0)])
        """Times at which some came, at least a second apart, and how many there were then."""

    def add(self, count: float, now: float) -> None:
        """Count what came."""
        self._total += count
        if now - self._marks[-1][0] >= _APART_S:
            self._marks.append((now, self._total))
            while len(self._marks) > _FEWEST_MARKS and self._marks[1][0] < now - _WINDOW_S:
                self._marks.popleft()

    def per_second(self, now: float) -> float:
        """The rate up to now; 0 before any came."""
        since, before = self._marks[0]
        return (self._total - before) / max(now - since, _APART_S)


class Pace(NamedTuple):
    """What is owed of one kind of work, and how much of it is done per second now."""

    owed: float
    per_second: float


def time_left(at_once: Iterable[Pace], altogether: Pace | None = None) -> float | None:
    """Seconds until work that is done side by side has all ended, at its present pace; None if that is unknown.

    Args:
        at_once: what goes on at the same time: the longest counts.
        altogether: the same and what waits for its turn: it takes no less than all that is owed at the rate of all.
    """
    paces = [pace for pace in (*at_once, *([] if altogether is None else [altogether])) if pace.owed > 0]
    if any(pace.per_second <= 0 for pace in paces):
        return None
    return max((pace.owed / pace.per_second for pace in paces), default=0.0)


def duration(seconds: float | None) -> str:
    """Write a time span as 0:05, 1:02:03 or 3 d 04 h; a dash if it is unknown."""
    if seconds is None:
        return "–"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24:,} d {hours % 24:02} h"
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def rate(per_second: float) -> str:
    """Write a rate with as many digits as tell something."""
    return (
        f"{per_second:,.0f}" if per_second >= 100 else f"{per_second:.1f}" if per_second >= 1 else f"{per_second:.2f}"
    )


def shares(verdicts: Counter[Verdict], most: int = len(Verdict)) -> str:
    """Write what part of the verdicts is of each kind, the commonest first, `most` of them."""
    total = verdicts.total()
    return "  ".join(f"{verdict} {count / total:.0%}" for verdict, count in verdicts.most_common(most))


def shortened(name: str, width: int) -> str:
    """Fit a name into a width by leaving out of its middle: names of a sweep differ at their ends."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"
