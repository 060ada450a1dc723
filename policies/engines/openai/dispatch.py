"""Dispatch of requests to the servers of a policy: as places become free, and again where that may help.

Only this module and `failures` decide what is sent again and after how long. The engine decides what one attempt is,
and what its answer means.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias, TypeVar

from alphamix.policies.engines.openai.batched_choices import ChoiceGroup
from alphamix.policies.engines.openai.endpoints import Endpoint, Endpoints
from alphamix.policies.engines.openai.failures import ERRORS, wait_before_retry
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import EngineFailure

T = TypeVar("T")
Attempt: TypeAlias = Callable[[ChoiceGroup, Endpoint, Callable[[T], None]], Awaitable[Sequence[ChoiceGroup]]]
"""Function that asks one server once, hands over the results, and returns what is left to ask. Raises one of
`ERRORS`."""

_MOST_UNTAKEN = 4096
"""Number of results not yet taken above which sending pauses, so that memory does not grow."""
_SECONDS_BETWEEN_LOOKS = 0.02


class Dispatch:
    """Dispatcher that sends groups of requests to servers. It runs on the event loop of the endpoints."""

    def __init__(self, endpoints: Endpoints, options: EngineOptions) -> None:
        self._endpoints = endpoints
        self._options = options

    async def answer(
        self,
        next_waiting: Callable[[], ChoiceGroup | None],
        attempt: Attempt[T],
        failed: Callable[[int, EngineFailure], T],
        put: Callable[[T], None],
        num_untaken: Callable[[], int],
    ) -> None:
        """Send requests until cancelled, so that each gets its outcome.

        Args:
            next_waiting: Takes what is to be sent next; None if nothing waits. `Endpoints.changed` announces more.
            attempt: Asks one server once.
            failed: Makes an outcome from a request's index and a failure.
            put: Hands a result over.
            num_untaken: Returns how many results were handed over and have not been taken yet.
        """
        endpoints, now = self._endpoints, asyncio.get_running_loop().time
        again: deque[ChoiceGroup] = deque()

        def give_up(ask: ChoiceGroup, failure: EngineFailure) -> None:
            for index in range(ask.index, ask.index + len(ask.requests)):
                put(failed(index, failure))

        async def once(ask: ChoiceGroup, endpoint: Endpoint, places: int) -> None:
            sent = now()
            try:
                again.extend(await attempt(ask, endpoint, put))
            except ERRORS as error:
                endpoint.failed(error, sent, now())
                if await self._may_ask_again(ask, endpoint, error):
                    again.append(replace(ask, attempt=ask.attempt + 1))
                else:
                    if ask.attempt > 1:
                        endpoint.gave_up(ask.deadline - self._options.deadline_s)
                    give_up(ask, endpoint.client.failure(error))
            finally:
                endpoints.give_back(endpoint, places)

        async with asyncio.TaskGroup() as group:
            while True:
                endpoints.changed.clear()
                while num_untaken() > _MOST_UNTAKEN:
                    await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
                ask = again.popleft() if again else next_waiting()
                if ask is None:
                    await endpoints.changed.wait()
                elif (place := endpoints.take(len(ask.requests), now())) is not None:
                    endpoint, places = place
                    if places < len(ask.requests):
                        again.appendleft(ask.part(places))
                    group_sent = replace(
                        ask.part(0, places), deadline=min(ask.deadline, now() + self._options.deadline_s)
                    )
                    group.create_task(once(group_sent, endpoint, places))
                elif endpoints.are_gone:
                    client, failure = endpoints.all[0].client, endpoints.all[0].last_failure
                    assert failure is not None
                    give_up(ask, client.failure(failure))
                else:
                    again.appendleft(ask)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(endpoints.seconds_closed(now())):
                            await endpoints.changed.wait()

    async def _may_ask_again(self, ask: ChoiceGroup, endpoint: Endpoint, error: Exception) -> bool:
        """Wait until a request may be repeated, here or at another server. Return False if it must not be."""
        wait = wait_before_retry(error, ask.attempt)
        if wait is None or ask.attempt > self._options.max_retries:
            return False
        now = asyncio.get_running_loop().time()
        if self._endpoints.other_is_up(endpoint, now):
            endpoint.close_until(now + min(wait, self._options.deadline_s))
            return now < ask.deadline
        if now + wait >= ask.deadline:
            return False
        await asyncio.sleep(wait)
        return True
