"""A policy whose engine is driven from this process; it answers as a remote server would.

Bodies are read strictly (`request_schema`), the engine runs in its thread (`engine_thread`), and its deltas become
objects of the OpenAI API (`responses`), provided that they come in time.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from alphamix.ensemble.serve.backends.engine_thread import DeltaStream, EngineThread, collect, log
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.protocol.api_errors import queue_timeout, timed_out
from alphamix.ensemble.serve.protocol.raw_request import Part, Path, RawRequest, seed_of_choice
from alphamix.ensemble.serve.protocol.request_schema import ChatBody, CompletionBody, RequestBody, read_body
from alphamix.ensemble.serve.protocol.responses import FORMATS, PolicyInfo, ResponseBuilder, encode
from alphamix.policies.types import Completion, Delta, Request

_BODIES: Mapping[Path, type[RequestBody]] = {"chat/completions": ChatBody, "completions": CompletionBody}


class InProcessPolicy:
    """Backend that asks an engine in its thread, and closes it in the end.

    Each request is answered inside of the context `turn`, which may wait until the engine's server is free.
    """

    def __init__(
        self,
        policy: PolicyInfo,
        engine: EngineThread,
        timeouts: Timeouts,
        turn: Callable[[], AbstractAsyncContextManager[None]],
    ) -> None:
        self._policy = policy
        self._engine = engine
        self._timeouts = timeouts
        self._turn = turn
        self.close = engine.close

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Return the body of the answer."""
        async with self._started(request, part) as (builder, deltas):
            return encode(builder.completion(await collect(self._in_time(deltas), builder.num_choices)))

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Yield the data of the events of the answer."""
        opened: set[int] = set()
        completions: dict[int, Completion] = {}
        async with self._started(request, part) as (builder, deltas):
            async for delta in self._in_time(deltas):
                opening = None if delta.index in opened else builder.opening_chunk(delta.index)
                opened.add(delta.index)
                if isinstance(delta.outcome, Completion):
                    completions[delta.index] = delta.outcome
                if events := [encode(chunk) for chunk in (opening, builder.chunk(delta)) if chunk is not None]:
                    yield events
            if request.wants_usage:
                yield [encode(builder.usage_chunk([completions[index] for index in sorted(completions)]))]

    async def describe(self) -> dict[str, Any]:
        """Return nothing, since an engine is not opened only to be described."""
        return {}

    @asynccontextmanager
    async def _started(self, request: RawRequest, part: Part) -> AsyncGenerator[tuple[ResponseBuilder, DeltaStream]]:
        async with self._turn():
            body = read_body(_BODIES[request.path], request.body(self._policy.name, part))
            deltas = self._start(body)
            try:
                yield self._builder(request.path, body), deltas
            finally:
                deltas.leave()

    async def _in_time(self, deltas: DeltaStream) -> AsyncGenerator[Delta]:
        """Yield the deltas as long as none takes too long to come.

        Raises:
            ApiError: 504, a delta takes too long; 429, it does because the engine is answering other requests first.
        """
        name, now = self._policy.name, asyncio.get_running_loop().time
        deadline, limit_s, missing = now() + self._timeouts.total_s, self._timeouts.first_byte_s, "no token"
        try:
            while True:
                async with asyncio.timeout_at(min(deadline, now() + limit_s)):
                    delta = await anext(deltas, None)
                if delta is None:
                    return
                yield delta
                limit_s, missing = self._timeouts.idle_s, "no further token"
        except TimeoutError:
            # An engine that is busy with others is healthy: the circuit breaker must not count this as a fault.
            if not deltas.begun and not self._engine.is_silent(limit_s):
                raise queue_timeout(name, limit_s) from None
            log.error("the engine of policy %r timed out", name)
            raise timed_out(name, f"{missing} within the time-out") from None

    def _builder(self, path: Path, body: RequestBody) -> ResponseBuilder:
        response_format = FORMATS[path]
        return ResponseBuilder(
            format=response_format,
            id=response_format.id_prefix + uuid.uuid4().hex,
            created=int(time.time()),
            model=body.model,
            policy=self._policy,
            num_choices=body.n * len(body.prompts()),
            choices_per_prompt=body.n,
        )

    def _start(self, body: RequestBody) -> DeltaStream:
        seed = secrets.randbits(63) if body.seed is None else body.seed
        prompts = [prompt for prompt in body.prompts() for _ in range(body.n)]
        parameters = body.parameters()
        return self._engine.start(
            [Request(prompt, seed_of_choice(seed, index), parameters) for index, prompt in enumerate(prompts)]
        )
