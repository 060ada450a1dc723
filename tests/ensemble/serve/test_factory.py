"""Backends that wait for a turn, and those whose server was started from here."""

import asyncio
import gc
import threading
from functools import partial
from types import SimpleNamespace
from typing import cast

import pytest

from alphamix.ensemble.serve.backends.engine_thread import EngineThread
from alphamix.ensemble.serve.backends.factory import OnDemandServer
from alphamix.ensemble.serve.backends.in_process import InProcessPolicy
from alphamix.ensemble.serve.backends.policy_queue import PolicyQueue
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest, read_request
from alphamix.ensemble.serve.protocol.responses import PolicyInfo
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, RawReply
from alphamix.policies.types import Engine

from .conftest import ScriptEngine
from .upstreams import FakeUpstream

PART = Part("low", 0, 1)


def ask(seed: int = 1) -> RawRequest:
    return read_request("completions", b'{"model": "low", "prompt": "", "seed": %d}' % seed)


async def streamed(backend: InProcessPolicy) -> bytes:
    return b"".join([event async for events in backend.stream(ask(), PART) for event in events])


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_request_that_waits_too_long_for_a_turn_fails(script_engine: type[ScriptEngine], is_stream: bool) -> None:
    async def run() -> None:
        turns = PolicyQueue(10.0, 0.05, asyncio.get_running_loop().time)
        engine = EngineThread("low", lambda: script_engine(lambda _: ["here"]))
        backend = InProcessPolicy(PolicyInfo("low", None), engine, Timeouts(), partial(turns.turn, "low"))
        asked = (lambda: streamed(backend)) if is_stream else (lambda: backend.complete(ask(), PART))
        async with turns.turn("high"):
            with pytest.raises(ApiError, match="busy with other requests") as raised:
                await asyncio.wait_for(asked(), 10)
            assert (raised.value.status, raised.value.headers) == (429, {"retry-after": "10"})
        assert b"here" in await asked()
        await backend.close()

    asyncio.run(run())


def started_at(url: str, closed: list[str]) -> OnDemandServer:
    """A policy on a server of ours; says in `closed` when its engine is closed."""
    server = SimpleNamespace(url=url, api_key="none")
    engine = SimpleNamespace(server=server, model="gone", extra_body={}, close=lambda: closed.append("low"))
    return OnDemandServer("low", lambda: cast("Engine", engine), Timeouts(), asyncio.Lock())


def test_its_engine_is_closed_with_a_policy() -> None:
    """Policies at any α come and go while the server runs: each has threads of its own."""
    closed: list[str] = []

    async def run(url: str) -> None:
        started = started_at(url, closed)
        assert b"low 0" in await started.complete(ask(), PART)
        assert closed == []
        await started.close()
        await started.close()

    with FakeUpstream("low") as upstream:
        asyncio.run(run(upstream.url))
    assert closed == ["low"]


def test_a_client_that_leaves_while_a_server_starts_causes_no_second_start() -> None:
    opened: list[str] = []
    go_on = threading.Event()

    async def run(url: str) -> None:
        server = SimpleNamespace(url=url, api_key="none")
        engine = SimpleNamespace(server=server, model="gone", extra_body={}, close=lambda: None)

        def open_engine() -> Engine:
            opened.append("low")
            assert go_on.wait(60)
            return cast("Engine", engine)

        started = OnDemandServer("low", open_engine, Timeouts(), asyncio.Lock())
        first = asyncio.create_task(started.complete(ask(), PART))
        while not opened:
            await asyncio.sleep(0.01)
        first.cancel()
        second = asyncio.create_task(started.complete(ask(), PART))
        await asyncio.sleep(0.05)
        go_on.set()
        assert b"low 0" in await second
        await started.close()

    with FakeUpstream("low") as upstream:
        asyncio.run(run(upstream.url))
    assert opened == ["low"]


def test_a_server_that_is_gone_is_closed_once_and_leaves_no_connection() -> None:
    """The second request fails when the first has found out already."""

    async def hang_up(_: FakeUpstream, request: FakeRequest) -> AnyReply:
        await asyncio.sleep(0.3 if request.seed == 2 else 0)
        return RawReply()

    closed: list[str] = []

    async def run(url: str) -> None:
        started = started_at(url, closed)
        asked = [started.complete(ask(seed), PART) for seed in (1, 2)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [error.code for error in errors if isinstance(error, ApiError)] == ["connection"] * 2
        await started.close()

    with FakeUpstream("low", hang_up) as upstream:
        asyncio.run(run(upstream.url))
    gc.collect()  # a session that is not closed warns, and a warning is an error
    assert closed == ["low"]
