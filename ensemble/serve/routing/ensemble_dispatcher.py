"""Joins policies to ensembles: splits the choices of a request, merges the answers, gives a fault's share to others.

A policy that was asked for by its own name answers or fails. In an ensemble, what one policy cannot answer is split
over the others, as long as nothing of it has reached the client; after that the stream ends with an error event.
"""

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import TypeAlias, TypeVar
from urllib.parse import quote

from msgspec import Raw

from alphamix.ensemble.serve.backends.in_process import KINDS
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyEndpoint
from alphamix.ensemble.serve.protocol.api_errors import ApiError, internal, unknown_model
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import Fields, RawRequest, encode
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, merge_responses, sum_usage
from alphamix.ensemble.serve.routing.split import assign_draws, split, turn_of_session

T = TypeVar("T")
_Answered: TypeAlias = tuple[Part, list[ResponseJson]]

_WAITING_BATCHES = 64
"""Of chunks, that may wait for a client, before the upstreams are read no further."""

log = logging.getLogger("alphamix.serve")


class Dispatcher:
    """All policies and ensembles that are served; holds whose turn it is."""

    def __init__(self, policies: Mapping[str, PolicyEndpoint], mixtures: Mapping[str, Mapping[str, float]]) -> None:
        self.policies = policies
        self.weights: dict[str, Mapping[str, float]] = {name: {name: 1.0} for name in policies}
        """Of each policy and each ensemble; an ensemble hides a policy of the same name."""
        self.weights.update(mixtures)
        self._mixtures = frozenset(mixtures)
        self._turns = Counter[str]()

    def plan(self, request: RawRequest, session: str | None) -> list[Part]:
        """Say who answers which choice, and move on; a session has the same turn every time.

        Raises:
            ApiError: 404, there is no such model.
        """
        weights = self._weights_of(request.model)
        if request.model not in self._mixtures:
            return [Part(request.model, 0, request.n)]
        if request.n == 1 and session is not None:
            return split(self._available(weights), 1, turn_of_session(session))
        self._turns[request.model] += 1
        return split(self._available(weights), request.n, self._turns[request.model] - 1)

    async def complete(self, request: RawRequest, parts: Sequence[Part]) -> tuple[bytes, dict[str, str]]:
        """Return the body of the answer, and the headers that name its origin.

        Raises:
            ApiError: a choice cannot be had.
        """
        answered = await self._wholes(request, parts, set())
        bodies = [body for _, (body,) in answered]
        body = bodies[0] if len(bodies) == 1 else merge_responses(bodies)
        body.fields |= self.head(request)
        return body.as_bytes(), self.headers([part for part, _ in answered])

    def assign_draws(self, model: str, budget: int) -> list[str]:
        """Say which policy makes which draw of a budget, and move on.

        Raises:
            ApiError: 404, there is no such model.
        """
        weights = self._weights_of(model)
        self._turns[model] += 1
        return assign_draws(self._available(weights), budget, self._turns[model] - 1)

    async def complete_part(self, request: RawRequest, part: Part) -> list[tuple[Part, ResponseJson]]:
        """Answer one part, or have others of the ensemble do so; return who answered what.

        Raises:
            ApiError: it cannot be had.
        """
        return [(answered, body) for answered, (body,) in await self._whole(request, part, set())]

    async def start_stream(
        self, request: RawRequest, parts: Sequence[Part]
    ) -> tuple[AsyncGenerator[bytes], dict[str, str]]:
        """Wait for the first chunk; return the events, to be closed by the caller, and the headers.

        Raises:
            ApiError: there is none.
        """
        stream = self._streams(request, parts, set())
        try:
            first = await anext(stream)
        except BaseException:
            await stream.aclose()
            raise
        # Where a share went to others before the first chunk, each choice still names its policy.
        named = self.headers([first[0]] if request.n == 1 else parts) if request.n == 1 or first[0] in parts else {}
        return self._events(request, first, stream), named

    async def _events(
        self, request: RawRequest, first: _Answered, stream: AsyncGenerator[_Answered]
    ) -> AsyncGenerator[bytes]:
        """Write the chunks as server-sent events; of an ensemble under one id, with usage summed at the end."""
        head = self.head(request)
        is_mixture = request.model in self._mixtures
        usages: list[ResponseJson] = []
        async with aclosing(stream):
            try:
                yield self._written(first[1], head, usages if is_mixture else None)
                async for _, bodies in stream:
                    yield self._written(bodies, head, usages if is_mixture else None)
            except ApiError as error:  # the status is sent already: clients look for an error event
                yield event(encode(error.as_json()))
                return
            except Exception:
                log.exception("a stream broke")
                yield event(encode(internal().as_json()))
                return
            if usages:
                usage = Raw(encode(sum_usage([body.usage for body in usages])))
                yield event(ResponseJson({**usages[0].fields, **head, "usage": usage}, []).as_bytes())
            yield event(b"[DONE]")

    @staticmethod
    def _written(bodies: list[ResponseJson], head: Fields, usages: list[ResponseJson] | None) -> bytes:
        events = bytearray()
        for body in bodies:
            if usages is not None and not body.choices and body.usage is not None:
                usages.append(body)
                continue
            body.fields |= head
            events += event(body.as_bytes())
        return bytes(events)

    async def _wholes(self, request: RawRequest, parts: Sequence[Part], failed: set[str]) -> list[_Answered]:
        if len(parts) == 1:
            return await self._whole(request, parts[0], failed)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._whole(request, part, failed)) for part in parts]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [answered for task in tasks for answered in task.result()]

    async def _whole(self, request: RawRequest, part: Part, failed: set[str]) -> list[_Answered]:
        try:
            return [(part, [await self.policies[part.policy].complete(request, part)])]
        except ApiError as error:
            others = self._others(request, part, failed, error)
        return await self._wholes(request, others, failed)

    async def _streams(self, request: RawRequest, parts: Sequence[Part], failed: set[str]) -> AsyncGenerator[_Answered]:
        streams = [self._stream(request, part, failed) for part in parts]
        async with aclosing(streams[0] if len(streams) == 1 else merge_streams(streams)) as stream:
            async for answered in stream:
                yield answered

    async def _stream(self, request: RawRequest, part: Part, failed: set[str]) -> AsyncGenerator[_Answered]:
        has_begun = False
        try:
            async with aclosing(self.policies[part.policy].stream(request, part)) as chunks:
                async for bodies in chunks:
                    has_begun = True
                    yield part, bodies
                return
        except ApiError as error:
            if has_begun:
                raise
            others = self._others(request, part, failed, error)
        async with aclosing(self._streams(request, others, failed)) as stream:
            async for answered in stream:
                yield answered

    def _weights_of(self, model: str) -> Mapping[str, float]:
        if model in self.weights:
            return self.weights[model]
        if model in self.policies:  # at an α that is not listed
            return {model: 1.0}
        raise unknown_model(model, self.weights)

    def _others(self, request: RawRequest, part: Part, failed: set[str], error: ApiError) -> list[Part]:
        """Split a part that failed over those of its ensemble that have not failed this request; raise if none can."""
        failed.add(part.policy)
        left = {name: weight for name, weight in self._weights_of(request.model).items() if name not in failed}
        if not error.is_retryable or request.model not in self._mixtures or not any(left.values()):
            raise error
        return split(self._available(left), part.n, self._turns[request.model], part.first)

    def _available(self, weights: Mapping[str, float]) -> Mapping[str, float]:
        """Leave out who is out of service or full; if that leaves nobody, all may say so themselves."""
        available = {name: weight for name, weight in weights.items() if self.policies[name].is_available}
        return available if any(available.values()) else weights

    def head(self, request: RawRequest) -> Fields:
        """Make what replaces fields of upstreams: the model's name as clients know it; of an ensemble, an id."""
        head = {"model": Raw(encode(request.model))}
        if request.model in self._mixtures:
            head["id"] = Raw(encode(KINDS[request.path][1].id_prefix + uuid.uuid4().hex))
            head["created"] = Raw(b"%d" % time.time())
        return head

    def headers(self, parts: Sequence[Part]) -> dict[str, str]:
        """Name the policy and its α where one alone answers, else how many choices of each prompt come from whom."""
        counts = Counter[str]()
        for part in parts:
            counts[part.policy] += part.n
        if len(counts) > 1:
            return {"x-alphamix-policies": ", ".join(f"{_in_header(name)}={n}" for name, n in counts.items())}
        name, alpha = self.policies[parts[0].policy].origin
        headers = {"x-alphamix-policy": _in_header(name)}
        return headers if alpha is None else {**headers, "x-alphamix-alpha": str(alpha)}


async def merge_streams(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield what any of the streams has, as it comes; at most `_WAITING_BATCHES` wait to be taken.

    Raises:
        Whatever one of them raises; the others are closed then.
    """
    waiting: asyncio.Queue[tuple[T] | Exception | None] = asyncio.Queue(_WAITING_BATCHES)

    async def pump(stream: AsyncGenerator[T]) -> None:
        try:
            async with aclosing(stream):
                async for item in stream:
                    await waiting.put((item,))
        except Exception as error:
            await waiting.put(error)
        else:
            await waiting.put(None)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    try:
        unfinished = len(tasks)
        while unfinished:
            match await waiting.get():
                case None:
                    unfinished -= 1
                case Exception() as error:
                    raise error
                case (item,):
                    yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def event(data: bytes) -> bytes:
    """Write a server-sent event."""
    return b"data: " + data + b"\n\n"


def _in_header(name: str) -> str:
    return quote(name, safe="@+/ ")
