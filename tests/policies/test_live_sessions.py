"""A session takes requests at any time, and returns each outcome once, in every engine."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from typing import Any, overload

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.fake_server import FakeRequest, FakeServer, completion
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.engines.transformers.batch_session import BatchSession
from alphamix.policies.engines.vllm.family import VllmEngine
from alphamix.policies.types import (
    Completion,
    Delta,
    Engine,
    EngineFailure,
    EngineSession,
    PolicyError,
    Request,
    SamplingParameters,
)

PARAMETERS = SamplingParameters(max_tokens=8)


def asked(*seeds: int) -> list[Request]:
    return [Request([{"role": "user", "content": "go"}], seed, PARAMETERS) for seed in seeds]


def echo(request: Request) -> Completion | EngineFailure:
    return Completion(f"seed {request.seed}", "stop", 1, 2, 0.0)


def text_of(delta: Delta | None) -> str:
    assert delta is not None
    assert isinstance(delta.outcome, Completion)
    return delta.outcome.text


@pytest.fixture
def server() -> Iterator[FakeServer]:
    def respond(request: FakeRequest) -> Any:
        return completion(request, [f"seed {request.seed + i}" for i in range(request.num_choices)])

    with FakeServer(respond) as server:
        yield server


@pytest.fixture
def open_openai(server: FakeServer) -> Iterator[Callable[..., OpenAIEngine]]:
    engines: list[OpenAIEngine] = []

    def open_engine(**options: Any) -> OpenAIEngine:
        engines.append(OpenAIEngine(server.url, "fake", None, EngineOptions(**options)))
        return engines[-1]

    yield open_engine
    for engine in engines:
        engine.close()


class _Batches(Engine):
    """A batching engine without a model: step `n` of a batch ends the request at position `n`."""

    reproducible = True

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def open_session(self, *, stream: bool = False) -> BatchSession:
        return BatchSession(self._decode)

    def _decode(self, waiting: Submissions) -> Iterator[list[Delta]]:
        first, requests = waiting.take(3)
        self.batches.append([request.seed for request in requests])
        yield []
        for index, request in enumerate(requests, first):
            yield [Delta(index, "", echo(request))]

    def close(self) -> None:
        pass


@pytest.fixture(params=["scripted", "batches", "openai"])
def engine(request: pytest.FixtureRequest, open_openai: Callable[..., OpenAIEngine]) -> Engine:
    made: dict[str, Callable[[], Engine]] = {
        "scripted": lambda: ScriptedEngine(echo),
        "batches": _Batches,
        "openai": open_openai,
    }
    return made[request.param]()


def test_a_second_turn_follows_each_first_answer(engine: Engine) -> None:
    with closing(engine.open_session()) as session:
        assert session.submit(asked(*range(20))) == 0
        texts: dict[int, str] = {}
        while (delta := session.receive()) is not None:
            texts[delta.index] = text_of(delta)
            if delta.index < 20:
                assert session.submit(asked(100 + delta.index)) >= 20
    assert len(texts) == 40
    assert sorted(texts.values()) == sorted(f"seed {seed}" for seed in [*range(20), *range(100, 120)])
    assert {index for index in texts if index < 20} == set(range(20))


def test_nothing_left_is_told_at_once_and_more_may_come(engine: Engine) -> None:
    with closing(engine.open_session()) as session:
        assert session.receive() is None
        assert session.submit([]) == 0
        assert session.receive() is None
        for seed in (5, 6):
            session.submit(asked(seed))
            assert text_of(session.receive()) == f"seed {seed}"
            assert session.receive() is None


def test_sessions_of_one_engine_do_not_mix(engine: Engine) -> None:
    with closing(engine.open_session()) as one, closing(engine.open_session()) as other:
        one.submit(asked(1, 2))
        other.submit(asked(3, 4))
        found = {name: sorted(text_of(session.receive()) for _ in "ab") for name, session in (("1", one), ("2", other))}
    assert found == {"1": ["seed 1", "seed 2"], "2": ["seed 3", "seed 4"]}


def test_the_sequence_that_was_fixed_is_a_session(engine: Engine) -> None:
    replies = list(engine.sample(asked(*range(7))))
    assert sorted(reply.index for reply in replies) == list(range(7))
    deltas = [delta for delta in engine.stream(asked(*range(7))) if delta.outcome is not None]
    assert sorted(map(text_of, deltas)) == [f"seed {seed}" for seed in range(7)]


class _Counted(Sequence[Request]):
    """A long sequence that counts how much of it was read."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.read = 0

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Request: ...
    @overload
    def __getitem__(self, index: slice) -> list[Request]: ...
    def __getitem__(self, index: int | slice) -> Request | list[Request]:
        assert isinstance(index, int)
        self.read += 1
        return asked(index)[0]


