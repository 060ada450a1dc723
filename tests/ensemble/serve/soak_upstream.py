"""As much of an OpenAI-compatible server as a soak needs, from the standard library alone: it starts at once.

python soak_upstream.py NAME PORT
"""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from typing import Any

PAUSE_S = 0.004
"""Before an answer, and between two chunks: some are under way whenever it is killed."""


async def main(name: str, port: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await answer(name, await body_of(reader), writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    door = socket.create_server(("127.0.0.1", port), backlog=512)
    server = await asyncio.start_server(serve, sock=door)
    print(door.getsockname()[1], flush=True)
    await server.serve_forever()


async def body_of(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return json.loads(await reader.readexactly(length))


async def answer(name: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(PAUSE_S)
    if not body.get("stream"):
        choices = [
            {"index": index, "message": {"role": "assistant", "content": name}, "finish_reason": "stop"}
            for index in range(body.get("n", 1))
        ]
        said = json.dumps({"choices": choices, "usage": {"total_tokens": 1}}).encode()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said))
        writer.write(said)
        return
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for event in events(name, body.get("n", 1)):
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        await asyncio.sleep(PAUSE_S)
    writer.write(b"0\r\n\r\n")


def events(name: str, n: int) -> Iterator[bytes]:
    for text, reason in ((name, None), (" goes on", None), ("", "stop")):
        choices = [{"index": index, "delta": {"content": text}, "finish_reason": reason} for index in range(n)]
        yield b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
