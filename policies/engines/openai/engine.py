"""The engine for any OpenAI-compatible URL, or several of one model: many requests in flight, each with its own seed.

`client` sends a request once, `endpoints` knows the servers, and `dispatch` decides what is sent where and when, and
what is repeated. This module turns answers into outcomes, and checks that a request for several choices brings them.
Whatever goes wrong becomes an `EngineFailure` with a cause, never an answer. `inspect` and `describe` are for
`check_policy`: they return what the server says unchanged, so that its faults can be named.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from alphamix.policies.engines.openai.batched_choices import ChoiceGroup, all_alike, next_choice_group, outcomes
from alphamix.policies.engines.openai.client import Client
from alphamix.policies.engines.openai.dispatch import Attempt, Dispatch
from alphamix.policies.engines.openai.endpoints import Endpoint, Endpoints
from alphamix.policies.engines.openai.failures import ERRORS, classify
from alphamix.policies.engines.openai.loop_session import LoopSession, SessionResult
from alphamix.policies.engines.openai.server_answers import ServerAnswer
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import Completion, Delta, Engine, EngineFailure, PolicyError, Request

R = TypeVar("R", bound=SessionResult)
_Put: TypeAlias = Callable[[R], None]


@dataclass(frozen=True, slots=True)
class _Inspection:
    """What a server says to the request of an index, unjudged."""

    index: int
    outcome: ServerAnswer | EngineFailure


class OpenAIEngine(Engine):
    """Engine that samples from `model` at one URL, or at several that serve the same model.

    The requests of all sessions run on an event loop in a thread of this engine. A session that is closed early
    cancels what it still has in flight. A request keeps its place among those in flight while it waits to be repeated,
    so a server at its limit gets fewer requests. A stream is not repeated once a piece of it has been handed out.
    """

    reproducible = False

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        api_key: str | None,
        options: EngineOptions,
        *,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, Any] | None = None,
        lists_tokens: bool = False,
    ) -> None:
        """Send `headers` and `extra_body`, fields that are not part of the OpenAI API, with every request.

        With `lists_tokens` the server, which must be vLLM, is asked for the tokens of each of several choices, so that
        they are counted rather than split by length.
        """
        urls = [url] if isinstance(url, str) else list(url)
        self._options = options
        self._loop = asyncio.new_event_loop()
        clients = [
            Client(each, model, api_key, headers or {}, extra_body or {}, options, lists_tokens=lists_tokens)
            for each in urls
        ]
        name = f"openai {clients[0].url}"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._endpoints = Endpoints([Endpoint(client, options.concurrency, options.choices) for client in clients])
        self._dispatch = Dispatch(self._endpoints, options)
        self._closing = threading.Lock()

    def describe(self) -> dict[str, Any] | EngineFailure:
        """Return what the first server says about the model: its entry in `models`, if any, and vLLM's `version`."""
        client = self._endpoints.all[0].client

        async def ask() -> dict[str, Any] | EngineFailure:
            try:
                return await client.describe()
            except ERRORS as error:
                return client.failure(error)

        self._check_open()
        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    def inspect(self, requests: Sequence[Request], n: int = 1) -> Iterator[tuple[int, ServerAnswer | EngineFailure]]:
        """Request `n` choices of each request; yield what the server says, unjudged."""

        async def attempt(ask: ChoiceGroup, endpoint: Endpoint, put: _Put[_Inspection]) -> Sequence[ChoiceGroup]:
            put(_Inspection(ask.index, await self._whole(ask, endpoint, n)))
            return ()

        with closing(self._open(1, attempt, _Inspection)) as session:
            session.submit(requests)
            while (said := session.receive()) is not None:
                yield said.index, said.outcome

    def open_session(self, *, stream: bool = False) -> LoopSession[Delta]:
        """Begin a session. Neighbours that differ only in their seeds are sent together, unless they are streamed."""
        most_together, attempt = (1, self._stream) if stream else (self._options.choices, self._sample)
        return self._open(most_together, attempt, lambda index, failure: Delta(index, "", failure))

    def close(self) -> None:
        """Close the connections and stop the thread. Safe to call twice, and from any thread."""

        async def finish() -> None:
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for endpoint in self._endpoints.all:
                await endpoint.client.close()

        with self._closing:
            if self._thread.is_alive():
                asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    def _open(
        self, most_together: int, attempt: Attempt[R], failed: Callable[[int, EngineFailure], R]
    ) -> LoopSession[R]:
        """Begin a session whose requests are answered by attempts at the servers."""
        endpoints = self._endpoints

        async def answer(waiting: Submissions, put: _Put[R], num_untaken: Callable[[], int]) -> None:
            next_waiting = partial(next_choice_group, waiting, most_together)
            async with asyncio.TaskGroup() as group:
                for endpoint in endpoints.all:
                    group.create_task(endpoint.watch_queue(endpoints.changed))
                await self._dispatch.answer(next_waiting, attempt, failed, put, num_untaken)

        self._check_open()
        return LoopSession(self._loop, endpoints.changed.set, answer)

    def _check_open(self) -> None:
        if self._loop.is_closed():
            raise PolicyError("the engine is closed: open the policy again.")

    async def _stream(self, ask: ChoiceGroup, endpoint: Endpoint, put: _Put[Delta]) -> Sequence[ChoiceGroup]:
        """Request one answer, and hand its pieces over as the server sends them."""
        (request,), answer, began, begun = ask.requests, ServerAnswer(), self._loop.time(), False
        blank = ""  # held back, since an answer of only blanks counts as having no text
        pieces = endpoint.client.pieces(answer, request, 1, ask.deadline)
        try:
            async with aclosing(pieces) as coming:
                async for piece in coming:
                    blank += piece
                    if begun or blank.strip():
                        begun = True
                        put(Delta(ask.index, blank))
                        blank = ""
        except ERRORS as error:
            if not begun:
                raise
            endpoint.failed(error, began, self._loop.time())
            put(Delta(ask.index, "", endpoint.client.failure(error)))
            return ()
        endpoint.answered(1, self._loop.time())
        outcome = self._outcomes(answer, endpoint, 1, began)[0]
        # A refusal, or reasoning alone, counts as the text only once no text has come.
        put(Delta(ask.index, outcome.text if isinstance(outcome, Completion) and not begun else "", outcome))
        return ()

    async def _sample(self, ask: ChoiceGroup, endpoint: Endpoint, put: _Put[Delta]) -> Sequence[ChoiceGroup]:
        """Request all samples of a group at once, and return what is left to ask."""
        n, began = len(ask.requests), self._loop.time()
        try:
            answer = await self._whole(ask, endpoint, n)
        except ERRORS as error:
            if n == 1 or classify(error)[0] not in ("rejected", "malformed"):
                raise
            # Either the prompt or `n` may be the cause. If one sample arrives, it was `n`.
            began = self._loop.time()
            answer = await self._whole(ask.part(0, 1), endpoint, 1)
            endpoint.brought_choices(several=False)
            arrived = self._outcomes(answer, endpoint, 1, began)
        else:
            arrived = self._outcomes(answer, endpoint, n, began)
            if n > 1:
                endpoint.brought_choices(several=len(arrived) > 1)
                if all_alike(list(arrived.values()), ask.requests[0]):
                    arrived = await self._without_copies(arrived, ask, endpoint)
        for index, outcome in arrived.items():
            put(Delta(ask.index + index, "", outcome))
        return ask.rest(arrived)

    async def _without_copies(
        self, arrived: dict[int, Completion | EngineFailure], ask: ChoiceGroup, endpoint: Endpoint
    ) -> dict[int, Completion | EngineFailure]:
        """Keep all of several equal choices if the seed of the last, sent alone, gives the same text again; otherwise
        keep only the first.

        A model that is sure of its answer gives equal texts, and they count. A server that draws once and copies gives
        another text when that seed is sent alone. From then on its choices are requested one by one.
        """
        first, last = next(iter(arrived)), max(arrived)
        only_first = {first: arrived[first]}
        if endpoint.choices == 1:
            return only_first
        began = self._loop.time()
        try:
            answer = await self._whole(ask.part(last, last + 1), endpoint, 1)
        except ERRORS as error:  # whether they are copies stays unknown, so the others are requested again
            endpoint.failed(error, began, self._loop.time())
            return only_first
        (alone,) = self._outcomes(answer, endpoint, 1, began).values()
        if all_alike([arrived[first], alone], ask.requests[0]):
            return arrived
        endpoint.choices = 1
        return only_first | {last: alone}

    async def _whole(self, ask: ChoiceGroup, endpoint: Endpoint, n: int) -> ServerAnswer:
        answer = await endpoint.client.whole(ask.requests[0], n, ask.deadline)
        endpoint.answered(n, self._loop.time())
        return answer

    def _outcomes(
        self, answer: ServerAnswer, endpoint: Endpoint, n: int, began: float
    ) -> dict[int, Completion | EngineFailure]:
        url = endpoint.client.url
        arrived = outcomes(answer, url, n, self._loop.time() - began)
        return arrived or {0: EngineFailure("malformed", f"{url} sent no choice: see the server's log.")}
