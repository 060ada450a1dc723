"""A policy on an engine in this process, or on one that takes no request as it stands: it answers as a URL would.

Bodies are read strictly (`bodies`), the engine runs in its thread (`upstream`), and what it says, if it comes in time,
is written down as the OpenAI API has it (`answers`).
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from alphamix.ensemble.serve.backends.engine_threads import Assigned, DeltaStream, EngineThreads, collect, log
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.protocol.api_errors import queue_timeout, timed_out
from alphamix.ensemble.serve.protocol.parts import Part, seed_of_choice
from alphamix.ensemble.serve.protocol.raw_request import Path, RawRequest
from alphamix.ensemble.serve.protocol.request_schema import ChatBody, CompletionBody, RequestBody, read_body
from alphamix.ensemble.serve.protocol.responses import (
    ChatDialect,
    ClientResponse,
    CompletionDialect,
    Dialect,
    PolicyInfo,
    encode,
)
from alphamix.policies.types import Completion, Delta, Request

KINDS: Mapping[Path, tuple[type[RequestBody], Dialect]] = {
    "chat/completions": (ChatBody, ChatDialect()),
    "completions": (CompletionBody, CompletionDialect()),
}


class InProcessPolicy:
    """Asks one policy's engine."""

    def __init__(self, origin: PolicyInfo, upstreams: EngineThreads, timeouts: Timeouts) -> None:
        self._origin = origin
        self._upstreams = upstreams
        self._timeouts = timeouts

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Ask, and return the body of the answer.

        Raises:
            ApiError: there is none.
        """
        _, answer, call, choices = self._start(request, part)
        try:
            return encode(answer.complete(await collect(self._in_time(call), choices)))
        finally:
            call.leave()

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Ask, and yield the data of the events of the answer.

        Raises:
            ApiError: there is no stream, or it breaks off.
        """
        body, answer, call, _ = self._start(request, part)
        opened: set[int] = set()
        whole: dict[int, Completion] = {}
        try:
            async for delta in self._in_time(call):
                opening = None if delta.index in opened else answer.opening_chunk(delta.index)
                opened.add(delta.index)
                if isinstance(delta.outcome, Completion):
                    whole[delta.index] = delta.outcome
                if events := [encode(chunk) for chunk in (opening, answer.chunk(delta)) if chunk is not None]:
                    yield events
            if body.stream_options.include_usage:
                yield [encode(answer.usage_chunk([whole[index] for index in sorted(whole)]))]
        finally:
            call.leave()

    async def describe(self) -> dict[str, Any]:
        """Nothing: an engine is not opened to be described."""
        return {}

    async def close(self) -> None:
        """Do nothing: engines are closed all together, by whoever made them."""

    async def _in_time(self, call: DeltaStream) -> AsyncGenerator[Delta]:
        """Yield the deltas of a call, as long as none takes too long to come.

        Raises:
            ApiError: 504, one does; 429, it takes that long because the engine has others to answer first.
        """
        name, now = self._origin.name, asyncio.get_running_loop().time
        deadline, limit_s, told = now() + self._timeouts.total_s, self._timeouts.first_byte_s, "no token"
        try:
            while True:
                async with asyncio.timeout_at(min(deadline, now() + limit_s)):
                    delta = await anext(call, None)
                if delta is None:
                    return
                yield delta
                limit_s, told = self._timeouts.idle_s, "no further token"
        except TimeoutError:
            if not call.begun and not self._upstreams.is_silent(name, limit_s):
                raise queue_timeout(name, limit_s) from None
            log.error("the engine of policy %r: time-out", name)
            raise timed_out(name, f"{told} within the time-out") from None

    def _start(self, request: RawRequest, part: Part) -> tuple[RequestBody, ClientResponse, DeltaStream, int]:
        kind, dialect = KINDS[request.path]
        body = read_body(kind, request.body(self._origin.name, part))
        seed = secrets.randbits(63) if body.seed is None else body.seed
        prompts = [prompt for prompt in body.prompts() for _ in range(body.n)]
        choices = [
            Assigned(self._origin.name, Request(prompt, seed_of_choice(seed, index), body.parameters()))
            for index, prompt in enumerate(prompts)
        ]
        answer = ClientResponse(
            dialect=dialect,
            id=dialect.id_prefix + uuid.uuid4().hex,
            created=int(time.time()),
            model=body.model,
            origins=[self._origin] * len(choices),
            choices_per_prompt=body.n,
        )
        return body, answer, self._upstreams.start(choices), len(choices)
