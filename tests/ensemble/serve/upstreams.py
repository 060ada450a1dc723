"""Upstreams that speak HTTP from a thread of their own, well or badly, as a test tells them."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web

Behaviour = Callable[["FakeUpstream", web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]

USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 2}}
EXTRAS = {"system_fingerprint": "fp", "kv_transfer_params": None, "big": 123456789012345678901234567890}


CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "run", "arguments": '{"code": "print(1)"}'},
}


class FakeUpstream:
    """An OpenAI-compatible server; `behaviour` may be changed at any time."""

    def __init__(self, name: str, behaviour: Behaviour | None = None) -> None:
        self.name = name
        self.behaviour = behaviour or well
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.under_way = threading.Event()
        self.left = threading.Event()
        """Whoever asked has gone before the end."""
        self.go_on = threading.Event()
        """Set by a test when what was streamed so far has arrived."""
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def asked(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        self.bodies.append(raw)
        self.headers.append(request.headers)
        self.under_way.set()
        try:
            return await self.behaviour(self, request, json.loads(raw))
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.set()
            raise

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": "secret-model", "max_model_len": 4096, "root": "/secret/path"}
        return web.json_response({"object": "list", "data": [model]})

    @contextmanager
    def running(self) -> Iterator["FakeUpstream"]:
        loop = asyncio.new_event_loop()
        door = socket.socket(proto=socket.IPPROTO_TCP)
        door.bind(("127.0.0.1", self.port))
        self.port = door.getsockname()[1]
        started = threading.Event()
        stopping = asyncio.Event()

        async def main() -> None:
            app = web.Application(client_max_size=2**26)
            app.router.add_post("/v1/chat/completions", self._answer)
            app.router.add_post("/v1/completions", self._answer)
            app.router.add_get("/v1/models", self._models)
            runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            await web.SockSite(runner, door).start()
            started.set()
            await stopping.wait()
            await runner.cleanup()

        thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
        thread.start()
        assert started.wait(60)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stopping.set)
            thread.join(60)
            loop.close()


def choices_of(name: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Choices that say who speaks, and where."""
    n = body.get("n") or 1
    prompts = body.get("prompt")
    count = n * (len(prompts) if isinstance(prompts, list) else 1)
    logprobs = {"content": [{"token": "a", "logprob": -0.1234567890123456, "bytes": [97], "top_logprobs": []}]}
    return [
        {
            "index": index,
            **(
                {"message": {"role": "assistant", "content": f"{name} {index}", "tool_calls": []}}
                if "messages" in body
                else {"text": f"{name} {index}"}
            ),
            **({"message": {"role": "assistant", "content": None, "tool_calls": [CALL]}} if body.get("tools") else {}),
            "logprobs": logprobs if body.get("logprobs") else None,
            "finish_reason": "tool_calls" if body.get("tools") else "stop",
            "stop_reason": None,
        }
        for index in range(count)
    ]


def whole_body(name: str, body: dict[str, Any]) -> dict[str, Any]:
    kind = "chat.completion" if "messages" in body else "text_completion"
    head = {"id": f"cmpl-{name}", "object": kind, "created": 1, "model": body["model"]}
    return {**head, "choices": choices_of(name, body), "usage": USAGE, **EXTRAS}


def chunks_of(name: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Three chunks of each choice, round and round, and the usage where it was asked for."""
    kind = "chat.completion.chunk" if "messages" in body else "text_completion"
    head = {"id": f"cmpl-{name}", "object": kind, "created": 1, "model": body["model"]}
    indices = range(len(choices_of(name, body)))
    for delta, reason in tool_deltas() if body.get("tools") else ():
        yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
    if body.get("tools"):
        return
    for step, text in enumerate([f"{name} ", "goes ", "on"]):
        for index in indices:
            piece = {"delta": {"content": text}} if "messages" in body else {"text": text}
            reason = "stop" if step == 2 else None
            yield {**head, "choices": [{"index": index, **piece, "logprobs": None, "finish_reason": reason}]}
    if (body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": USAGE}


def tool_deltas() -> Iterator[tuple[dict[str, Any], str | None]]:
    """One tool call as servers stream it: its name first, then its arguments in pieces."""
    function = CALL["function"]
    head = {"index": 0, "id": CALL["id"], "type": "function", "function": {"name": function["name"], "arguments": ""}}
    yield {"role": "assistant", "content": None, "tool_calls": [head]}, None
    for start in range(0, len(function["arguments"]), 7):
        piece = function["arguments"][start : start + 7]
        yield {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None
    yield {}, "tool_calls"


async def events(request: web.Request, parts: AsyncIterator[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    async for part in parts:
        await response.write(part)
    return response


async def well(upstream: FakeUpstream, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """As it should be."""
    if not body.get("stream"):
        return web.json_response(whole_body(upstream.name, body))

    async def parts() -> AsyncIterator[bytes]:
        yield b": a comment\n\n"
        for chunk in chunks_of(upstream.name, body):
            yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    return await events(request, parts())


def status(code: int, body: Any = None, **headers: str) -> Behaviour:
    async def answer(*_: Any) -> web.StreamResponse:
        return web.json_response(body or {"error": {"message": "no"}}, status=code, headers=headers)

    return answer


def says(text: bytes, kind: str = "application/json") -> Behaviour:
    async def answer(*_: Any) -> web.StreamResponse:
        return web.Response(body=text, headers={"content-type": kind})

    return answer


async def hangs(*_: Any) -> web.StreamResponse:
    await asyncio.sleep(600)
    raise AssertionError


async def endless(upstream: FakeUpstream, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A stream that goes on for as long as somebody listens."""

    async def parts() -> AsyncIterator[bytes]:
        first = next(chunks_of(upstream.name, body))
        while True:
            yield b"data: " + json.dumps(first).encode() + b"\n\n"
            await asyncio.sleep(0.01)

    return await events(request, parts())


async def hangs_up(_: FakeUpstream, request: web.Request, __: Any) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


def stream_then(rest: bytes | None, num_chunks: int = 1) -> Behaviour:
    """Some good chunks, then these bytes and the end when the test says so; None: silence."""

    async def answer(upstream: FakeUpstream, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        async def parts() -> AsyncIterator[bytes]:
            for chunk, _ in zip(chunks_of(upstream.name, body), range(num_chunks), strict=False):
                yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
            while rest is None or (num_chunks and not upstream.go_on.is_set()):
                await asyncio.sleep(0.01)
            yield rest or b""

        return await events(request, parts())

    return answer
