"""Concurrency of one server: a level of samples in flight that adapts by itself, up to a maximum.

The level doubles while that raises the throughput, rests where it no longer does, and tries a higher value from time
to time. A refusal (429, 503, a time-out) cuts it once for all requests in flight by then, as in additive increase and
multiplicative decrease (Chiu and Jain 1989). If the server reports the length of its queue, that is used instead: the
level grows while the queue is empty, and falls by the excess when the queue is too long. This module has no clock and
no HTTP: callers pass the times.
"""

import math

FIRST_LEVEL = 32
_WORTH_IT = 1.05
"""Factor by which the throughput must rise for a higher level to stay."""
_CUT = 0.7
_STEP = 1.25
"""Factor by which a resting level is raised for a trial."""
_ROUNDS_OF_REST = 8
_WAITING_SHARE = 0.1
"""Share of the level that may wait at the server. A queue of this length keeps it busy; a longer one gains nothing."""


class Level:
    """Number of samples that may be in flight to one server.

    Args:
        most: never exceeded.

    Times are seconds of any clock that does not jump, the same in all calls.
    """

    def __init__(self, most: int) -> None:
        self.limit = min(FIRST_LEVEL, most)
        self._most = most
        self._paying, self._best_rate = self.limit, 0.0
        """Last level that raised the throughput, and the throughput there, in samples per second."""
        self._factor = 2.0
        self._rounds_to_rest = 0
        self._cut_at = -math.inf
        self._queue_is_known = False
        self._begin_round()

    def finished(self, samples: int, in_flight: int, now: float) -> None:
        """Count samples that came back while `in_flight` samples, including these, were in flight."""
        self._finished += samples
        self._full = self._full and in_flight >= 0.9 * self.limit
        if self._settled_at is None and self._finished >= self.limit:  # those of the level before are back
            self._settled_at, self._finished = now, 0
        elif self._settled_at is not None and self._finished >= self.limit:
            seconds = now - self._settled_at
            if self._full and not self._queue_is_known and seconds > 0:
                self._judge(self._finished / seconds)
            self._begin_round()

    def refused(self, sent: float, now: float) -> None:
        """Cut the level, unless the request was sent before the last cut and so says nothing about the level since."""
        if sent < self._cut_at:
            return
        self._cut_at = now
        self._rest_at(max(1, int(self.limit * _CUT)), 0.0)
        self._begin_round()

    def queued(self, waiting: int, in_flight: int) -> None:
        """Adapt to the server's own queue, in which `waiting` requests are accepted but not yet started."""
        self._queue_is_known = True
        tolerated = max(1, int(_WAITING_SHARE * self.limit))
        if waiting > tolerated:
            self.limit = max(1, min(self.limit, in_flight) - (waiting - tolerated))
        elif waiting == 0 and in_flight >= 0.9 * self.limit:
            self.limit = min(self._most, math.ceil(self.limit * 1.5))

    def _judge(self, rate: float) -> None:
        """Raise a level that pays, and go back from one that does not."""
        if self._rounds_to_rest > 0:
            self._rounds_to_rest -= 1
            self._best_rate = rate
            if self._rounds_to_rest == 0:
                self._go_up()
        elif rate > self._best_rate * _WORTH_IT:
            self._paying, self._best_rate = self.limit, rate
            self._go_up()
        else:
            self._rest_at(self._paying, rate)

    def _go_up(self) -> None:
        self._paying = self.limit
        self.limit = min(self._most, math.ceil(self.limit * self._factor))

    def _rest_at(self, limit: int, rate: float) -> None:
        self.limit, self._paying, self._best_rate = limit, limit, rate
        self._factor, self._rounds_to_rest = _STEP, _ROUNDS_OF_REST

    def _begin_round(self) -> None:
        self._finished, self._full = 0, True
        self._settled_at: float | None = None
