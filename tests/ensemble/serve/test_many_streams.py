"""A thousand concurrent streams through a server that was started with a low limit of open files: all end properly."""

import asyncio
import re
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from alphamix.policies.engines.openai.fake_server import AnyReply

from .upstreams import FakeUpstream, stream

STREAMS = 1000
FEW_FILES = 256
WAIT_S = 60
FIRST = b'data: {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


async def in_two_pieces(upstream: FakeUpstream, _: Any) -> AnyReply:
    async def parts() -> AsyncIterator[bytes]:
        yield FIRST
        while not upstream.go_on.is_set():
            await asyncio.sleep(0.25)
        yield LAST

    return stream(parts())


@pytest.fixture
def _many_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < 4 * STREAMS:
        pytest.skip(f"needs {4 * STREAMS} open files, and may have {before[1]}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4 * STREAMS, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream("low", in_two_pieces) as fake:
        yield fake


@pytest.fixture
def root(_many_files: None, upstream: FakeUpstream, tmp_path: Path) -> Iterator[str]:
    """Address of a server."""
    file = tmp_path / "policies.toml"
    file.write_text(f'[policies.low]\nurl = "{upstream.url}"\nmodel = "m"\n')
    serve = [sys.executable, "-m", "alphamix", "serve", str(file), "--port", "0"]
    command = ["sh", "-c", f'ulimit -Sn {FEW_FILES}; exec "$0" "$@"', *serve]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            yield next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        finally:
            upstream.go_on.set()
            server.send_signal(signal.SIGTERM)
            server.stderr.read()


async def read_all(root: str, upstream: FakeUpstream) -> tuple[str, list[bytes]]:
    """Open all streams, look at the metrics once each has begun, and read them to their ends."""
    begun = asyncio.Semaphore(0)

    async def read(session: aiohttp.ClientSession) -> bytes:
        ask = {"model": "low", "messages": [{"role": "user", "content": "hi"}], "stream": True}
        async with session.post(f"{root}/v1/chat/completions", json=ask) as response:
            first = await response.content.readany()
            begun.release()
            return first + await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        reading = [asyncio.create_task(read(session)) for _ in range(STREAMS)]
        async with asyncio.timeout(WAIT_S):
            for _ in range(STREAMS):
                await begun.acquire()
        async with session.get(f"{root}/metrics") as response:
            metrics = await response.text()
        upstream.go_on.set()
        return metrics, await asyncio.gather(*reading)


def test_a_thousand_streams_at_once(root: str, upstream: FakeUpstream) -> None:
    metrics, streams = asyncio.run(read_all(root, upstream))
    assert f'alphamix_policy_in_flight{{policy="low"}} {STREAMS}.0' in metrics
    assert all(stream.endswith(b"data: [DONE]\n\n") and stream.count(b"data: ") == 3 for stream in streams)
