"""Servers of one policy: how loaded each is, whether it answers and honours `n`, and which is asked next.

All serve the same model. Each finds its own level of concurrency. A server that fails repeatedly is left out for a
while, then tried with one request. When all servers are left out and trials of them failed, requests fail at once.
"""

import asyncio
import math
import re
from collections.abc import Sequence

import openai

from alphamix.policies.engines.openai.client import Client
from alphamix.policies.engines.openai.concurrency import Level
from alphamix.policies.engines.openai.failures import ERRORS, classify, overloaded, pause

_FAILURES_TO_LEAVE_OUT = 5
"""Failures in a row after which a server is left out for a while."""
_TRIALS = 5
"""Failed trials, each after twice the pause, after which a server counts as gone."""
_GIVEN_UP = 10
"""Requests given up in a row, with no answer since they were sent, after which a server also counts as gone."""
_BAD_GROUPS = 3
"""Requests for several choices in a row that brought at most one, after which choices are requested one by one."""
_SECONDS_BETWEEN_METRICS = 1.0
_WAITING = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


class Endpoint:
    """State of one server."""

    def __init__(self, client: Client, concurrency: int, choices: int) -> None:
        self.client = client
        self.level = Level(concurrency)
        self.in_flight = 0
        """Number of samples in flight."""
        self.choices = choices
        """Maximum number of samples in one request."""
        self.last_failure: Exception | None = None
        self._failures = 0
        self._bad_groups = 0
        self._trials = 0
        self._given_up = 0
        self._answered_at = -math.inf
        self._left_out_since = self._closed_until = -math.inf

    @property
    def is_left_out(self) -> bool:
        """Whether the server failed so often that it is only tried occasionally."""
        return self._failures >= _FAILURES_TO_LEAVE_OUT or self._given_up >= _GIVEN_UP

    @property
    def is_gone(self) -> bool:
        """Whether trials of the server failed. It is still tried occasionally, but no request waits for it."""
        return self._trials >= _TRIALS or self._given_up >= _GIVEN_UP

    def room(self, wanted: int, now: float) -> int:
        """Return how many of `wanted` samples the server can be asked for now, in one request."""
        if now < self._closed_until:
            return 0
        if self.is_left_out:
            return 1 if self.in_flight < self.level.limit else 0
        wanted = min(wanted, self.choices, self.level.limit)
        return wanted if self.in_flight + wanted <= self.level.limit else 0

    def take(self, places: int, now: float) -> None:
        """Occupy places. A server that is left out is not tried again for a while."""
        self.in_flight += places
        if self.is_left_out:
            self._closed_until = now + pause(self._trials + 1)

    def close_until(self, when: float) -> None:
        """Send the server no requests until `when`."""
        self._closed_until = max(self._closed_until, when)

    def seconds_closed(self, now: float) -> float | None:
        """Return the seconds until the server may be asked; None if it may be asked now."""
        return self._closed_until - now if now < self._closed_until else None

    def answered(self, samples: int, now: float) -> None:
        """Count an answer of any kind."""
        self._is_there(now)
        self.level.finished(samples, self.in_flight, now)

    def failed(self, error: Exception, sent: float, now: float) -> None:
        """Count a request that brought no answer. A rejection is an answer, since the server is there."""
        self.last_failure = error
        if overloaded(error):
            self.level.refused(sent, now)
        cause, _ = classify(error)
        if cause in ("rejected", "malformed"):
            self._is_there(now)
        if cause not in ("connection", "server") and not isinstance(error, openai.APITimeoutError):
            return  # a late answer may be the request's fault, but a connection that was never made is not
        if self.is_left_out:
            if sent < self._left_out_since:  # it was already in flight when others failed
                return
            self._trials += 1
        else:
            self._failures += 1
            self._left_out_since = now
        if self.is_left_out:
            self.close_until(now + pause(self._trials + 1))

    def gave_up(self, sent: float) -> None:
        """Count a request that failed at every attempt since it was first sent."""
        if sent > self._answered_at:
            self._given_up += 1

    def brought_choices(self, *, several: bool) -> None:
        """Learn from a request for several choices whether the server returns more than one."""
        self._bad_groups = 0 if several else self._bad_groups + 1
        if self._bad_groups >= _BAD_GROUPS:
            self.choices = 1

    def _is_there(self, now: float) -> None:
        self._failures = self._trials = self._given_up = 0
        self._answered_at = now

    async def watch_queue(self, changed: asyncio.Event) -> None:
        """Read vLLM's metrics repeatedly. A server without metrics is left alone."""
        has_metrics = False
        while True:
            try:
                reported = _WAITING.findall(await self.client.metrics())
                waiting = sum(int(float(value)) for value in reported)
            except ERRORS:
                reported, waiting = [], 0
            if reported:
                has_metrics = True
                self.level.queued(waiting, self.in_flight)
                changed.set()
            elif not has_metrics:
                return
            await asyncio.sleep(_SECONDS_BETWEEN_METRICS)


class Endpoints:
    """All servers of one policy, used on one event loop."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.all = tuple(endpoints)
        self.changed = asyncio.Event()
        """Event that is set when a place may have become free."""

    @property
    def are_gone(self) -> bool:
        """Whether no server is left to ask."""
        return all(endpoint.is_gone for endpoint in self.all)

    def take(self, wanted: int, now: float) -> tuple[Endpoint, int] | None:
        """Occupy places for at most `wanted` samples of one request at the least loaded server.

        Return the server and the number of places; None if no server has room now.
        """
        free = [endpoint for endpoint in self.all if endpoint.room(wanted, now)]
        if not free:
            return None
        endpoint = min(free, key=lambda server: (server.is_left_out, server.in_flight / server.level.limit))
        places = endpoint.room(wanted, now)
        endpoint.take(places, now)
        return endpoint, places

    def give_back(self, endpoint: Endpoint, places: int) -> None:
        """Release places."""
        endpoint.in_flight -= places
        self.changed.set()

    def other_is_up(self, endpoint: Endpoint, now: float) -> bool:
        """Return whether another server could be asked instead."""
        return any(
            other is not endpoint and not other.is_left_out and other.seconds_closed(now) is None for other in self.all
        )

    def seconds_closed(self, now: float) -> float | None:
        """Return the seconds until the next server may be asked; None if that does not depend on time."""
        waits = [endpoint.seconds_closed(now) for endpoint in self.all]
        return min((wait for wait in waits if wait is not None), default=None)
