"""A circuit breaker: after some failures in a row nobody is sent there for a while, then one request tries again.

Closed: all may pass. Open: none. Half-open: one; if it is answered the circuit closes, else it stays open twice as
long. Pure: the clock comes from outside.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a circuit opens, and for how long."""

    failures: int = 3
    """In a row."""
    first_pause_s: float = 2.0
    longest_pause_s: float = 60.0


class CircuitBreaker:
    """Of one upstream. Whoever is let in by `enter` says how it went: `succeed`, `fail`, or `abandon`."""

    def __init__(self, options: BreakerOptions, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self._failures = 0
        self._pause_s = 0.0
        """Of the last opening; 0 while closed."""
        self._open_until = 0.0
        self._is_trying = False

    @property
    def state(self) -> State:
        """What it is now."""
        if not self._pause_s:
            return "closed"
        return "open" if self._now() < self._open_until else "half-open"

    @property
    def is_passable(self) -> bool:
        """Whether `enter` would let one in."""
        return self.state == "closed" or (self.state == "half-open" and not self._is_trying)

    @property
    def retry_after_s(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self._open_until - self._now()) if self._pause_s else 0.0

    def enter(self) -> bool:
        """Ask to be let in."""
        if not self.is_passable:
            return False
        self._is_trying = self.state == "half-open"
        return True

    def succeed(self) -> None:
        """One that was let in has its answer."""
        self._failures, self._pause_s, self._is_trying = 0, 0.0, False

    def fail(self) -> None:
        """One that was let in got none."""
        self._failures += 1
        if self._is_trying or (not self._pause_s and self._failures >= self._options.failures):
            self._pause_s = min(max(2 * self._pause_s, self._options.first_pause_s), self._options.longest_pause_s)
            self._open_until = self._now() + self._pause_s
        self._is_trying = False

    def abandon(self) -> None:
        """One that was let in left before its answer: this says nothing."""
        self._is_trying = False
