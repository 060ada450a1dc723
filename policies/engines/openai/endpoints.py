"""The servers of one policy: how loaded each is, whether it answers, whether it honours `n`; which is asked next.

All serve the same model. Each finds its own level of concurrency. One that fails again and again is left out for a
while, then tried with one request; when none is left and trying was in vain, the policy's requests fail at once.
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
"""In a row."""
_TRIALS = 5
"""In vain, each after twice the pause, until a server counts as gone."""
_GIVEN_UP = 10
"""Requests in a row that were given up, with no answer since they were sent: then a server counts as gone, too."""
_BAD_GROUPS = 3
"""Requests for several choices, in a row, that brought one or none: then choices are asked for one by one."""
_SECONDS_BETWEEN_METRICS = 1.0
_WAITING = re.compile(r"^vllm:num_requests_waiting(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)


class Endpoint:
    """One server and what is known about it."""

    def __init__(self, client: Client, concurrency: int, choices: int) -> None:
        self.client = client
        self.level = Level(concurrency)
        self.in_flight = 0
        """Samples."""
        self.choices = choices
        """How many may be asked for in one request."""
        self.last_failure: Exception | None = None
        self._failures = 0
        self._bad_groups = 0
        self._trials = 0
        self._given_up = 0
        self._answered_at = -math.inf
        self._left_out_since = self._closed_until = -math.inf

    @property
    def is_left_out(self) -> bool:
        """Whether it failed so often that it is only tried now and then."""
        return self._failures >= _FAILURES_TO_LEAVE_OUT or self._given_up >= _GIVEN_UP

    @property
    def is_gone(self) -> bool:
        """Whether trying it was in vain. It is still tried now and then, but nothing waits for it."""
        return self._trials >= _TRIALS or self._given_up >= _GIVEN_UP

    @property
    def load(self) -> float:
        """Share of its level that is in use."""
        return self.in_flight / self.level.limit

    def room(self, wanted: int, now: float) -> int:
        """How many of `wanted` samples it can be asked for in one request now; 0 if none."""
        if now < self._closed_until:
            return 0
        if self.is_left_out:
            return 1 if self.in_flight < self.level.limit else 0
        wanted = min(wanted, self.choices, self.level.limit)
        return wanted if self.in_flight + wanted <= self.level.limit else 0

    def take(self, places: int, now: float) -> None:
        """Occupy places. A server that is left out is tried no further for a while."""
        self.in_flight += places
        if self.is_left_out:
            self._closed_until = now + pause(self._trials + 1)

    def close_until(self, when: float) -> None:
        """Ask nothing of it until then."""
        self._closed_until = max(self._closed_until, when)

    def seconds_closed(self, now: float) -> float | None:
        """How long until it may be asked; None if it may now, as far as time goes."""
        return self._closed_until - now if now < self._closed_until else None

    def answered(self, samples: int, now: float) -> None:
        """Count an answer, of any kind."""
        self._is_there(now)
        self.level.finished(samples, self.in_flight, now)

    def failed(self, error: Exception, sent: float, now: float) -> None:
        """Count a request that brought no answer. One that was rejected is an answer: the server is there."""
        self.last_failure = error
        if overloaded(error):
            self.level.refused(sent, now)
        cause, _ = classify(error)
        if cause in ("rejected", "malformed"):
            self._is_there(now)
        if cause not in ("connection", "server") and not isinstance(error, openai.APITimeoutError):
            return  # a late answer may be the request's fault: a connection that was never made is not
        if self.is_left_out:
            if sent < self._left_out_since:  # it was under way when others failed
                return
            self._trials += 1
        else:
            self._failures += 1
            self._left_out_since = now
        if self.is_left_out:
            self.close_until(now + pause(self._trials + 1))

    def gave_up(self, sent: float) -> None:
        """Count a request that was repeated in vain since it was first sent."""
        if sent > self._answered_at:
            self._given_up += 1

    def brought_choices(self, *, several: bool) -> None:
        """Learn from a request for several choices: whether more than one came."""
        self._bad_groups = 0 if several else self._bad_groups + 1
        if self._bad_groups >= _BAD_GROUPS:
            self.choices = 1

    def _is_there(self, now: float) -> None:
        self._failures = self._trials = self._given_up = 0
        self._answered_at = now

    async def watch_queue(self, changed: asyncio.Event) -> None:
        """Read vLLM's metrics again and again; a server that has none is left alone."""
        known = False
        while True:
            try:
                told = _WAITING.findall(await self.client.metrics())
                waiting = sum(int(float(value)) for value in told)
            except ERRORS:
                told, waiting = [], 0
            if not told and not known:
                return
            if told:
                known = True
                self.level.queued(waiting, self.in_flight)
                changed.set()
            await asyncio.sleep(_SECONDS_BETWEEN_METRICS)


class Endpoints:
    """All servers of one policy. To be used on one event loop."""

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.all = tuple(endpoints)
        self.changed = asyncio.Event()
        """Set when a place may have become free."""

    @property
    def are_gone(self) -> bool:
        """Whether there is none left to ask."""
        return all(endpoint.is_gone for endpoint in self.all)

    def take(self, wanted: int, now: float) -> tuple[Endpoint, int] | None:
        """Places for up to so many samples of one request, at the least loaded server; None if there are none now."""
        rooms = [(endpoint, endpoint.room(wanted, now)) for endpoint in self.all]
        free = [(endpoint, room) for endpoint, room in rooms if room]
        if not free:
            return None
        endpoint, room = min(free, key=lambda one: (one[0].is_left_out, one[0].load))
        endpoint.take(room, now)
        return endpoint, room

    def give_back(self, endpoint: Endpoint, places: int) -> None:
        """Free places."""
        endpoint.in_flight -= places
        self.changed.set()

    def other_is_up(self, endpoint: Endpoint, now: float) -> bool:
        """Whether another server could be asked instead."""
        return any(
            other is not endpoint and not other.is_left_out and other.seconds_closed(now) is None for other in self.all
        )

    def seconds_closed(self, now: float) -> float | None:
        """How long until the next server may be asked; None if that hangs on something else than time."""
        waits = [endpoint.seconds_closed(now) for endpoint in self.all]
        return min((wait for wait in waits if wait is not None), default=None)
