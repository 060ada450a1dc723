"""A policy on an engine in this process, or on one that takes no request as it stands: it answers as a URL would.

Bodies are read strictly (`bodies`), the engine runs in its thread (`upstream`), and what it says is written down as
the OpenAI API has it (`answers`).
"""

import secrets
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from ensemble.serve.answers import Answer, ChatDialect, CompletionDialect, Dialect, Origin, encode
from ensemble.serve.ask import Ask, Path
from ensemble.serve.bodies import Body, ChatBody, CompletionBody, read_body
from ensemble.serve.route import Part, seed_of_choice
from ensemble.serve.upstream import Assigned, Call, Upstreams, collect
from policies.types import Completion, Request

KINDS: Mapping[Path, tuple[type[Body], Dialect]] = {
    "chat/completions": (ChatBody, ChatDialect()),
    "completions": (CompletionBody, CompletionDialect()),
}


class Embedded:
    """Asks one policy's engine."""

    def __init__(self, origin: Origin, upstreams: Upstreams) -> None:
        self._origin = origin
        self._upstreams = upstreams

    async def whole(self, ask: Ask, part: Part) -> bytes:
        """Ask, and return the body of the answer.

        Raises:
            ApiError: there is none.
        """
        _, answer, call, choices = self._start(ask, part)
        try:
            return encode(answer.whole(await collect(call, choices)))
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
            async for delta in call:
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
