"""Best-of service: draws a budget from a policy or an ensemble, judges the draws, and answers with the best.

If tests decide, choices are drawn in waves of doubling size until one passes every test: that spends at most about
twice what was needed and takes log2(budget) rounds instead of budget. If votes decide, all choices are needed and are
drawn at once. `search` draws and judges, `selection` ranks, and this module writes the answer.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfLimits, BestOfRequest
from alphamix.ensemble.serve.best_of.search import BestOfSearch
from alphamix.ensemble.serve.best_of.tool_draws import AsyncWorkspaces, ToolDraws
from alphamix.ensemble.serve.http_io import sse_event
from alphamix.ensemble.serve.metrics import Metrics
from alphamix.ensemble.serve.protocol.api_errors import rate_limit
from alphamix.ensemble.serve.protocol.raw_request import NULL, Fields, Part, RawRequest, encode
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, sum_usage
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher, sse_error

KEEP_ALIVE_S = 10.0
"""Time between two comments of a stream that has no answer yet."""


class BestOfService:
    """Answers best-of requests, of which a bounded number may be under way."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        judging: AsyncJudge,
        workspaces: AsyncWorkspaces,
        metrics: Metrics,
        limits: BestOfLimits,
        timeout_s: float,
    ) -> None:
        self._dispatcher = dispatcher
        self._judging = judging
        self._workspaces = workspaces
        self._metrics = metrics
        self._limits = limits
        self._timeout_s = timeout_s
        self._under_way = 0

    async def complete(self, request: RawRequest, best_of: BestOfRequest) -> tuple[bytes, dict[str, str]]:
        """Return the body of the answer, and the headers that name its policies.

        Raises:
            ApiError: there is no choice to answer with, or programs cannot be judged here.
        """
        body, headers = await self._answer(request, best_of)
        return body.as_bytes(), headers

    async def start_stream(
        self, request: RawRequest, best_of: BestOfRequest
    ) -> tuple[AsyncGenerator[bytes], dict[str, str]]:
        """Wait for the answer until the first comment is due; return the events, which the caller must close.

        There are no headers, since the policies of the answer may not be known yet.

        Raises:
            ApiError: as in `complete`, if it happens that soon; later it becomes an event.
        """
        events = self._events(request, asyncio.create_task(self._answer(request, best_of)))
        try:
            await anext(events)
        except BaseException:
            await events.aclose()
            raise
        return events, {}

    async def _events(
        self, request: RawRequest, answer: asyncio.Task[tuple[ResponseJson, dict[str, str]]]
    ) -> AsyncGenerator[bytes]:
        """Yield nothing once, then comments until the answer is known, then the answer."""
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
                events = b"".join(sse_event(encode(chunk)) for chunk in chunks_of(body, request.include_usage))
            except Exception as error:
                yield sse_error(error)
                return
            yield events + sse_event(b"[DONE]")
        finally:
            answer.cancel()
            await asyncio.gather(answer, return_exceptions=True)

    async def _answer(self, request: RawRequest, best_of: BestOfRequest) -> tuple[ResponseJson, dict[str, str]]:
        if self._under_way >= self._limits.requests:
            limit = self._limits.requests
            raise rate_limit(f"{limit} best-of requests are under way, the limit of this server: try again later", 1)
        self._under_way += 1
        try:
            await self._judging.check()
            draws = request_draws(request, best_of.budget)
            tools = None
            if best_of.tool is not None:
                tools = ToolDraws(self._dispatcher, self._workspaces, draws, best_of.tool)
                await self._workspaces.check()
            async with aclosing(
                BestOfSearch(self._dispatcher, self._judging, draws, best_of, request.n, tools)
            ) as search:
                await search.run(self._timeout_s)
                return self._write(request, best_of, search)
        finally:
            self._under_way -= 1
            self._judging.forget(best_of.problem)

    def _write(
        self, request: RawRequest, best_of: BestOfRequest, search: BestOfSearch
    ) -> tuple[ResponseJson, dict[str, str]]:
        """Write the answer with its headers, and count what it took."""
        self._metrics.best_of[best_of.select, search.stopped] += 1
        for state, count in search.states().items():
            self._metrics.draws[best_of.select, state] += count
        winners = [search.draws[index] for index in search.winners()]
        choices = [(index, {**draw.choice, "index": Raw(b"%d" % index)}) for index, draw in enumerate(winners)]
        usage = Raw(encode(sum_usage([body.usage for _, body in search.bodies])))
        summary = Raw(encode(search.as_json()))
        fields = {**winners[0].body.fields, **self._dispatcher.head(request), "usage": usage, "ensemble": summary}
        parts = [Part(draw.policy, index, 1) for index, draw in enumerate(winners)]
        return ResponseJson(fields, choices), self._dispatcher.headers(parts)


def request_draws(request: RawRequest, budget: int) -> RawRequest:
    """Return the request whose choices are the draws; it is never streamed."""
    fields = {key: value for key, value in request.fields.items() if key not in ("stream", "stream_options")}
    return replace(request, fields={**fields, "n": Raw(b"%d" % budget)}, n=budget, stream=False)


def chunks_of(body: ResponseJson, include_usage: bool) -> list[Fields]:
    """Write an answer as the chunks of a stream: for each choice its text and its end, then the usage.

    The last chunk of a choice also has `ensemble`.
    """
    head = {key: value for key, value in body.fields.items() if key not in ("usage", "ensemble")}
    is_chat = "message" in body.choices[0][1]
    if is_chat:
        head["object"] = Raw(b'"chat.completion.chunk"')
    chunks: list[Fields] = []
    for _, choice in body.choices:
        common = {key: value for key, value in choice.items() if key not in ("message", "finish_reason", "logprobs")}
        text = common | ({"delta": _delta(choice["message"])} if is_chat else {})
        text |= {"logprobs": choice.get("logprobs", NULL), "finish_reason": NULL}
        end = common | ({"delta": Raw(b"{}")} if is_chat else {"text": Raw(b'""')})
        end |= {"logprobs": NULL, "finish_reason": choice.get("finish_reason", NULL)}
        chunks += [_chunk(head, [text]), _chunk(head, [end])]
    chunks[-1]["ensemble"] = body.fields["ensemble"]
    return [*chunks, {**_chunk(head, []), "usage": body.fields["usage"]}] if include_usage else chunks


def _chunk(head: Mapping[str, Raw], choices: Sequence[Fields]) -> Fields:
    return {**head, "choices": Raw(encode(choices)), "usage": NULL}


def _delta(message: Raw) -> Raw:
    """Return a message as a delta, in which tool calls need an index."""
    fields = cast("dict[str, Any]", msgspec.json.decode(message))
    calls = fields.get("tool_calls")
    if isinstance(calls, list):
        fields["tool_calls"] = [{"index": index, **call} for index, call in enumerate(cast("list[Any]", calls))]
    return Raw(encode(fields))
