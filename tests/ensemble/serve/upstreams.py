"""Servers behind the endpoint under test, which answer well or badly, as a test decides."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeAlias

from alphamix.policies.engines.openai.fake_server import (
    EVENTS,
    JSON,
    AnyReply,
    FakeReply,
    FakeRequest,
    FakeServer,
    RawReply,
    completion_body,
    completion_chunks,
    events,
    json_reply,
)

Behaviour: TypeAlias = Callable[["FakeUpstream", FakeRequest], Awaitable[AnyReply]]

USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 2}}
EXTRAS = {"system_fingerprint": "fp", "kv_transfer_params": None, "big": 123456789012345678901234567890}


CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "run", "arguments": '{"code": "print(1)"}'},
}


class FakeUpstream(FakeServer):
    """A fake server with a name; `behaviour` may be changed at any time."""

    def __init__(self, name: str, behaviour: Behaviour | None = None) -> None:
        super().__init__(self._behave)
        self.name = name
        self.behaviour = behaviour or well
        self.go_on = threading.Event()
        """Set by a test when the part of a stream that was sent so far has arrived."""
        model = {"id": "secret-model", "max_model_len": 4096, "root": "/secret/path"}
        self.pages = {"/v1/models": json_reply({"object": "list", "data": [model]})}

    async def _behave(self, request: FakeRequest) -> AnyReply:
        return await self.behaviour(self, request)

    def asked(self) -> list[dict[str, Any]]:
        return [request.json for request in self.requests]


def whole_body(name: str, request: FakeRequest) -> dict[str, Any]:
    """Return a body whose choices say who speaks, and where; or one tool call for a request with tools."""
    texts = [f"{name} {index}" for index in range(request.num_choices)]
    body = completion_body(request, texts, usage=USAGE) | {"id": f"cmpl-{name}", "created": 1, **EXTRAS}
    logprobs = {"content": [{"token": "a", "logprob": -0.1234567890123456, "bytes": [97], "top_logprobs": []}]}
    for choice in body["choices"]:
        choice["stop_reason"] = None
        if request.json.get("logprobs"):
            choice["logprobs"] = logprobs
        if request.is_chat:
            choice["message"]["tool_calls"] = []
        if request.json.get("tools"):
            choice["message"] |= {"content": None, "tool_calls": [CALL]}
            choice["finish_reason"] = "tool_calls"
    return body


def chunks_of(name: str, request: FakeRequest) -> Iterator[dict[str, Any]]:
    """Yield three chunks of each choice in turn, and the usage if the request asks for it; or one tool call."""
    body = whole_body(name, request)
    if request.json.get("tools"):
        head = {"id": body["id"], "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        for delta, reason in tool_deltas():
            yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        return
    text = f"{name} goes on"
    for choice in body["choices"]:
        choice.update({"message": {"content": text}} if request.is_chat else {"text": text})
    yield from completion_chunks(request, body)


def tool_deltas() -> Iterator[tuple[dict[str, Any], str | None]]:
    """One tool call as servers stream it: its name first, then its arguments in pieces."""
    function = CALL["function"]
    head = {"index": 0, "id": CALL["id"], "type": "function", "function": {"name": function["name"], "arguments": ""}}
    yield {"role": "assistant", "content": None, "tool_calls": [head]}, None
    for start in range(0, len(function["arguments"]), 7):
        piece = function["arguments"][start : start + 7]
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None
    yield {}, "tool_calls"


def stream(pieces: AsyncIterator[bytes]) -> FakeReply:
    return FakeReply(pieces, headers={"Content-Type": EVENTS})


async def well(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    """Answer as a server should."""
    if not request.json.get("stream"):
        return json_reply(whole_body(upstream.name, request))
    return events(chunks_of(upstream.name, request), comment="a comment")


def well_after(release: threading.Event) -> Behaviour:
    """Answer once a test says so."""

    async def answer(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
        while not release.is_set():
            await asyncio.sleep(0.02)
        return await well(upstream, request)

    return answer


def status(code: int, body: Any = None, **headers: str) -> Behaviour:
    async def answer(*_: Any) -> AnyReply:
        return json_reply(body or {"error": {"message": "no"}}, code, **headers)

    return answer


def says(text: bytes, kind: str = JSON) -> Behaviour:
    async def answer(*_: Any) -> AnyReply:
        return FakeReply(text, headers={"Content-Type": kind})

    return answer


async def hangs(*_: Any) -> AnyReply:
    await asyncio.sleep(600)
    raise AssertionError


async def endless(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    """A stream that goes on for as long as a client listens."""

    async def pieces() -> AsyncIterator[bytes]:
        first = next(chunks_of(upstream.name, request))
        while True:
            yield b"data: " + json.dumps(first).encode() + b"\n\n"
            await asyncio.sleep(0.01)

    return stream(pieces())


async def hangs_up(*_: Any) -> AnyReply:
    return RawReply()


def stream_then(rest: bytes | None, num_chunks: int = 1) -> Behaviour:
    """Some good chunks, then these bytes and the end when the test says so; None: silence."""

    async def answer(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
        async def pieces() -> AsyncIterator[bytes]:
            for chunk, _ in zip(chunks_of(upstream.name, request), range(num_chunks), strict=False):
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            while rest is None or (num_chunks and not upstream.go_on.is_set()):
                await asyncio.sleep(0.01)
            yield rest or b""

        return stream(pieces())

    return answer
