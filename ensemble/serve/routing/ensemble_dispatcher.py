"""Answers a request with several policies: splits its choices, merges the answers, and fails over.

A policy that is asked by its own name answers or fails. In an ensemble, the choices of a policy that fails are split
over the others, as long as none of them has reached the client; after that the stream ends with an error event.
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

from alphamix.ensemble.serve.backends.policy_endpoint import PolicyEndpoint
from alphamix.ensemble.serve.http_io import sse_event
from alphamix.ensemble.serve.protocol.api_errors import ApiError, internal, unknown_model
from alphamix.ensemble.serve.protocol.raw_request import NULL, Fields, Part, RawRequest, encode, turn_of_session
from alphamix.ensemble.serve.protocol.response_bytes import IgnoresNError, ResponseJson, merge_responses, sum_usage
from alphamix.ensemble.serve.protocol.responses import FORMATS
from alphamix.ensemble.serve.routing.split import assign_draws, split

T = TypeVar("T")
_Answer: TypeAlias = tuple[Part, ResponseJson]
_Chunks: TypeAlias = tuple[Part, list[ResponseJson]]

_WAITING_BATCHES = 64
"""Maximum number of batches of chunks that wait for a client before the upstreams are read no further."""

log = logging.getLogger("alphamix.serve")


class Dispatcher:
    """Every policy and ensemble that is served, and the turn of each ensemble."""

    def __init__(self, policies: Mapping[str, PolicyEndpoint], mixtures: Mapping[str, Mapping[str, float]]) -> None:
        self.policies = policies
        self.weights: dict[str, Mapping[str, float]] = {name: {name: 1.0} for name in policies}
        """Weights by policy for each model; an ensemble hides a policy of the same name."""
        self.weights.update(mixtures)
        self._mixtures = frozenset(mixtures)
        self._turns = Counter[str]()

    def plan(self, request: RawRequest) -> list[Part]:
        """Decide which policy answers which choice, and advance the turn; a session always has the same turn.

        Raises:
            ApiError: 404, there is no such model.
        """
        weights = self._weights_of(request.model)
        if request.model not in self._mixtures:
            return [Part(request.model, 0, request.n)]
        if request.n == 1 and request.session is not None:
            return split(self._available(weights), 1, turn_of_session(request.session))
        self._turns[request.model] += 1
        return split(self._available(weights), request.n, self._turns[request.model] - 1)

    def assign_draws(self, model: str, budget: int) -> list[str]:
        """Decide which policy makes which draw of a budget, and advance the turn.

        Raises:
            ApiError: 404, there is no such model.
        """
        weights = self._weights_of(model)
        self._turns[model] += 1
        return assign_draws(self._available(weights), budget, self._turns[model] - 1)

    async def complete(self, request: RawRequest, parts: Sequence[Part]) -> tuple[bytes, dict[str, str]]:
        """Return the body of the answer, and the headers that name its policies.

        Raises:
            ApiError: a choice is unavailable.
        """
        answers = await self._complete_all(request, parts, set())
        bodies = [body for _, body in answers]
        body = bodies[0] if len(bodies) == 1 else merge_responses(bodies)
        body.fields |= self.head(request)
        return body.as_bytes(), self.headers([part for part, _ in answers])

    async def complete_part(self, request: RawRequest, part: Part, failed: set[str]) -> list[_Answer]:
        """Return the answers to one part, each with its own part: more than one if other policies take it over.

        Policies that fail are added to `failed`, and are not asked again for this request. A policy whose server
        ignores `n` is asked for one choice at a time.

        Raises:
            ApiError: a choice is unavailable.
        """
        policy = self.policies[part.policy]
        if policy.ignores_n and part.n > 1:
            return await self._complete_all(request, single_choices(part), failed)
        try:
            return [(part, await policy.complete(request, part))]
        except IgnoresNError:
            return await self._complete_all(request, single_choices(part), failed)
        except ApiError as caught:
            error, others = caught, self._fail_over(request, part, failed, caught)
        answers = await self._complete_all(request, others, failed)
        self._blame(part.policy, error)
        return answers

    async def start_stream(
        self, request: RawRequest, parts: Sequence[Part]
    ) -> tuple[AsyncGenerator[bytes], dict[str, str]]:
        """Wait for the first chunk; return the events, which the caller must close, and the headers.

        Raises:
            ApiError: there is no first chunk.
        """
        stream = self._stream_all(request, parts, set())
        try:
            first = await anext(stream)
        except BaseException:
            await stream.aclose()
            raise
        headers: dict[str, str] = {}
        if request.n == 1:
            headers = self.headers([first[0]])
        elif any(
            first[0] in (part, *single_choices(part)) for part in parts
        ):  # else others have taken over a part: only the choices say which policy they are from
            headers = self.headers(parts)
        return self._events(request, first, stream), headers

    async def _events(
        self, request: RawRequest, first: _Chunks, stream: AsyncGenerator[_Chunks]
    ) -> AsyncGenerator[bytes]:
        """Yield the chunks as server-sent events; those of several calls have one id, and usage summed at the end."""
        head = self.head(request)
        is_joined = request.n > 1 or request.model in self._mixtures
        if is_joined:
            head = {**{name: raw for name, raw in first[1][0].fields.items() if name in ("id", "created")}, **head}
        async with aclosing(stream):
            try:
                yield _sse_events(first[1], head, request, is_joined)
                async for _, bodies in stream:
                    yield _sse_events(bodies, head, request, is_joined)
            except Exception as error:
                if isinstance(error, ApiError):
                    request.record.error = error.code
                yield sse_error(error)
                return
            if is_joined and request.include_usage:
                usage = Raw(encode(sum_usage(request.record.usages)))
                yield sse_event(ResponseJson({**first[1][0].fields, **head, "usage": usage}, []).as_bytes())
            yield sse_event(b"[DONE]")

    async def _complete_all(self, request: RawRequest, parts: Sequence[Part], failed: set[str]) -> list[_Answer]:
        if len(parts) == 1:
            return await self.complete_part(request, parts[0], failed)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self.complete_part(request, part, failed)) for part in parts]
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [answer for task in tasks for answer in task.result()]

    def _stream_all(self, request: RawRequest, parts: Sequence[Part], failed: set[str]) -> AsyncGenerator[_Chunks]:
        streams = [self._stream(request, part, failed) for part in parts]
        return streams[0] if len(streams) == 1 else merge_streams(streams)

    async def _stream(self, request: RawRequest, part: Part, failed: set[str]) -> AsyncGenerator[_Chunks]:
        policy, error, has_begun = self.policies[part.policy], None, False
        singles = single_choices(part) if policy.ignores_n and part.n > 1 else []
        if not singles:
            try:
                async with aclosing(policy.stream(request, part)) as chunks:
                    async for bodies in chunks:
                        has_begun = True
                        yield part, bodies
                    return
            except IgnoresNError:
                singles = single_choices(part)[1:]  # the first choice has been sent
            except ApiError as caught:
                if has_begun:
                    raise
                error, singles = caught, self._fail_over(request, part, failed, caught)
        async with aclosing(self._stream_all(request, singles, failed)) as stream:
            async for chunks in stream:
                if error is not None:
                    self._blame(part.policy, error)
                    error = None
                yield chunks

    def _weights_of(self, model: str) -> Mapping[str, float]:
        if model in self.weights:
            return self.weights[model]
        if model in self.policies:  # at an α that is not listed
            return {model: 1.0}
        raise unknown_model(model, self.weights)

    def _fail_over(self, request: RawRequest, part: Part, failed: set[str], error: ApiError) -> list[Part]:
        """Split a part that failed over the policies that have not failed this request; raise the error if none can."""
        failed.add(part.policy)
        left = {name: weight for name, weight in self._weights_of(request.model).items() if name not in failed}
        if not error.is_retryable or request.model not in self._mixtures or not any(left.values()):
            raise error
        return split(self._available(left), part.n, self._turns[request.model], part.first)

    def _blame(self, policy: str, error: ApiError) -> None:
        """Count the failure of a policy now that another has answered the same request: so it is not the request's."""
        if error.is_doubtful:
            self.policies[policy].breaker.fail()

    def _available(self, weights: Mapping[str, float]) -> Mapping[str, float]:
        """Return the policies that would accept a request now; if there are none, all of them: their errors say why."""
        available = {name: weight for name, weight in weights.items() if self.policies[name].is_available}
        return available if any(available.values()) else weights

    def head(self, request: RawRequest) -> Fields:
        """Return the fields that replace an upstream's: the client's name of the model, and an id for an ensemble."""
        head = {"model": Raw(encode(request.model))}
        if request.model in self._mixtures:
            head["id"] = Raw(encode(FORMATS[request.path].id_prefix + uuid.uuid4().hex))
            head["created"] = Raw(b"%d" % time.time())
        return head

    def headers(self, parts: Sequence[Part]) -> dict[str, str]:
        """Return the headers that name the policy and its α, or, of several policies, the number of choices of each."""
        counts = Counter[str]()
        for part in parts:
            counts[part.policy] += part.n
        if len(counts) > 1:
            return {"x-alphamix-policies": ", ".join(f"{_in_header(name)}={n}" for name, n in counts.items())}
        name, alpha = self.policies[parts[0].policy].policy
        headers = {"x-alphamix-policy": _in_header(name)}
        return headers if alpha is None else {**headers, "x-alphamix-alpha": str(alpha)}


