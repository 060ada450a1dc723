"""Both ends of a benchmark of proxies, as processes of their own: a fast fake upstream, and a load of connections.

Both do hardly any parsing, so that what stands between them is what is measured. `upstream` is the fake server of the
package with answers encoded beforehand, and prints its port; `load` prints what it measured as JSON.
"""

import argparse
import asyncio
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import uvloop  # pyright: ignore[reportMissingImports]  # installed beside the peers

from alphamix.policies.engines.openai.fake_server import EVENTS, FakeReply, FakeRequest, FakeServer, json_reply

TEXT = "an answer of some thirty tokens, as a policy might give it to a question that is short and plain"
CHUNKS = 100


def main() -> None:
    """Run the end that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("end", choices=["upstream", "load"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--model", default="policy")
    parser.add_argument("--key", default="none")
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--stream", action="store_true")
    arguments = parser.parse_args()
    uvloop.run(upstream() if arguments.end == "upstream" else load(arguments))


async def upstream() -> None:
    """Answer everything at once, streamed or not, until killed."""
    server = FakeServer(_respond, keep_requests=False)
    server.pages = defaultdict(lambda: _MODELS)  # proxies ask for models and health under many paths
    listening = await server.listen()
    print(server.port, flush=True)
    await listening.serve_forever()


async def _respond(request: FakeRequest) -> FakeReply:
    is_stream = b'"stream":true' in request.body.replace(b" ", b"")  # quicker than decoding the body
    return FakeReply(_stream(), headers={"Content-Type": EVENTS}) if is_stream else _WHOLE


async def _stream() -> AsyncIterator[bytes]:
    for chunk in _CHUNKS:
        yield chunk
        await asyncio.sleep(0)  # each chunk is a write of its own, as a policy's tokens are
    yield _STREAM_END


def _content_length(head: bytes) -> int | None:
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    return None if at < 0 else int(lowered[at + 15 :].split(b"\r\n", 1)[0])


def _choice(**content: object) -> dict[str, object]:
    return {"index": 0, **content, "logprobs": None}


_HEAD = {"id": "chatcmpl-1", "created": 1, "model": "policy"}
_USAGE = {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130}
_WHOLE = json_reply(
    {
        **_HEAD,
        "object": "chat.completion",
        "choices": [_choice(message={"role": "assistant", "content": TEXT}, finish_reason="stop")],
        "usage": _USAGE,
    }
)
_MODELS = json_reply({"object": "list", "data": [{"id": "policy", "object": "model"}]})


def _chunk(text: str, reason: str | None) -> bytes:
    choice = _choice(delta={"content": text}, finish_reason=reason)
    body = json.dumps({**_HEAD, "object": "chat.completion.chunk", "choices": [choice]})
    return f"data: {body}\n\n".encode()


_CHUNKS = [_chunk(f"token {index} ", None) for index in range(CHUNKS)]
_STREAM_END = _chunk("", "stop") + b"data: [DONE]\n\n"


async def load(arguments: argparse.Namespace) -> None:
    """Keep some connections busy, each with one request at a time."""
    body = {"model": arguments.model, "messages": [{"role": "user", "content": "a question " * 40}], "temperature": 0.7}
    raw = json.dumps(body | ({"stream": True} if arguments.stream else {})).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {arguments.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(raw)}\r\n\r\n"
    )
    load = _Load(head.encode() + raw, arguments.requests, arguments.stream)
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    for _ in range(arguments.connections):
        await loop.create_connection(lambda: _Client(load), "127.0.0.1", arguments.port)
    await load.done.wait()
    seconds = time.perf_counter() - started
    if load.fault:
        raise SystemExit(f"an error is no answer: {load.fault!r}")
    latencies = sorted(load.latencies_s)
    print(
        json.dumps(
            {
                "per_second": len(latencies) / seconds,
                "p50_ms": 1000 * latencies[len(latencies) // 2],
                "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
            }
        )
    )


class _Load:
    def __init__(self, request: bytes, requests: int, is_stream: bool) -> None:
        self.request = request
        self.left = requests
        self.under_way = 0
        self.end = b"[DONE]" if is_stream else b""
        self.fault = b""
        self.latencies_s: list[float] = []
        self.done = asyncio.Event()


class _Client(asyncio.Protocol):
    def __init__(self, load: _Load) -> None:
        self._load = load

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._read += data
        if not self._is_whole():
            return
        if not self._read.startswith(b"HTTP/1.1 200") or self._load.end not in self._read[-400:]:
            self._load.fault = bytes(self._read[:1000])
            self._load.done.set()
            return
        self._load.latencies_s.append(time.perf_counter() - self._started)
        self._load.under_way -= 1
        self._ask()

    def _ask(self) -> None:
        self._read = bytearray()
        if not self._load.left:
            self._transport.close()
            if not self._load.under_way:
                self._load.done.set()
            return
        self._load.left -= 1
        self._load.under_way += 1
        self._started = time.perf_counter()
        self._transport.write(self._load.request)

    def _is_whole(self) -> bool:
        head, found, rest = self._read.partition(b"\r\n\r\n")
        if not found:
            return False
        size = _content_length(bytes(head))
        if size is not None:
            return len(rest) >= size
        return self._read.endswith(b"0\r\n\r\n")


if __name__ == "__main__":
    main()
