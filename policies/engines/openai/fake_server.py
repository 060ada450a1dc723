"""A fake OpenAI-compatible server, with which clients are tested and tried out without a model.

    with FakeServer() as server:
        client = OpenAI(base_url=server.url, api_key="none")
        client.chat.completions.create(model="any", messages=[{"role": "user", "content": "Hi"}], n=2)
    assert server.requests[0].json["n"] == 2

By default it invents text as vLLM would return it: `n`, `seed`, `stop`, `max_tokens`, `stream` and usage are honoured.
A function decides otherwise, and may misbehave as real servers do:

    def sometimes_busy(request: FakeRequest) -> FakeReply:
        if request.number % 3 == 0:
            return error(429, **{"Retry-After": "1"})
        return completion(request, [f"print({request.seed})"] * request.num_choices)

    with FakeServer(sometimes_busy) as server: ...

`RawReply` writes bytes that are not HTTP, and cuts or resets the connection. To run a server in a process of its own:

    python -m alphamix.policies.engines.openai.fake_server --port 8001 --text "print({seed})"

This module needs only the standard library, so that it starts at once. It is not a full web server: it reads only
requests with a Content-Length, supports no TLS and sets no limits.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from http import HTTPStatus
from inspect import iscoroutinefunction
from typing import Any, Literal, Self, TypeAlias, cast

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
_WORDS = ("alpha", "beta", "gamma", "delta", "kappa", "lambda", "sigma", "omega")
_NUM_WORDS = 12
_MOST_THREADS = 1024
"""Maximum number of plain functions that may block at the same time. Threads start only as they are needed."""


@dataclass(frozen=True)
class FakeRequest:
    """A POST request as it arrived."""

    number: int
    """Number of POST requests that arrived before this one."""
    path: str
    head: bytes
    """Request line and headers."""
    body: bytes

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """Headers by name in lower case."""
        pairs = (line.partition(":") for line in self.head.decode("latin-1").split("\r\n")[1:])
        return {name.lower(): value.strip() for name, _, value in pairs}

    @cached_property
    def json(self) -> dict[str, Any]:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def is_chat(self) -> bool:
        """Whether messages were sent, rather than plain text."""
        return "messages" in self.json

    @property
    def prompt(self) -> str:
        """The last message, or the plain text."""
        return str(self.json["messages"][-1]["content"] if self.is_chat else self.json["prompt"])

    @property
    def seed(self) -> int:
        """Seed of the first choice; 0 if none was given."""
        return self.json.get("seed") or 0

    @property
    def num_choices(self) -> int:
        """Number of choices that the whole answer has: `n` for each prompt."""
        prompts = self.json.get("prompt")
        return (self.json.get("n") or 1) * (len(cast("list[Any]", prompts)) if isinstance(prompts, list) else 1)


@dataclass(frozen=True)
class FakeReply:
    """An HTTP response. A body of several pieces is sent in chunks, each as soon as it is available."""

    body: bytes | AsyncIterable[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": JSON})


@dataclass(frozen=True)
class RawReply:
    """Bytes written to the connection as they are, and how the connection ends."""

    body: bytes | AsyncIterable[bytes] = b""
    end: Literal["close", "reset", "half-close"] = "close"
    """`half-close` sends no more, but keeps listening."""


AnyReply: TypeAlias = FakeReply | RawReply
Respond: TypeAlias = Callable[[FakeRequest], AnyReply | Awaitable[AnyReply]]
"""Answers a request. A plain function may block: it runs in a thread. A coroutine runs in the server's event loop."""


def json_reply(body: object, status: int = 200, **headers: str) -> FakeReply:
    """Return a response with a body of JSON."""
    return FakeReply(json.dumps(body).encode(), status, {"Content-Type": JSON, **headers})


def error(status: int, message: str = "no", **headers: str) -> FakeReply:
    """Return an error in the form of the API."""
    return json_reply({"error": {"message": message, "type": HTTPStatus(status).phrase}}, status, **headers)


def events(chunks: Iterable[object], pause_s: float = 0.0, comment: str = "") -> FakeReply:
    """Return a stream of server-sent events that ends with `[DONE]`, with a pause before each chunk.

    If a comment is given, as servers send to keep a connection alive, it comes first.
    """

    async def pieces() -> AsyncIterator[bytes]:
        if comment:
            yield f": {comment}\n\n".encode()
        for chunk in chunks:
            await asyncio.sleep(pause_s)
            yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
        yield b"data: [DONE]\n\n"

    return FakeReply(pieces(), headers={"Content-Type": EVENTS})


def completion(
    request: FakeRequest,
    texts: Sequence[str | None],
    finish_reason: str | None = "stop",
    usage: Mapping[str, Any] | None = None,
    pause_s: float = 0.0,
) -> FakeReply:
    """Return the answer that the request asks for, whole or streamed, chat or text, with one choice for each text.

    Each word counts as a token unless `usage` says otherwise. `pause_s` passes before each event of a stream.
    """
    body = completion_body(request, texts, finish_reason, usage)
    return events(completion_chunks(request, body), pause_s) if request.json.get("stream") else json_reply(body)