def test_a_long_sequence_is_read_as_it_is_sent(engine: Engine) -> None:
    requests = _Counted(10**9)
    with closing(engine.open_session()) as session:
        session.submit(requests)
        assert session.receive() is not None
        assert requests.read < 50_000


def test_a_session_that_is_left_cancels_what_is_in_flight(
    server: FakeServer, open_openai: Callable[..., OpenAIEngine]
) -> None:
    go_on = threading.Event()
    server.respond = lambda request: go_on.wait(60) and completion(request, ["late"])  # type: ignore[assignment, return-value]
    engine = open_openai()
    session = engine.open_session()
    session.submit(asked(1))
    assert server.arrived.wait(60)
    session.close()
    session.close()
    assert server.abandoned.wait(60)
    go_on.set()


class Waiting:
    """A call of `receive` in a thread of its own, which waits."""

    def __init__(self, session: EngineSession) -> None:
        self.outcome: Future[Delta | None] = Future()
        self._session = session
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()
        self._thread.join(0.05)
        assert self._thread.is_alive()

    def _receive(self) -> None:
        try:
            self.outcome.set_result(self._session.receive())
        except BaseException as error:
            self.outcome.set_exception(error)


def test_wake_ends_a_wait_and_loses_nothing(server: FakeServer, open_openai: Callable[..., OpenAIEngine]) -> None:
    go_on = threading.Event()
    server.respond = lambda request: go_on.wait(60) and completion(request, ["late"])  # type: ignore[assignment, return-value]
    with closing(open_openai().open_session()) as session:
        session.submit(asked(1))
        came = Waiting(session)
        session.wake()
        assert came.outcome.result(60) is None
        go_on.set()
        assert text_of(session.receive()) == "late"


def test_closing_the_engine_ends_a_wait(server: FakeServer, open_openai: Callable[..., OpenAIEngine]) -> None:
    go_on = threading.Event()
    server.respond = lambda request: go_on.wait(60) and completion(request, ["late"])  # type: ignore[assignment, return-value]
    engine = open_openai()
    session = engine.open_session()
    session.submit(asked(1))
    came = Waiting(session)
    engine.close()
    with pytest.raises(PolicyError, match="closed"):
        came.outcome.result(60)
    session.submit(asked(2))  # harmless, and told when it is asked for
    with pytest.raises(PolicyError, match="closed"):
        engine.open_session()
    go_on.set()


def test_a_hundred_open_requests_share_one_thread(server: FakeServer, open_openai: Callable[..., OpenAIEngine]) -> None:
    with closing(open_openai(choices=1).open_session()) as session:
        for seed in range(100):
            session.submit(asked(2 * seed))
        assert sum(thread.name.startswith("openai ") for thread in threading.enumerate()) == 1
        texts = {text_of(session.receive()) for _ in range(100)}
    assert texts == {f"seed {2 * seed}" for seed in range(100)}


def test_batches_take_what_waits_and_no_more() -> None:
    engine = _Batches()
    with closing(engine.open_session()) as session:
        session.submit(asked(*range(5)))
        assert text_of(session.receive()) == "seed 0"
        session.submit(asked(9))
        while session.receive() is not None:
            pass
    assert engine.batches == [[0, 1, 2], [3, 4, 9]]


def test_a_woken_batch_goes_on_where_it_was() -> None:
    with closing(_Batches().open_session()) as session:
        session.submit(asked(1))
        session.wake()
        assert session.receive() is None
        assert text_of(session.receive()) == "seed 1"


def test_a_switched_server_is_held_while_a_session_is_open(open_openai: Callable[..., OpenAIEngine]) -> None:
    turn = threading.Lock()
    engine = VllmEngine.__new__(VllmEngine)
    engine._engine, engine._turn = open_openai(), lambda: turn  # type: ignore[attr-defined]
    session = engine.open_session()
    assert turn.locked()
    session.close()
    session.close()
    assert not turn.locked()
    list(engine.sample(asked(1, 2)))
    assert not turn.locked()


@given(st.lists(st.integers(0, 4)), st.integers(1, 5))
def test_submissions_come_out_as_they_went_in(sizes: list[int], most: int) -> None:
    waiting, seeds = Submissions(), 0
    for size in sizes:
        assert waiting.add(asked(*range(seeds, seeds + size))) == seeds
        seeds += size
    taken: list[int] = []
    while True:
        ahead = waiting.peek()
        first, requests = waiting.take(most)
        assert (ahead is None) == (not requests)
        assert first == len(taken)
        if not requests:
            break
        assert len(requests) <= most
        taken += [request.seed for request in requests]
    assert taken == list(range(seeds))
