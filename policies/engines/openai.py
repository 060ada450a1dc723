"""The engine for any OpenAI-compatible URL, or several of one model: many requests in flight, each with its own seed.

`client` asks once, `endpoints` knows the servers, `choices` what one request may ask for at once; what is asked again,
and when, is decided here and in `failures`, and nowhere else. Whatever still goes wrong becomes an `EngineFailure`
with a cause, never an answer. `inspect` and `describe` are for `policies.check`: they return what the server says as it
is, so that a fault of it can be named.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import replace
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from policies.engines import EngineOptions
from policies.engines.answers import ServerAnswer
from policies.engines.choices import Ask, all_alike, asks, outcomes
from policies.engines.client import Client
from policies.engines.endpoints import Endpoint, Endpoints
from policies.engines.failures import ERRORS, classify, wait_before_retry
from policies.types import Completion, Delta, EngineFailure, PolicyError, Reply, Request

T = TypeVar("T")
_Put: TypeAlias = Callable[[T], None]
_Attempt: TypeAlias = Callable[[Ask, Endpoint, _Put[T]], Awaitable[Sequence[Ask]]]
"""Asks one server once, puts what came, and returns what is to be asked again. Raises one of `ERRORS`."""

_MOST_UNTAKEN = 4096
"""Results that lie ready: then nothing more is asked until they are taken, so that memory does not grow."""
_SECONDS_BETWEEN_LOOKS = 0.02


class OpenAIEngine:
    """Samples from `model` at one URL, or at several that serve the same.

    The requests run on an event loop in a thread of this engine. A generator that is closed early cancels
    what it still has in flight. A request holds its place among those in flight while it waits to be repeated, so a
    server that is at its limit is asked less. A stream is not repeated once a piece of it was handed out.
    """

    reproducible = False

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        api_key: str | None,
        options: EngineOptions,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """`extra_body` goes into every request: fields that are no part of the OpenAI API."""
        urls = [url] if isinstance(url, str) else list(url)
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"openai {urls[0]}", daemon=True)
        self._thread.start()
        clients = [Client(one, model, api_key, extra_body or {}, options) for one in urls]
        self._endpoints = Endpoints([Endpoint(one, options.concurrency, options.choices) for one in clients])

    def describe(self) -> dict[str, Any] | EngineFailure:
        """What the (first) server says about the model: its entry in `models`, if any, and vLLM's `version`."""
        client = self._endpoints.all[0].client

        async def ask() -> dict[str, Any] | EngineFailure:
            try:
                return await client.describe()
            except ERRORS as error:
                return client.failure(error)

        return self._begin(ask).result()

    def inspect(self, requests: Sequence[Request], n: int = 1) -> Iterator[tuple[int, ServerAnswer | EngineFailure]]:
        """Ask for `n` choices of each request; what the server says, whatever it is, with the request's index."""

        async def attempt(
            ask: Ask, endpoint: Endpoint, put: _Put[tuple[int, ServerAnswer | EngineFailure]]
        ) -> Sequence[Ask]:
            put((ask.index, await self._whole(ask, endpoint, n)))
            return ()

        return self._run(requests, 1, attempt, lambda index, failure: (index, failure))

    def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer all requests, each as soon as it is whole; neighbours that differ in their seeds alone together."""
        return self._run(requests, self._options.choices, self._sample, Reply)

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        """Answer all requests, piece by piece as the server sends them."""

        async def attempt(ask: Ask, endpoint: Endpoint, put: _Put[Delta]) -> Sequence[Ask]:
            (request,), answer, began, begun = ask.requests, ServerAnswer(), self._loop.time(), False
            pieces = endpoint.client.pieces(answer, request, 1, self._deadline(ask))
            try:
                async with aclosing(pieces) as coming:
                    async for piece in coming:
                        begun = True
                        put(Delta(ask.index, piece))
            except ERRORS as error:
                if not begun:
                    raise
                endpoint.failed(error, began, self._loop.time())
                put(Delta(ask.index, "", endpoint.client.failure(error)))
                return ()
            endpoint.answered(1, self._loop.time())
            put(Delta(ask.index, "", self._outcomes(answer, endpoint, 1, began)[0]))
            return ()

        return self._run(requests, 1, attempt, lambda index, failure: Delta(index, "", failure))

    def close(self) -> None:
        """Close the connections and stop the thread. Safe to call twice."""

        async def finish() -> None:
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for endpoint in self._endpoints.all:
                await endpoint.client.close()

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(
        self,
        requests: Sequence[Request],
        most_together: int,
        attempt: _Attempt[T],
        failed: Callable[[int, EngineFailure], T],
    ) -> Iterator[T]:
        """Answer all requests on the loop, and hand over what comes as it comes."""
        results: SimpleQueue[T | None] = SimpleQueue()

        async def all_of_them() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    watching = [
                        group.create_task(endpoint.watch_queue(self._endpoints.changed))
                        for endpoint in self._endpoints.all
                    ]
                    await self._answer(asks(requests, most_together), attempt, failed, results)
                    for task in watching:
                        task.cancel()
            finally:
                results.put(None)

        running = self._begin(all_of_them)
        try:
            while (item := results.get()) is not None:
                yield item
            running.result()
        finally:
            running.cancel()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Begin to work on the loop."""
        if self._loop.is_closed():
            raise PolicyError("the engine is closed: open the policy again.")
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    async def _answer(
        self,
        waiting: Iterator[Ask],
        attempt: _Attempt[T],
        failed: Callable[[int, EngineFailure], T],
        results: "SimpleQueue[T | None]",
    ) -> None:
        """Send everything, as places become free, until each request has its outcome."""
        endpoints, changed = self._endpoints, self._endpoints.changed
        again: deque[Ask] = deque()
        running: set[asyncio.Task[None]] = set()

        def give_up(ask: Ask, failure: EngineFailure) -> None:
            for index in range(ask.index, ask.index + len(ask.requests)):
                results.put(failed(index, failure))

        async def once(ask: Ask, endpoint: Endpoint, places: int) -> None:
            sent = self._loop.time()
            try:
                again.extend(await attempt(ask, endpoint, results.put))
            except ERRORS as error:
                endpoint.failed(error, sent, self._loop.time())
                if await self._may_ask_again(ask, endpoint, error):
                    again.append(replace(ask, attempt=ask.attempt + 1))
                else:
                    if ask.attempt > 1:
                        endpoint.gave_up(self._deadline(ask) - self._options.deadline_s)
                    give_up(ask, endpoint.client.failure(error))
            finally:
                endpoints.give_back(endpoint, places)

        async with asyncio.TaskGroup() as group:
            while True:
                changed.clear()
                while results.qsize() > _MOST_UNTAKEN:
                    await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
                ask = again.popleft() if again else next(waiting, None)
                if ask is None:
                    if not running:
                        return
                    await changed.wait()
                    continue
                now = self._loop.time()
                if endpoints.are_gone:
                    give_up(ask, self._gone())
                elif (place := endpoints.take(len(ask.requests), now)) is not None:
                    endpoint, places = place
                    if places < len(ask.requests):
                        again.appendleft(ask.part(places))
                    first = ask.part(0, places)
                    if first.deadline is None:
                        first = replace(first, deadline=now + self._options.deadline_s)
                    task = group.create_task(once(first, endpoint, places))
                    running.add(task)
                    task.add_done_callback(running.discard)
                    task.add_done_callback(lambda _: changed.set())
                else:
                    again.appendleft(ask)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(endpoints.seconds_closed(now)):
                            await changed.wait()

    async def _sample(self, ask: Ask, endpoint: Endpoint, put: _Put[Reply]) -> Sequence[Ask]:
        """Ask for all of an ask's samples in one request. What did not come of it is still to be asked."""
        n, began = len(ask.requests), self._loop.time()
        try:
            answer = await self._whole(ask, endpoint, n)
        except ERRORS as error:
            if n == 1 or classify(error)[0] not in ("rejected", "malformed"):
                raise
            found = await self._first_alone(ask, endpoint)
        else:
            found = self._outcomes(answer, endpoint, n, began)
            if n > 1:
                endpoint.brought_choices(several=len(found) > 1)
                if all_alike(list(found.values()), ask.requests[0]):
                    found = await self._without_copies(found, ask, endpoint)
        for index, outcome in found.items():
            put(Reply(ask.index + index, outcome))
        return ask.rest(found)

    async def _first_alone(self, ask: Ask, endpoint: Endpoint) -> dict[int, Completion | EngineFailure]:
        """After a failure that may be the prompt's or due to `n`: if one sample comes, it was `n`."""
        began = self._loop.time()
        answer = await self._whole(ask.part(0, 1), endpoint, 1)
        endpoint.brought_choices(several=False)
        return self._outcomes(answer, endpoint, 1, began)

    async def _without_copies(
        self, found: dict[int, Completion | EngineFailure], ask: Ask, endpoint: Endpoint
    ) -> dict[int, Completion | EngineFailure]:
        """Equal choices: keep all if the last one's seed, asked alone, gives the same again; else only the first.

        A model that is sure of its answer gives equal texts, and they count. A server that draws once and copies is
        told by an answer that differs when asked alone, and is then asked one by one for good.
        """
        (first, *_), last = found, max(found)
        if endpoint.choices > 1:
            began = self._loop.time()
            try:
                answer = await self._whole(ask.part(last, last + 1), endpoint, 1)
            except ERRORS as error:  # not known: the others are asked again
                endpoint.failed(error, began, self._loop.time())
                return {first: found[first]}
            (alone,) = self._outcomes(answer, endpoint, 1, began).values()
            if all_alike([found[first], alone], ask.requests[0]):
                return found
            endpoint.choices = 1
            return {first: found[first], last: alone}
        return {first: found[first]}

    async def _whole(self, ask: Ask, endpoint: Endpoint, n: int) -> ServerAnswer:
        answer = await endpoint.client.whole(ask.requests[0], n, self._deadline(ask))
        endpoint.answered(n, self._loop.time())
        return answer

    def _outcomes(
        self, answer: ServerAnswer, endpoint: Endpoint, n: int, began: float
    ) -> dict[int, Completion | EngineFailure]:
        found = outcomes(answer, endpoint.client.url, n, self._loop.time() - began)
        if not found:
            return {0: EngineFailure("malformed", f"{endpoint.client.url} sent no choice: see the server's log.")}
        return found

    async def _may_ask_again(self, ask: Ask, endpoint: Endpoint, error: Exception) -> bool:
        """Wait as long as it takes until a request may be repeated, here or at another server; False if it may not."""
        wait = wait_before_retry(error, ask.attempt)
        if wait is None or ask.attempt > self._options.max_retries:
            return False
        now = self._loop.time()
        if self._endpoints.other_is_up(endpoint, now):
            endpoint.close_until(now + min(wait, self._options.deadline_s))
            return now < self._deadline(ask)
        if now + wait >= self._deadline(ask):
            return False
        await asyncio.sleep(wait)
        return True

    def _gone(self) -> EngineFailure:
        """Why no server is asked any more."""
        endpoint = self._endpoints.all[0]
        assert endpoint.last_failure is not None
        return endpoint.client.failure(endpoint.last_failure)

    def _deadline(self, ask: Ask) -> float:
        assert ask.deadline is not None  # set when it was first sent
        return ask.deadline
