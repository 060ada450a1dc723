"""A server that answers at once, so that what is measured is the client: `python sampling_server.py CORE`.

Prints its port. Each choice is the same program of about 1,500 characters with its seed; nothing is checked.
"""

import asyncio
import json
import os
import sys

_TEXT = "```python\n# {seed}\n" + "\n".join(f"value_{i} = sum(range({i * 7919 % 1009}))" for i in range(40)) + "\n```"


class _Connection(asyncio.Protocol):
    """Reads requests with a Content-Length, one after the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._received = transport, b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            _, _, after = head.partition(b"content-length:")
            length = int(after.split(b"\r\n", 1)[0] or 0) if after else 0
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._transport.write(
                _answer(json.loads(body)) if body else b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
            )


def _answer(asked: dict) -> bytes:
    n, seed = asked.get("n", 1), asked["seed"]
    choices = [
        {
            "index": i,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": _TEXT.replace("{seed}", str(seed + i))},
        }
        for i in range(n)
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 500 * n, "total_tokens": 5 + 500 * n}
    reply = {"id": "1", "object": "chat.completion", "created": 0, "model": asked["model"]}
    content = json.dumps(reply | {"choices": choices, "usage": usage}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


async def _main() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    os.sched_setaffinity(0, {int(sys.argv[1])})
    asyncio.run(_main())
