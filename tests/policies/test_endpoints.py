"""Several servers of one policy: balanced, the dead one left out and tried again, a queue that is told believed."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from alphamix.policies.engines.openai import failures
from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import Completion, EngineFailure, Reply, Request, SamplingParameters

from .conftest import serving


@dataclass
class Server:
    """Answers with a status after so many seconds; counts what it was asked."""

    status: int = 200
    seconds: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)
    waiting: int | None = None
    """What its page of metrics says; None: it has none."""
    url: str = ""
    asked: int = 0
    in_flight: int = 0
    most_in_flight: int = 0


def handler_of(state: Server) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                state.asked += 1
                state.in_flight += 1
                state.most_in_flight = max(state.most_in_flight, state.in_flight)
            time.sleep(state.seconds)
            with lock:
                state.in_flight -= 1
            choice = {"index": 0, "finish_reason": "stop", "message": {"content": "hi"}}
            usage = {"prompt_tokens": 1, "completion_tokens": 1}
            self.answer(state.status, json.dumps({"choices": [choice], "usage": usage}).encode(), state.headers)

        def do_GET(self) -> None:
            line = f'# TYPE x gauge\nvllm:num_requests_waiting{{engine="0"}} {float(state.waiting or 0)}\n'
            self.answer(404 if state.waiting is None else 200, line.encode(), {"Content-Type": "text/plain"})

        def answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Type": "application/json"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object, **__: object) -> None: ...

    return Handler


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with ExitStack() as servers:

        def start(**settings: Any) -> Server:
            state = Server(**settings)
            state.url = servers.enter_context(serving(handler_of(state)))
            return state

        yield start


def ask(servers: list[Server], count: int, **options: Any) -> list[Reply]:
    engine = OpenAIEngine([one.url for one in servers], "m", None, EngineOptions(**{"choices": 1} | options))
    parameters = SamplingParameters()
    try:
        return list(engine.sample([Request("hello", seed, parameters) for seed in range(count)]))
    finally:
        engine.close()


def is_answered(reply: Reply) -> bool:
    return isinstance(reply.outcome, Completion)


def test_servers_share_the_work_and_a_slow_one_gets_less(serve: Callable[..., Server]) -> None:
    quick, slow = serve(seconds=0.01), serve(seconds=0.1)
    assert all(map(is_answered, ask([quick, slow], 200, concurrency=4)))
    assert quick.asked + slow.asked == 200
    assert slow.asked >= 4
    assert quick.asked >= 2 * slow.asked


@pytest.mark.parametrize("fault", [{"status": 500}, {"status": 503}, {"status": 429, "headers": {"Retry-After": "60"}}])
def test_a_server_that_fails_is_left_out_and_nothing_is_lost(
    serve: Callable[..., Server], fault: dict[str, Any]
) -> None:
    good, bad = serve(), serve(**fault)
    assert all(map(is_answered, ask([bad, good], 200, concurrency=4)))
    assert good.asked == 200
    assert bad.asked <= 20


def test_a_server_that_is_not_there_is_left_out(serve: Callable[..., Server]) -> None:
    good = serve()
    assert all(map(is_answered, ask([Server(url="http://127.0.0.1:1/v1"), good], 100, concurrency=4)))


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
    outcomes = [reply.outcome for reply in ask([first, second], 1000, concurrency=8)]
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
    assert all(map(is_answered, ask([idle], 600)))
    assert all(map(is_answered, ask([busy], 50)))
    assert idle.most_in_flight > 32
    assert busy.most_in_flight <= 32
