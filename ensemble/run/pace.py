"""How fast work is done, and how long the rest of it will take. Every time is given by the caller, in seconds."""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

_WINDOW_S = 60.0
_FEWEST_MARKS = 5
"""Marks that are kept however old they are: an engine may report one batch every few minutes."""
_APART_S = 1.0


class RecentRate:
    """Items per second over the last minute, or over the last few arrivals if those took longer.

    The rate falls while nothing arrives.
    """

    def __init__(self, now: float) -> None:
        self._total = 0.0
        self._marks = deque([(now, 0.0)])
        """Times at least a second apart, and the total at each."""

    def add(self, count: float, now: float) -> None:
        """Count items that have just arrived."""
        self._total += count
        if now - self._marks[-1][0] >= _APART_S:
            self._marks.append((now, self._total))
            while len(self._marks) > _FEWEST_MARKS and self._marks[1][0] < now - _WINDOW_S:
                self._marks.popleft()

    def per_second(self, now: float) -> float:
        """Return the rate up to now; 0 before the first arrival."""
        since, before = self._marks[0]
        return (self._total - before) / max(now - since, _APART_S)


class Pace(NamedTuple):
    """Work of one kind: how much is owed, and how much of it is done per second."""

    owed: float
    per_second: float


def time_left(side_by_side: Iterable[Pace], altogether: Pace | None = None) -> float | None:
    """Return the seconds until all work has ended if every pace stays as it is, or None if that is unknown.

    Args:
        side_by_side: work that is done at the same time, so that the longest counts.
        altogether: that work and the work that waits for it. The total takes at least as long as this at its own pace.
    """
    paces = [pace for pace in (*side_by_side, *([] if altogether is None else [altogether])) if pace.owed > 0]
    if any(pace.per_second <= 0 for pace in paces):
        return None
    return max((pace.owed / pace.per_second for pace in paces), default=0.0)
