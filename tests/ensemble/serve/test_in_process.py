"""Engines in this process that hang, die or are busy: another policy answers in time, or an error says why."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends import engine_thread
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.policies.types import Delta, Request

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
WAIT_S = 60
SHORT = ServeOptions(
    timeouts=Timeouts(first_byte_s=1, idle_s=1, total_s=60),
    breaker=BreakerOptions(failures=2, first_pause_s=600, longest_pause_s=600),
)
NEVER_OPEN = ServeOptions(timeouts=SHORT.timeouts, breaker=BreakerOptions(failures=10**6))

Start = Callable[..., OpenAI]


@pytest.fixture
def go_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until it is set, engines that wait for it hang; the server does not wait for them at its end."""
    monkeypatch.setattr(engine_thread, "CLOSE_S", 0.1)
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def hanging(script_engine: Any, go_on: threading.Event) -> Any:
    """An engine that says so many tokens and then hangs until it may go on."""

    class Hanging(script_engine):
        def __init__(self, tokens: int = 0) -> None:
            super().__init__(lambda _: ["well ", "again"])
            self.tokens = tokens
            self.left = threading.Event()

        def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
            if not go_on.is_set():
                try:
                    for _ in range(self.tokens):
                        yield Delta(0, "one ")
                    assert go_on.wait(WAIT_S)
                finally:
                    self.left.set()
            yield from super().stream(requests)

    return Hanging


def error_of(client: OpenAI, **ask: Any) -> openai.APIError:
    """Ask, and read what comes until it fails."""
    try:
        list(client.chat.completions.create(**{"model": "low", **ASK, **ask}))
    except openai.APIError as error:
        return error
    raise AssertionError("an answer")


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_hangs_is_taken_out(
    fake_registry: Any, hanging: Any, client_of: Start, go_on: threading.Event, stream: bool
) -> None:
    client = client_of(fake_registry({"low": hanging()}), SHORT)
    errors = [error_of(client, stream=stream) for _ in range(3)]
    assert [error.code for error in errors] == ["timeout", "timeout", "policy_unavailable"]
    assert [error.status_code for error in errors if isinstance(error, openai.APIStatusError)] == [504, 504, 503]


def test_an_engine_that_recovers_answers_again_and_skips_clients_that_have_left(
    fake_registry: Any, hanging: Any, client_of: Start, go_on: threading.Event
) -> None:
    engine = hanging()
    client = client_of(fake_registry({"low": engine}), NEVER_OPEN)
    assert [error_of(client).code for _ in range(3)] == ["timeout"] * 3
    go_on.set()
    assert client.chat.completions.create(model="low", **ASK).choices[0].message.content == "well again"
    assert len(engine.calls) == 2  # the one that hung, and this one


@pytest.mark.parametrize("stream", [False, True])
def test_its_share_of_an_ensemble_goes_to_the_others(
    fake_registry: Any, hanging: Any, script_engine: Any, client_of: Start, stream: bool
) -> None:
    engines = {"low": hanging(), "high": script_engine(lambda _: ["high"])}
    client = client_of(fake_registry(engines, mixtures={"both": {"low": 1, "high": 1}}), SHORT)
    answer = client.chat.completions.create(model="both", n=4, stream=stream, **ASK)
    if stream:
        texts = dict.fromkeys(range(4), "")
        for choice in [choice for chunk in answer for choice in chunk.choices]:
            texts[choice.index] += choice.delta.content or ""
        assert texts == dict.fromkeys(range(4), "high")
    else:
        assert [choice.message.content for choice in answer.choices] == ["high"] * 4


def test_an_engine_that_hangs_in_mid_stream_ends_it_with_an_error(
    fake_registry: Any, hanging: Any, client_of: Start, go_on: threading.Event
) -> None:
    engine = hanging(tokens=2)
    client = client_of(fake_registry({"low": engine}), SHORT)
    stream = iter(client.chat.completions.create(model="low", stream=True, **ASK))
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "one ", "one "]
    with pytest.raises(openai.APIError) as raised:
        next(stream)
    assert raised.value.code == "timeout"
    go_on.set()
    assert engine.left.wait(WAIT_S)


def test_an_answer_without_end_is_cut_off(fake_registry: Any, endless_engine: Any, client_of: Start) -> None:
    engine = endless_engine()
    options = ServeOptions(timeouts=Timeouts(total_s=0.5))
    assert error_of(client_of(fake_registry({"low": engine}), options)).code == "timeout"
    assert engine.stopped.wait(WAIT_S)


def test_waiting_behind_others_is_no_fault_of_the_engine(
    fake_registry: Any, script_engine: Any, client_of: Start
) -> None:
    class Steady(script_engine):
        def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
            while True:
                time.sleep(0.02)
                yield Delta(0, "more ")

    options = ServeOptions(
        timeouts=Timeouts(first_byte_s=1, total_s=600),
        breaker=BreakerOptions(failures=1, first_pause_s=600, longest_pause_s=600),
    )
    client = client_of(fake_registry({"low": Steady(lambda _: [])}), options)
    with client.chat.completions.create(model="low", stream=True, **ASK) as at_capacity:
        assert next(iter(at_capacity))
        error = error_of(client)
    assert isinstance(error, openai.RateLimitError)
    assert error.response.headers["retry-after"]
    with client.chat.completions.create(model="low", stream=True, **ASK) as stream:
        assert next(iter(stream))


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError])
def test_nothing_that_an_engine_raises_ends_its_thread(
    fake_registry: Any, script_engine: Any, client_of: Start, kind: type[BaseException]
) -> None:
    def script(_: Request) -> Sequence[str]:
        if not engine.calls[1:]:
            raise kind
        return ["well again"]

    engine = script_engine(script)
    client = client_of(fake_registry({"low": engine}))
    assert error_of(client).code == "internal"
    assert client.chat.completions.create(model="low", **ASK).choices[0].message.content == "well again"
