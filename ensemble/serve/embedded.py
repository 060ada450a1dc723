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

from ensemble.serve.answers import Answer, ChatDialect, CompletionDialect, Dialect, Origin, encode
from ensemble.serve.ask import Ask, Path
from ensemble.serve.bodies import Body, ChatBody, CompletionBody, read_body
from ensemble.serve.errors import in_line, timed_out
from ensemble.serve.route import Part, seed_of_choice
from ensemble.serve.timeouts import Timeouts
from ensemble.serve.upstream import Assigned, Call, Upstreams, collect, log
from policies.types import Completion, Delta, Request

KINDS: Mapping[Path, tuple[type[Body], Dialect]] = {
    "chat/completions": (ChatBody, ChatDialect()),
    "completions": (CompletionBody, CompletionDialect()),
}


class Embedded:
    """Asks one policy's engine."""

    def __init__(self, origin: Origin, upstreams: Upstreams, timeouts: Timeouts) -> None:
        self._origin = origin
        self._upstreams = upstreams
        self._timeouts = timeouts

    async def whole(self, ask: Ask, part: Part) -> bytes:
        """Ask, and return the body of the answer.

        Raises:
            ApiError: there is none.
        """
        _, answer, call, choices = self._start(ask, part)
        try:
            return encode(answer.whole(await collect(self._in_time(call), choices)))
        finally:
            call.leave()

    async def stream(self, ask: Ask, part: Part) -> AsyncGenerator[list[bytes]]:
        """Ask, and yield the data of the events of the answer.

        Raises:
            ApiError: there is no stream, or it breaks off.
        """
        body, answer, call, _ = self._start(ask, part)
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

    async def _in_time(self, call: Call) -> AsyncGenerator[Delta]:
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
                raise in_line(name, limit_s) from None
            log.error("the engine of policy %r: time-out", name)
            raise timed_out(name, f"{told} within the time-out") from None

    def _start(self, ask: Ask, part: Part) -> tuple[Body, Answer, Call, int]:
        kind, dialect = KINDS[ask.path]
        body = read_body(kind, ask.body(self._origin.name, part))
        seed = secrets.randbits(63) if body.seed is None else body.seed
        prompts = [prompt for prompt in body.prompts() for _ in range(body.n)]
        choices = [
            Assigned(self._origin.name, Request(prompt, seed_of_choice(seed, index), body.parameters()))
            for index, prompt in enumerate(prompts)
        ]
        answer = Answer(
            dialect=dialect,
            id=dialect.id_prefix + uuid.uuid4().hex,
            created=int(time.time()),
            model=body.model,
            origins=[self._origin] * len(choices),
            choices_per_prompt=body.n,
        )
        return body, answer, self._upstreams.start(choices), len(choices)