def completion_body(
    request: FakeRequest,
    texts: Sequence[str | None],
    finish_reason: str | None = "stop",
    usage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the body of a whole answer, for `json_reply`, perhaps after changes."""
    if usage is None:
        prompt, answer = len(request.prompt.split()), sum(len((text or "").split()) for text in texts)
        usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def choice(index: int, text: str | None) -> dict[str, Any]:
        said = {"message": {"role": "assistant", "content": text}} if request.is_chat else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": finish_reason}

    kind = "chat.completion" if request.is_chat else "text_completion"
    head = {"id": f"cmpl-{request.number}", "object": kind, "created": 0, "model": request.json.get("model")}
    return {**head, "choices": [choice(index, text) for index, text in enumerate(texts)], "usage": usage}


def completion_chunks(request: FakeRequest, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one word in each chunk, of all choices in turn, and then the usage if the request asks for it."""
    kind = "chat.completion.chunk" if request.is_chat else "text_completion"
    head = {"id": body["id"], "object": kind, "created": 0, "model": body["model"]}

    def chunk(choice: Mapping[str, Any], text: str, reason: str | None) -> dict[str, Any]:
        piece: dict[str, Any] = {"delta": {"content": text}} if request.is_chat else {"text": text}
        choices = [{"index": choice["index"], **piece, "logprobs": None, "finish_reason": reason}]
        return {**head, "choices": choices}

    choices: list[dict[str, Any]] = body["choices"]
    texts = [(choice["message"]["content"] if request.is_chat else choice["text"]) or "" for choice in choices]
    words = [re.findall(r"\s*\S+|\s+", text) or [""] for text in texts]
    for step in range(max(map(len, words), default=0)):
        for choice, said in zip(choices, words, strict=True):
            if step < len(said):
                yield chunk(choice, said[step], choice["finish_reason"] if step == len(said) - 1 else None)
    if (request.json.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": body["usage"]}


async def invented(request: FakeRequest) -> FakeReply:
    """Answer with random words that depend on the model, the prompt and, unless the temperature is 0, the seed."""
    asked = request.json
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens") or _NUM_WORDS
    stops: Any = asked.get("stop") or []
    texts: list[str] = []
    for index in range(request.num_choices):
        seed = 0 if asked.get("temperature") == 0 else request.seed + index
        draw = random.Random(f"{asked.get('model')} {request.prompt} {seed}")
        text = " ".join(draw.choices(_WORDS, k=_NUM_WORDS)[:limit])
        for stop in [stops] if isinstance(stops, str) else stops:
            text = text.partition(stop)[0]
        texts.append(text)
    return completion(request, texts, "length" if limit < _NUM_WORDS else "stop")


class FakeServer:
    """A server in a thread, or, with `listen`, in a running event loop. `respond` may be replaced at any time.

    A server that is started again, by a second `with`, listens on the same port as before.
    """

    def __init__(self, respond: Respond = invented, *, port: int = 0, keep_requests: bool = True) -> None:
        self.respond = respond
        self.port = port
        """Port of the server; 0 lets the system choose one at the start."""
        model = {"id": "fake", "object": "model", "created": 0, "owned_by": "alphamix", "max_model_len": 4096}
        models = json_reply({"object": "list", "data": [model]})
        self.pages: Mapping[str, FakeReply] = {"/health": FakeReply(b""), "/v1/models": models}
        """What GET returns, by path; 404 for a path that is missing here."""
        self.requests: list[FakeRequest] = []
        """All POST requests so far, unless `keep_requests` is false."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.arrived = threading.Event()
        """Set once a POST request has arrived."""
        self.abandoned = threading.Event()
        """Set once a client has left before its answer was complete."""
        self._keep_requests = keep_requests
        self._num_requests = 0
        self._transports = set[asyncio.Transport]()
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "fake-server")

    def _call(self, request: FakeRequest) -> AnyReply | Awaitable[AnyReply]:
        try:
            return self.respond(request)
        except StopIteration as stopped:  # a future cannot carry it, and would never end
            raise RuntimeError(repr(stopped)) from stopped

    @property
    def url(self) -> str:
        """Base URL of the API."""
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        started.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _run(self, started: "Future[None]") -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            listening = await self.listen()
        except Exception as raised:
            started.set_exception(raised)
            return
        started.set_result(None)
        await self._stop.wait()
        listening.close()
        for transport in list(self._transports):
            transport.abort()
        await asyncio.sleep(0)  # lets the connections notice, so that their sockets are closed before the loop is

    async def listen(self) -> asyncio.Server:
        """Listen in the running event loop, until the server that is returned is closed."""
        loop = asyncio.get_running_loop()
        connect = partial(_Connection, self, self._transports)
        server = await loop.create_server(connect, "127.0.0.1", self.port, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def reply_to(self, method: str, path: str, head: bytes, body: bytes) -> AnyReply:
        """Return the answer to a request. An exception in `respond` becomes an error 500 that quotes it."""
        if method != "POST":
            try:  # not `get`: `pages` may be a defaultdict
                return self.pages[path]
            except KeyError:
                return error(404, f"no page {path}")
        request = FakeRequest(self._num_requests, path, head, body)
        self._num_requests += 1
        if self._keep_requests:
            self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        self.arrived.set()
        try:
            if iscoroutinefunction(self.respond):
                return await self.respond(request)
            reply = await asyncio.get_running_loop().run_in_executor(self._threads, self._call, request)
            return reply if isinstance(reply, FakeReply | RawReply) else await reply
        except Exception as raised:  # a mistake in a test must reach the test, not end in a client that waits
            return error(500, f"respond raised {raised!r}")
        finally:
            self.in_flight -= 1


class _Connection(asyncio.Protocol):
    """One connection: answers its requests in turn, and stops at once when the client leaves."""

    def __init__(self, server: FakeServer, transports: set[asyncio.Transport]) -> None:
        self._server = server
        self._transports = transports
        self._received = bytearray()
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transports.add(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._answer_next()

    def eof_received(self) -> None:
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transports.discard(self._transport)
        self._leave()

    def _leave(self) -> None:
        if self._answering is not None:
            self._server.abandoned.set()
            self._answering.cancel()

    def _answer_next(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if self._answering is not None or end < 0:
            return
        head = bytes(self._received[:end])
        _, _, after = head.lower().partition(b"\r\ncontent-length:")
        stop = end + 4 + int(after.partition(b"\r\n")[0] or 0)
        if len(self._received) < stop:
            return
        body = bytes(self._received[end + 4 : stop])
        del self._received[:stop]
        self._answering = asyncio.get_running_loop().create_task(self._answer(head, body))

    async def _answer(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.partition(b"\r\n")[0].decode("latin-1").split(" ", 2)
        reply = await self._server.reply_to(method, path, head, body)
        try:
            await (self._send(reply) if isinstance(reply, FakeReply) else self._send_raw(reply))
        except Exception:
            self._transport.abort()  # otherwise the client would wait for the rest of a body that has failed
            raise
        self._answering = None
        self._answer_next()

    async def _send(self, reply: FakeReply) -> None:
        lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items()]
        if isinstance(reply.body, bytes):
            # A header that a reply gives itself may lie about the length, as broken servers do.
            lines += [] if "Content-Length" in reply.headers else [f"Content-Length: {len(reply.body)}"]
            self._transport.write("\r\n".join([*lines, "\r\n"]).encode("latin-1") + reply.body)
            return
        self._transport.write("\r\n".join([*lines, "Transfer-Encoding: chunked", "\r\n"]).encode("latin-1"))
        async for piece in reply.body:
            if piece:  # an empty chunk would end the body
                self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self._transport.write(b"0\r\n\r\n")

    async def _send_raw(self, reply: RawReply) -> None:
        if isinstance(reply.body, bytes):
            self._transport.write(reply.body)
        else:
            async for piece in reply.body:
                self._transport.write(piece)
        if reply.end == "half-close":
            self._transport.write_eof()
        elif reply.end == "close":
            self._transport.close()
        else:
            # To linger for no time makes the system send RST, where an ordinary close would send FIN.
            opened = self._transport.get_extra_info("socket")
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def main(arguments: Sequence[str]) -> None:
    """Print the URL and serve until killed."""
    parser = argparse.ArgumentParser(
        prog="python -m alphamix.policies.engines.openai.fake_server",
        description="Run a fake OpenAI-compatible server on this machine, and print its URL.",
    )
    parser.add_argument("--port", type=int, default=0, help="Port; by default, the system chooses a free one.")
    parser.add_argument(
        "--text",
        help="Text of every choice, in which {seed} and {index} stand for the seed and the index of the choice; "
        "by default, random words that depend on the model, the prompt and the seed.",
    )
    parser.add_argument(
        "--pause", type=float, default=0.0, help="Seconds before an answer and before each event of a stream."
    )
    options = parser.parse_args(arguments)

    async def scripted(request: FakeRequest) -> FakeReply:
        await asyncio.sleep(options.pause)
        if options.text is None:
            return await invented(request)
        texts = [
            options.text.replace("{seed}", str(request.seed + index)).replace("{index}", str(index))
            for index in range(request.num_choices)
        ]
        return completion(request, texts, pause_s=options.pause)

    async def serve() -> None:
        server = FakeServer(scripted, port=options.port, keep_requests=False)
        listening = await server.listen()
        print(server.url, flush=True)
        await listening.serve_forever()

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(sys.argv[1:])