async def merge_streams(streams: Sequence[AsyncGenerator[T]]) -> AsyncGenerator[T]:
    """Yield the items of all streams as they come; at most `_WAITING_BATCHES` wait to be taken.

    Raises:
        Exception: what any of the streams raises; the others are then closed.
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


def single_choices(part: Part) -> list[Part]:
    """Return a part for each choice of a part."""
    return [Part(part.policy, part.first + choice, 1) for choice in range(part.n)]


def sse_error(error: Exception) -> bytes:
    """Return the event that ends a stream with an error: its status has been sent, and clients look for this event."""
    if not isinstance(error, ApiError):
        log.error("a stream failed unexpectedly", exc_info=error)
        error = internal()
    return sse_event(encode(error.as_json()))


def _sse_events(bodies: Sequence[ResponseJson], head: Fields, request: RawRequest, is_joined: bool) -> bytes:
    """Return chunks as events. The usage of one call among several is left out, and any that the client does not want
    if a chunk reports nothing else."""
    events = bytearray()
    for body in bodies:
        if body.fields.get("usage", NULL) != NULL:
            if not body.choices and (is_joined or not request.include_usage):
                continue
            if is_joined:
                body.fields["usage"] = NULL
        body.fields |= head
        events += sse_event(body.as_bytes())
    return bytes(events)


def _in_header(name: str) -> str:
    return quote(name, safe="@+/ ")
