"""Several servers of one policy: balanced, the dead one left out and tried again, a queue that is told believed."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

from alphamix.policies.engines.openai import failures
from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.fake_server import FakeReply, FakeRequest, FakeServer, completion, error
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import Completion, EngineFailure, Reply, Request, SamplingParameters


class Server(FakeServer):
    """Answers with a status after a number of seconds."""

    def __init__(
        self,
        status: int = 200,
        seconds: float = 0.0,
        headers: Mapping[str, str] | None = None,
        waiting: int | None = None,
    ) -> None:
        super().__init__(self._respond)
        self.status, self._seconds, self._headers = status, seconds, headers or {}
        if waiting is not None:
            metrics = f'# TYPE x gauge\nvllm:num_requests_waiting{{engine="0"}} {float(waiting)}\n'
            self.pages = {"/metrics": FakeReply(metrics.encode(), headers={"Content-Type": "text/plain"})}

    @property
    def asked(self) -> int:
        return len(self.requests)

    async def _respond(self, request: FakeRequest) -> FakeReply:
        await asyncio.sleep(self._seconds)
        return completion(request, ["hi"]) if self.status == 200 else error(self.status, **self._headers)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with ExitStack() as servers:
        yield lambda **settings: servers.enter_context(Server(**settings))


def ask(urls: list[str], count: int, **options: Any) -> list[Reply]:
    engine = OpenAIEngine(urls, "m", None, EngineOptions(**{"choices": 1} | options))
    parameters = SamplingParameters()
    try:
        return list(engine.sample([Request("hello", seed, parameters) for seed in range(count)]))
    finally:
        engine.close()


def is_answered(reply: Reply) -> bool:
    return isinstance(reply.outcome, Completion)


def test_servers_share_the_work_and_a_slow_one_gets_less(serve: Callable[..., Server]) -> None:
    quick, slow = serve(seconds=0.01), serve(seconds=0.1)
    assert all(map(is_answered, ask([quick.url, slow.url], 200, concurrency=4)))
    assert quick.asked + slow.asked == 200
    assert slow.asked >= 4
    assert quick.asked >= 2 * slow.asked


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "60"}}])
def test_a_server_that_fails_is_left_out_and_nothing_is_lost(
    serve: Callable[..., Server], fault: dict[str, Any]
) -> None:
    good, bad = serve(), serve(**fault)
    assert all(map(is_answered, ask([bad.url, good.url], 200, concurrency=4)))
    assert good.asked == 200
    assert bad.asked <= 20


def test_a_server_that_is_not_there_is_left_out(serve: Callable[..., Server]) -> None:
    good = serve()
    assert all(map(is_answered, ask(["http://127.0.0.1:1/v1", good.url], 100, concurrency=4)))


def test_a_server_that_comes_back_is_asked_again(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_WAIT_S", 0.02)
    other, lame = serve(seconds=0.02), serve(status=500)
    engine = OpenAIEngine([lame.url, other.url], "m", None, EngineOptions(concurrency=2, choices=1))
    replies = engine.sample([Request("hello", seed, SamplingParameters()) for seed in range(400)])
    for _ in range(50):
        next(replies)
    while_lame, lame.status = lame.asked, 200
    assert all(map(is_answered, replies))
    engine.close()
    assert while_lame <= 20
    assert lame.asked >= while_lame + 50


def test_when_none_is_left_all_fails_soon(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_FIRST_WAIT_S", 0.01)
    first, second = serve(status=500), serve(status=500)
    outcomes = [reply.outcome for reply in ask([first.url, second.url], 1000, concurrency=8)]
    assert len(outcomes) == 1000
    assert {one.cause for one in outcomes if isinstance(one, EngineFailure)} == {"server"}
    assert first.asked + second.asked <= 100


def test_an_engine_whose_server_was_gone_recovers(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_FIRST_WAIT_S", 0.01)
    server = serve(status=500)
    engine = OpenAIEngine(server.url, "m", None, EngineOptions(choices=1))
    requests = [Request("hello", seed, SamplingParameters()) for seed in range(200)]
    assert not any(map(is_answered, engine.sample(requests)))
    server.status = 200
    while not any(map(is_answered, engine.sample(requests))):
        time.sleep(0.01)
    assert all(map(is_answered, engine.sample(requests)))
    engine.close()


def test_the_level_grows_where_nothing_waits_and_not_where_much_does(serve: Callable[..., Server]) -> None:
    idle, busy = serve(seconds=0.2, waiting=0), serve(seconds=0.2, waiting=1000)
    assert all(map(is_answered, ask([idle.url], 600)))
    assert all(map(is_answered, ask([busy.url], 50)))
    assert idle.most_in_flight > 32
    assert busy.most_in_flight <= 32
