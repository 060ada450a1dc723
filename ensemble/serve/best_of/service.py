"""Best-of: draws a budget from a policy or an ensemble, runs what it draws, and answers with the best.

Where tests decide, choices are drawn in waves that double, and drawing ends at the first one that passes all: that
spends at most about twice what was needed and asks log2(budget) times, not budget times. Where votes decide, all are
needed, and are drawn at once. `search` does the drawing, `selection` ranks, and the answer is written here.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfLimits, BestOfRequest
from alphamix.ensemble.serve.best_of.search import BestOfSearch
from alphamix.ensemble.serve.metrics import Metrics
from alphamix.ensemble.serve.protocol.api_errors import ApiError, internal, too_many_searches
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import NULL, Fields, RawRequest, encode
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, sum_usage
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher, event

KEEP_ALIVE_S = 10.0
"""Between one comment and the next of a stream that has nothing to say yet."""

log = logging.getLogger("alphamix.serve")


class BestOfService:
    """Answers best-of requests, a bounded number at once."""

    def __init__(
        self, dispatcher: Dispatcher, judging: AsyncJudge, metrics: Metrics, limits: BestOfLimits, timeout_s: float
    ) -> None:
        self._dispatcher = dispatcher
        self._judging = judging
        self._metrics = metrics
        self._limits = limits
        self._timeout_s = timeout_s
        self._under_way = 0

    async def complete(self, request: RawRequest, best_of: BestOfRequest) -> tuple[bytes, dict[str, str]]:
        """Return the body of the answer, and the headers that name its origin.

        Raises:
            ApiError: there is no choice to answer with, or programs cannot be judged here.
        """
        body, headers = await self._answer(request, best_of)
        return body.as_bytes(), headers

    async def start_stream(self, request: RawRequest, best_of: BestOfRequest) -> AsyncGenerator[bytes]:
        """Wait for the answer, at most until the first comment is due; return the events, to be closed by the caller.

        Raises:
            ApiError: as `whole`, where it is known that soon; later it is an event.
        """
        events = self._events(request, asyncio.create_task(self._answer(request, best_of)))
        try:
            await anext(events)
        except BaseException:
            await events.aclose()
            raise
        return events

    async def _events(
        self, request: RawRequest, answer: asyncio.Task[tuple[ResponseJson, dict[str, str]]]
    ) -> AsyncGenerator[bytes]:
        """Yield nothing, then comments until the winner is known, then the winner."""
        try:
            await asyncio.wait({answer}, timeout=KEEP_ALIVE_S)
            if answer.done():
                answer.result()
            yield b""
            while not answer.done():
                yield b": drawing\n\n"
                await asyncio.wait({answer}, timeout=KEEP_ALIVE_S)
            try:
                body, _ = answer.result()
                events = b"".join(event(encode(chunk)) for chunk in chunks_of(body, request.include_usage))
            except ApiError as error:
                yield event(encode(error.as_json()))
                return
            except Exception:
                log.exception("a best-of request broke")
                yield event(encode(internal().as_json()))
                return
            yield events + event(b"[DONE]")
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _answer(self, request: RawRequest, best_of: BestOfRequest) -> tuple[ResponseJson, dict[str, str]]:
        if self._under_way >= self._limits.requests:
            raise too_many_searches(self._limits.requests)
        self._under_way += 1
        try:
            await self._judging.check()
            async with aclosing(
                BestOfSearch(self._dispatcher, self._judging, draws_of(request, best_of), best_of, request.n)
            ) as search:
                await search.run(self._timeout_s)
                return self._written(request, best_of, search)
        finally:
            self._under_way -= 1
            self._judging.forget(best_of.problem)

    def _written(
        self, request: RawRequest, best_of: BestOfRequest, search: BestOfSearch
    ) -> tuple[ResponseJson, dict[str, str]]:
        """Write down the answer, and count what it took."""
        self._metrics.best_of[best_of.select, search.stopped] += 1
        for state, count in search.states().items():
            self._metrics.draws[best_of.select, state] += count
        winners = search.winners()
        first = search.draws[winners[0]]
        choices: list[tuple[int, Fields]] = []
        for index, winner in enumerate(winners):
            choices.append((index, {**search.draws[winner].choice, "index": Raw(b"%d" % index)}))
        usage = sum_usage([body.usage for _, body in search.bodies])
        told = Raw(encode(search.as_json(winners)))
        fields = {**first.body.fields, **self._dispatcher.head(request), "usage": Raw(encode(usage)), "ensemble": told}
        parts = [Part(search.draws[winner].policy, index, 1) for index, winner in enumerate(winners)]
        return ResponseJson(fields, choices), self._dispatcher.headers(parts)


def draws_of(request: RawRequest, best_of: BestOfRequest) -> RawRequest:
    """Make the request whose choices are the draws."""
    fields = {key: value for key, value in request.fields.items() if key not in ("stream", "stream_options")}
    return replace(request, fields={**fields, "n": Raw(b"%d" % best_of.budget)}, n=best_of.budget, stream=False)


def chunks_of(body: ResponseJson, include_usage: bool) -> list[Fields]:
    """Write an answer as the chunks of a stream: of each choice its text and its end, then what was spent.

    `ensemble` stands on the end of the last choice.
    """
    head = {key: value for key, value in body.fields.items() if key not in ("usage", "ensemble")}
    is_chat = "message" in body.choices[0][1]
    if is_chat:
        head["object"] = Raw(b'"chat.completion.chunk"')
    chunks: list[Fields] = []
    for _, choice in body.choices:
        kept = {key: value for key, value in choice.items() if key not in ("message", "finish_reason", "logprobs")}
        end = kept | ({"delta": Raw(b"{}")} if is_chat else {"text": Raw(b'""')})
        said = kept | ({"delta": _delta(choice["message"])} if is_chat else {})
        said |= {"logprobs": choice.get("logprobs", NULL), "finish_reason": NULL}
        end |= {"logprobs": NULL, "finish_reason": choice.get("finish_reason", NULL)}
        chunks += [_chunk(head, [said]), _chunk(head, [end])]
    chunks[-1]["ensemble"] = body.fields["ensemble"]
    return [*chunks, {**_chunk(head, []), "usage": body.fields["usage"]}] if include_usage else chunks


def _chunk(head: Mapping[str, Raw], choices: Sequence[Fields]) -> Fields:
    return {**head, "choices": Raw(encode(choices)), "usage": NULL}


def _delta(message: Raw) -> Raw:
    """A message as a delta: its calls of tools need places."""
    fields = cast("dict[str, Any]", msgspec.json.decode(message))
    calls = fields.get("tool_calls")
    if isinstance(calls, list):
        fields["tool_calls"] = [{"index": index, **call} for index, call in enumerate(cast("list[Any]", calls))]
    return Raw(encode(fields))
