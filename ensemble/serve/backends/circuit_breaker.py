"""A circuit breaker: after several failures in a row it lets no request pass for a while, then one as a trial.

A closed circuit lets every request pass, an open one lets none. A half-open circuit lets one pass: if it is answered,
the circuit closes, else it opens for twice as long. The clock is passed in.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from alphamix.ensemble.serve.protocol.api_errors import ApiError

State = Literal["closed", "open", "half-open"]


@dataclass(frozen=True, slots=True)
class BreakerOptions:
    """When a circuit opens, and for how long."""

    failures: int = 3
    """Number of failures in a row that open the circuit."""
    first_pause_s: float = 2.0
    longest_pause_s: float = 60.0


class CircuitBreaker:
    """Circuit breaker of one upstream.

    Each request that `enter` lets in reports its end with `succeed`, `fail` or `abandon`; `recording` does so for it.
    """

    def __init__(self, options: BreakerOptions, now: Callable[[], float]) -> None:
        self._options = options
        self._now = now
        self._failures = 0
        self._pause_s = 0.0
        """Length of the last pause; 0 while closed."""
        self._open_until = 0.0
        self._is_trying = False
        self.is_resting = False
        """Whether the last pause was asked for by the upstream, which has not failed."""

    @property
    def state(self) -> State:
        """The current state."""
        if not self._pause_s:
            return "closed"
        return "open" if self._now() < self._open_until else "half-open"

    @property
    def is_passable(self) -> bool:
        """Whether `enter` would let a request in."""
        return self.state == "closed" or (self.state == "half-open" and not self._is_trying)

    @property
    def retry_after_s(self) -> float:
        """Seconds until the next trial."""
        return max(0.0, self._open_until - self._now()) if self._pause_s else 0.0

    def enter(self) -> bool:
        """Return whether a request may pass; if so, its end must be reported."""
        if not self.is_passable:
            return False
        self._is_trying = self.state == "half-open"
        return True

    @contextmanager
    def recording(self) -> Generator[None]:
        """Report how the request inside the context ends.

        A failure that the request may have caused counts only if its owner calls `fail`, once another has answered it.
        """
        try:
            yield
        except ApiError as error:
            if error.rest_s is not None:
                self.rest(error.rest_s)
            elif error.is_doubtful:
                self.abandon()
            elif error.is_server_error:
                self.fail()
            else:
                self.succeed()
            raise
        except Exception:
            self.fail()
            raise
        except BaseException:  # cancelled or closed: the client left
            self.abandon()
            raise
        self.succeed()

    def succeed(self) -> None:
        """Report that a request was answered."""
        self._failures, self._pause_s, self._is_trying, self.is_resting = 0, 0.0, False, False

    def fail(self) -> None:
        """Report that a request failed."""
        self._failures += 1
        if self.state == "half-open" or (self.state == "closed" and self._failures >= self._options.failures):
            self.is_resting = False
            self._pause_s = min(max(2 * self._pause_s, self._options.first_pause_s), self._options.longest_pause_s)
            self._open_until = self._now() + self._pause_s
        self._is_trying = False

    def rest(self, seconds: float) -> None:
        """Let no request pass for a while, as the upstream asks, but not longer than the longest pause."""
        self.is_resting, self._is_trying = True, False
        self._pause_s = min(seconds, self._options.longest_pause_s)
        self._open_until = self._now() + self._pause_s

    def abandon(self) -> None:
        """Report that a request ended before its answer, which says nothing about the upstream."""
        self._is_trying = False
