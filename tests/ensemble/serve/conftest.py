"""A registry of engines made of plain functions, and a real server for it on a free port."""

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from openai import OpenAI

from alphamix.ensemble.outcomes.request_log import read_log
from alphamix.ensemble.serve.app import RequestLimits, ServeOptions, create_app
from alphamix.ensemble.serve.http_protocol import BoundedHttpProtocol
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.types import Completion, Delta, Engine, EngineFailure, Request

from .upstreams import FakeUpstream

Script = Callable[[Request], Sequence[str] | EngineFailure]
"""What a policy says to a request, line by line."""


class ScriptEngine(ScriptedEngine):
    """Says what its script says, and remembers who asked what."""

    def __init__(self, script: Script) -> None:
        super().__init__(lambda request: self._outcome(script(request)))
        self.calls: list[list[Request]] = []
        self.threads: set[int] = set()
        self.closed = 0

    @staticmethod
    def _outcome(said: Sequence[str] | EngineFailure) -> Completion | EngineFailure:
        return said if isinstance(said, EngineFailure) else Completion("".join(said), "stop", 10, len(said), 0.1)

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        self.calls.append(list(requests))
        self.threads.add(threading.get_ident())
        yield from super().stream(requests)

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class EndlessEngine(ScriptEngine):
    """Never comes to an end; says when it was stopped, and how many tokens it had made by then."""

    def __init__(self) -> None:
        super().__init__(lambda _: [])
        self.made = 0
        self.started = threading.Event()
        self.stopped = threading.Event()

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        self.calls.append(list(requests))
        try:
            while True:
                self.made += 1
                self.started.set()
                yield Delta(0, "more ")
        finally:
            self.stopped.set()


@dataclass
class FakeRegistry:
    """The part of a registry that serving reads."""

    engines: dict[str, Engine]
    mixtures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    is_switched: bool = False

    @property
    def names(self) -> Sequence[str]:
        return list(self.engines)

    @property
    def open_sweeps(self) -> Mapping[str, tuple[float, ...]]:
        return {}

    def at(self, sweep: str, alpha: float) -> str:
        raise NotImplementedError

    def is_made(self, name: str) -> bool:
        raise NotImplementedError

    def alpha(self, name: str) -> float | None:
        return self.alphas.get(name)

    def open(self, name: str, options: EngineOptions) -> Engine:
        self.opened.append(name)
        return self.engines[name]


@contextmanager
def running(registry: FakeRegistry, options: ServeOptions | RequestLimits | None = None) -> Iterator[str]:
    """Serve on a free port of this machine; gives the base URL."""
    if isinstance(options, RequestLimits):
        options = ServeOptions(limits=options)
    app = create_app(registry, options)
    config = uvicorn.Config(app, log_level="error", http=BoundedHttpProtocol, timeout_graceful_shutdown=10)
    with listening(config) as (_, port):
        yield f"http://127.0.0.1:{port}/v1"


def logged(log: Path, count: int) -> list[dict[str, Any]]:
    """The lines of a request log, once there are as many: a line is written just after its answer is sent."""
    while len(records := read_log(log)) < count:
        time.sleep(0.01)
    return records


@contextmanager
def listening(config: uvicorn.Config) -> Iterator[tuple[uvicorn.Server, int]]:
    """Run a server in a thread; gives it and its port."""
    # asyncio turns the delays of small packets off only where it sees that a socket is TCP.
    with socket.socket(proto=socket.IPPROTO_TCP) as door:
        door.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([door],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield server, door.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(timeout=120)
            assert not thread.is_alive(), "the server did not stop"


@pytest.fixture
def upstreams() -> Iterator[dict[str, FakeUpstream]]:
    """Servers behind `low` and `high`."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(FakeUpstream(name)) for name in ("low", "high")}


@pytest.fixture
def which() -> Callable[[str], str]:
    """Find a program, or skip the test that needs it."""

    def find(program: str) -> str:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"needs {program}")
        return found

    return find


@pytest.fixture
def script_engine() -> type[ScriptEngine]:
    return ScriptEngine


@pytest.fixture
def endless_engine() -> type[EndlessEngine]:
    return EndlessEngine


@pytest.fixture
def fake_registry() -> type[FakeRegistry]:
    return FakeRegistry


@pytest.fixture
def serving() -> Iterator[Callable[..., str]]:
    """Start servers for registries; they stop with the test."""
    with ExitStack() as stack:
        yield lambda registry, options=None: stack.enter_context(running(registry, options))


@pytest.fixture
def client_of(serving: Callable[..., str]) -> Iterator[Callable[..., OpenAI]]:
    """Start servers for registries and give the official client of each."""
    with ExitStack() as stack:

        def start(registry: FakeRegistry, served: ServeOptions | RequestLimits | None = None, **options: Any) -> OpenAI:
            options = {"max_retries": 0, "timeout": 120, "api_key": "none", **options}
            return stack.enter_context(OpenAI(base_url=serving(registry, served), **options))

        yield start
