"""The URL engine against a real HTTP server: what it asks, what it accepts, and how failures are told."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from email.utils import formatdate
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamix.policies.engines.openai.engine import OpenAIEngine, ServerAnswer
from alphamix.policies.engines.openai.fake_server import (
    EVENTS,
    AnyReply,
    FakeReply,
    FakeRequest,
    FakeServer,
    RawReply,
    json_reply,
)
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import Completion, EngineFailure, PolicyError, Prompt, Request, SamplingParameters

PARAMETERS = SamplingParameters(temperature=0.7, top_p=0.9, max_tokens=5, stop=("\n",))
Script = Callable[[FakeRequest], AnyReply]
CHAT: Prompt = [{"role": "user", "content": "hello"}]
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def completed(text: str | None = "hi", finish_reason: str | None = "stop", usage: object = USAGE) -> FakeReply:
    body: dict[str, Any] = {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": finish_reason,
            }
        ],
    }
    if usage:
        body["usage"] = usage
    return json_reply(body)


def streamed(*pieces: str, finish_reason: str | None = "stop", usage: bool = True) -> FakeReply:
    def chunk(**more: Any) -> bytes:
        body = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", **more}
        return b"data: " + json.dumps(body).encode() + b"\n\n"

    def choice(delta: dict[str, str], reason: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": reason}]

    body = chunk(choices=choice({"role": "assistant", "content": ""}))
    body += b"".join(chunk(choices=choice({"content": piece})) for piece in pieces)
    body += chunk(choices=choice({}, finish_reason))
    if usage:
        body += chunk(choices=[], usage=USAGE)
    return FakeReply(body + b"data: [DONE]\n\n", headers={"Content-Type": EVENTS})


def whole_of(reply: FakeReply) -> bytes:
    assert isinstance(reply.body, bytes)
    return reply.body


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(lambda _: completed()) as server:
        models = {"object": "list", "data": [{"id": "other"}, {"id": "m", "object": "model"}]}
        server.pages = {"/v1/models": json_reply(models)}
        yield server


@pytest.fixture
def open_engine(server: FakeServer) -> Iterator[Callable[..., OpenAIEngine]]:
    opened: list[OpenAIEngine] = []

    def open_one(url: str = "", api_key: str | None = None, **options: Any) -> OpenAIEngine:
        settings: dict[str, Any] = {"max_retries": 0, "first_byte_timeout_s": 60.0, "choices": 1}
        opened.append(OpenAIEngine(url or server.url, "m", api_key, EngineOptions(**(settings | options))))
        return opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


OpenEngine = Callable[..., OpenAIEngine]


def outcome_of(engine: OpenAIEngine, prompt: Prompt = CHAT) -> Completion | EngineFailure:
    (reply,) = engine.sample([Request(prompt, 1, PARAMETERS)])
    assert reply.index == 0
    return reply.outcome


def failure_of(engine: OpenAIEngine) -> EngineFailure:
    outcome = outcome_of(engine)
    assert isinstance(outcome, EngineFailure)
    assert "\n" not in outcome.message
    return outcome


def test_messages_are_asked_with_all_parameters(server: FakeServer, open_engine: OpenEngine) -> None:
    outcome = outcome_of(open_engine())
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.finish_reason) == ("hi", "stop")
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (3, 2)
    assert outcome.seconds > 0
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.json == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "seed": 1,
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 5,
        "stop": ["\n"],
    }


def test_plain_text_goes_to_completions(server: FakeServer, open_engine: OpenEngine) -> None:
    choice = {"index": 0, "text": "tail", "finish_reason": "length", "logprobs": None}
    usage = {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    body = {"id": "x", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]}
    server.respond = lambda _: json_reply(body | {"usage": usage})
    outcome = outcome_of(open_engine(), "head")
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.finish_reason, outcome.completion_tokens) == ("tail", "length", 5)
    (request,) = server.requests
    assert (request.path, request.prompt) == ("/v1/completions", "head")


@pytest.mark.parametrize("content", [None, ""])
def test_an_empty_answer_that_finished_is_an_answer(
    server: FakeServer, open_engine: OpenEngine, content: str | None
) -> None:
    server.respond = lambda _: completed(content, "length")
    outcome = outcome_of(open_engine())
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.finish_reason) == ("", "length")


@pytest.mark.parametrize("response", [completed("", None), completed("x", "tool_calls"), completed("x", "abort")])
def test_an_answer_that_did_not_finish_is_a_failure(
    server: FakeServer, open_engine: OpenEngine, response: FakeReply
) -> None:
    server.respond = lambda _: response
    failure = failure_of(open_engine())
    assert failure.cause == "malformed"
    assert "finish reason" in failure.message


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (json_reply({"error": {"message": "slow down"}}, 429), "rate_limit"),
        (json_reply({"error": {"message": "too slow"}}, 408), "timeout"),
        (json_reply({"error": {"message": "busy"}}, 409), "rejected"),
        (json_reply({"error": {"message": "no such field"}}, 422), "rejected"),
        (json_reply({"error": {"message": "lost", "code": 502}}), "malformed"),
        (json_reply({"error": "lost", "choices": []}), "malformed"),
        (json_reply({"error": {"message": "out of memory"}}, 500), "server"),
        (json_reply({"error": {"message": "overloaded"}}, 503), "server"),
        (json_reply({"error": {"message": "no such model"}}, 404), "rejected"),
        (json_reply({"error": {"message": "too\nlong"}}, 400), "rejected"),
        (json_reply({"error": {"message": "bad key"}}, 401), "rejected"),
        (FakeReply(b"<html>a proxy's page</html>", headers={"Content-Type": "text/html"}), "malformed"),
        (FakeReply(b'{"choices": [', headers={"Content-Type": "application/json"}), "malformed"),
        (json_reply(["no", "object"]), "malformed"),
        (json_reply({"id": "x"}), "malformed"),
        (json_reply({"id": "x", "choices": [{"index": 0}]}), "malformed"),
        (json_reply({"id": "x", "choices": [], "usage": None}), "malformed"),
        (json_reply({"id": "x", "choices": ["text"]}), "malformed"),
        (json_reply({"id": "x", "choices": [{"message": {"content": ["part"]}}]}), "malformed"),
        (completed("text without counts", usage=False), "malformed"),
        (completed("text with odd counts", usage={"prompt_tokens": "3", "completion_tokens": 2}), "malformed"),
        (completed("text with odd counts", usage={"prompt_tokens": 3, "completion_tokens": -1}), "malformed"),
        (completed("half of a pair: \ud83d"), "malformed"),
        (FakeReply(b"[" * 100_000, headers={"Content-Type": "application/json"}), "malformed"),
        (FakeReply(b"\xff\xfe", headers={"Content-Type": "application/json"}), "malformed"),
    ],
)
def test_failures_are_told_by_cause(
    server: FakeServer, open_engine: OpenEngine, response: FakeReply, cause: str
) -> None:
    server.respond = lambda _: response
    failure = failure_of(open_engine())
    assert failure.cause == cause
    assert server.url in failure.message


def test_a_server_that_is_not_there_is_told(open_engine: OpenEngine) -> None:
    engine = open_engine("http://127.0.0.1:1/v1")
    assert failure_of(engine).cause == "connection"
    described = engine.describe()
    assert isinstance(described, EngineFailure)
    assert described.cause == "connection"
    assert "see that the server runs" in described.message


def test_a_server_describes_its_model(open_engine: OpenEngine) -> None:
    assert open_engine().describe() == {"id": "m", "object": "model"}


def test_silence_is_a_timeout(server: FakeServer, open_engine: OpenEngine) -> None:
    released = threading.Event()

    def silent(*_: object) -> FakeReply:
        released.wait(60)
        return completed()

    server.respond = silent
    assert failure_of(open_engine(first_byte_timeout_s=0.2)).cause == "timeout"
    released.set()


FAST = {"Retry-After": "0.01"}


@pytest.mark.parametrize(
    "passing",
    [
        json_reply({"error": {"message": "slow down"}}, 429, **FAST),
        json_reply({"error": {"message": "slow down"}}, 429, **{"Retry-After": formatdate(usegmt=True)}),
        json_reply({"error": {"message": "too slow"}}, 408, **FAST),
        json_reply({"error": {"message": "oops"}}, 500, **FAST),
        json_reply({"error": {"message": "loading"}}, 503, **FAST),
    ],
)
def test_what_passes_is_waited_out(server: FakeServer, open_engine: OpenEngine, passing: FakeReply) -> None:
    server.respond = lambda request: passing if request.number < 2 else completed()
    assert isinstance(outcome_of(open_engine(max_retries=2)), Completion)
    assert len(server.requests) == 3
    assert len({request.body for request in server.requests}) == 1


def test_a_server_that_stays_broken_is_asked_a_bounded_number_of_times(
    server: FakeServer, open_engine: OpenEngine
) -> None:
    server.respond = lambda _: json_reply({"error": {"message": "no"}}, 503, **FAST)
    assert failure_of(open_engine(max_retries=4)).cause == "server"
    assert len(server.requests) == 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_rejected_request_is_never_repeated(server: FakeServer, open_engine: OpenEngine, status: int) -> None:
    headers = FAST | {"x-should-retry": "true"}
    server.respond = lambda _: json_reply({"error": {"message": "no"}}, status, **headers)
    assert failure_of(open_engine(max_retries=5)).cause == "rejected"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "response", [completed(usage=None), json_reply({"error": {"message": "lost"}}), completed("", "?")]
)
def test_an_answer_that_is_none_is_not_asked_again(
    server: FakeServer, open_engine: OpenEngine, response: FakeReply
) -> None:
    server.respond = lambda _: response
    assert failure_of(open_engine(max_retries=5)).cause == "malformed"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "wait", ["3600", "1e999", pytest.param(formatdate(time.time() + 3600, usegmt=True), id="an hour from now")]
)
def test_a_wait_beyond_the_deadline_is_not_begun(server: FakeServer, open_engine: OpenEngine, wait: str) -> None:
    server.respond = lambda _: json_reply({"error": {"message": "no"}}, 429, **{"Retry-After": wait})
    assert failure_of(open_engine(max_retries=5, deadline_s=60)).cause == "rate_limit"
    assert len(server.requests) == 1


@pytest.mark.parametrize("wait", ["soon", "nan", "-5", "", "Fri, 99 Nope 2026"])
def test_a_wait_that_makes_no_sense_is_not_obeyed(server: FakeServer, open_engine: OpenEngine, wait: str) -> None:
    limited = json_reply({"error": {"message": "no"}}, 429, **{"Retry-After": wait})
    server.respond = lambda request: completed() if request.number else limited
    assert isinstance(outcome_of(open_engine(max_retries=1)), Completion)
    assert len(server.requests) == 2


def raw(body: bytes = b"", end: Literal["close", "reset"] = "close") -> Script:
    return lambda _: RawReply(body, end)


HALF = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
"""A body that ends before its length."""


@pytest.mark.parametrize(
    "script",
    [raw(end="reset"), raw(HALF), raw(), raw(b"no HTTP at all\r\n\r\n")],
    ids=["reset", "half", "closed", "no HTTP"],
)
def test_a_lost_connection_is_made_again(server: FakeServer, open_engine: OpenEngine, script: Script) -> None:
    server.respond = lambda request: completed() if request.number else script(request)
    assert isinstance(outcome_of(open_engine(max_retries=2)), Completion)
    server.requests.clear()
    server.respond = script
    assert failure_of(open_engine(max_retries=1)).cause == "connection"
    assert len(server.requests) == 2


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class Slow:
    """Sends a beginning, then one more byte again and again until the test is over."""

    def __init__(self, beginning: bytes, more: bytes = b"", pause_s: float = 0.02) -> None:
        self.beginning, self.more, self.pause_s = beginning, more, pause_s
        self.over = threading.Event()

    def __call__(self, _: FakeRequest) -> RawReply:
        return RawReply(self.pieces())

    async def pieces(self) -> AsyncIterator[bytes]:
        yield self.beginning
        while not self.over.is_set():
            yield self.more
            await asyncio.sleep(self.pause_s)


@pytest.fixture
def slow() -> Iterator[Callable[..., Slow]]:
    made: list[Slow] = []

    def make(*arguments: Any) -> Slow:
        made.append(Slow(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.over.set()


def last_of_stream(engine: OpenAIEngine) -> tuple[str, Completion | EngineFailure | None]:
    deltas = list(engine.stream([Request(CHAT, 1, PARAMETERS)]))
    assert all(delta.outcome is None for delta in deltas[:-1])
    return "".join(delta.text for delta in deltas), deltas[-1].outcome


def piece(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


@pytest.mark.parametrize("beginning", [b"", HEAD])
def test_silence_before_the_first_byte_ends_an_attempt(
    server: FakeServer, open_engine: OpenEngine, slow: Callable[..., Slow], beginning: bytes
) -> None:
    script = slow(beginning)
    server.respond = script
    engine = open_engine(first_byte_timeout_s=0.5, idle_timeout_s=60, max_retries=1)
    text, failure = last_of_stream(engine)
    assert isinstance(failure, EngineFailure)
    assert (text, failure.cause) == ("", "timeout")
    assert "no byte in 0.5 s" in failure.message
    assert len(server.requests) == 2  # nothing was handed out: it was asked again


def test_silence_in_mid_stream_ends_it_and_is_not_repeated(
    server: FakeServer, open_engine: OpenEngine, slow: Callable[..., Slow]
) -> None:
    script = slow(HEAD + piece("he"))
    server.respond = script
    text, failure = last_of_stream(open_engine(first_byte_timeout_s=60, idle_timeout_s=0.2, max_retries=5))
    assert isinstance(failure, EngineFailure)
    assert (text, failure.cause) == ("he", "timeout")
    assert "no further byte in 0.2 s" in failure.message
    assert len(server.requests) == 1


def test_silence_within_a_whole_answer_ends_an_attempt(
    server: FakeServer, open_engine: OpenEngine, slow: Callable[..., Slow]
) -> None:
    script = slow(HALF)
    server.respond = script
    failure = failure_of(open_engine(first_byte_timeout_s=60, idle_timeout_s=0.2, max_retries=1))
    assert failure.cause == "timeout"
    assert "no further byte" in failure.message
    assert len(server.requests) == 2


@pytest.mark.parametrize("more", [b" ", b": still here\n\n", piece("x")])
def test_a_trickle_ends_at_the_deadline(
    server: FakeServer, open_engine: OpenEngine, slow: Callable[..., Slow], more: bytes
) -> None:
    script = slow(HEAD, more)
    server.respond = script
    engine = open_engine(first_byte_timeout_s=60, idle_timeout_s=60, deadline_s=0.5, max_retries=5)
    for failure in (last_of_stream(engine)[1], outcome_of(engine)):
        assert isinstance(failure, EngineFailure)
        assert failure.cause == "timeout"
        assert "no whole answer in 0.5 s" in failure.message
    assert len(server.requests) == 2


def test_the_deadline_covers_all_attempts(server: FakeServer, open_engine: OpenEngine) -> None:
    server.respond = lambda _: json_reply({"error": {"message": "no"}}, 500, **{"Retry-After": "0.5"})
    assert failure_of(open_engine(max_retries=1000, deadline_s=2)).cause in ("server", "timeout")
    assert len(server.requests) <= 5


def test_comments_keep_a_stream_alive(server: FakeServer, open_engine: OpenEngine, slow: Callable[..., Slow]) -> None:
    whole = whole_of(streamed("hi"))
    script = slow(HEAD, b": still here\n\n")

    async def later() -> AsyncIterator[bytes]:
        asyncio.get_running_loop().call_later(2.0, script.over.set)
        async for piece in script.pieces():
            yield piece
        yield whole

    server.respond = lambda _: RawReply(later())
    text, outcome = last_of_stream(open_engine(idle_timeout_s=1.5))
    assert isinstance(outcome, Completion)
    assert text == outcome.text == "hi"


@pytest.mark.parametrize("script", [raw(HEAD + piece("he")), raw(HEAD, end="reset")])
def test_a_stream_that_is_cut_is_no_answer(server: FakeServer, open_engine: OpenEngine, script: Script) -> None:
    server.respond = script
    _, failure = last_of_stream(open_engine())
    assert isinstance(failure, EngineFailure)
    assert failure.cause in ("malformed", "connection")


def test_a_chunked_stream_that_is_cut_is_a_lost_connection(server: FakeServer, open_engine: OpenEngine) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (len(piece("he")), piece("he"))
    server.respond = raw(head + chunk)
    text, failure = last_of_stream(open_engine(max_retries=5))
    assert isinstance(failure, EngineFailure)
    assert (text, failure.cause) == ("he", "connection")
    assert len(server.requests) == 1


def test_a_stream_is_repeated_while_nothing_was_handed_out(server: FakeServer, open_engine: OpenEngine) -> None:
    server.respond = lambda request: streamed("hi") if request.number else RawReply(end="reset")
    text, outcome = last_of_stream(open_engine(max_retries=1))
    assert isinstance(outcome, Completion)
    assert text == outcome.text == "hi"


@given(cuts=st.lists(st.integers(0, 800), max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_stream_reads_alike_however_it_is_cut_into_packets(
    server: FakeServer, open_engine: OpenEngine, cuts: list[int]
) -> None:
    body = whole_of(streamed("zwei ", "Wörter\u2028", "😀")).replace(b"\n\n", b"\r\n\r\n")

    async def packets() -> AsyncIterator[bytes]:
        yield HEAD
        for start, end in pairwise([0, *sorted(cuts), len(body)]):
            yield body[start:end]

    server.respond = lambda _: RawReply(packets())
    engine = open_engine()
    text, outcome = last_of_stream(engine)
    engine.close()
    assert isinstance(outcome, Completion)
    assert text == outcome.text == "zwei Wörter\u2028😀"


def test_choices_are_seen_as_they_are(server: FakeServer, open_engine: OpenEngine) -> None:
    choices = [
        {"index": i, "message": {"role": "assistant", "content": str(i)}, "finish_reason": "odd"} for i in range(2)
    ]
    server.respond = lambda _: json_reply({"choices": choices, "system_fingerprint": "fp"})
    ((index, answer),) = open_engine().inspect([Request(CHAT, 1, PARAMETERS)], n=2)
    assert index == 0
    assert isinstance(answer, ServerAnswer)
    assert answer.texts == {0: "0", 1: "1"}
    assert set(answer.finish_reasons.values()) == {"odd"}
    assert (answer.prompt_tokens, answer.system_fingerprint) == (None, "fp")
    assert server.requests[0].json["n"] == 2


def test_as_many_requests_as_allowed_are_in_flight(server: FakeServer, open_engine: OpenEngine) -> None:
    together = threading.Barrier(8)  # passes only if eight are in flight at once
    lock, active, most = threading.Lock(), 0, 0

    def respond(request: FakeRequest) -> FakeReply:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        together.wait(60)
        with lock:
            active -= 1
        return completed(str(request.seed))

    server.respond = respond
    requests = [Request(CHAT, seed, PARAMETERS) for seed in range(32)]
    outcomes = {reply.index: reply.outcome for reply in open_engine(concurrency=8).sample(requests)}
    assert {i: o.text for i, o in outcomes.items() if isinstance(o, Completion)} == {i: str(i) for i in range(32)}
    assert most == 8


def test_one_failure_leaves_the_others_alone(server: FakeServer, open_engine: OpenEngine) -> None:
    bad = json_reply({"error": {"message": "no"}}, 500)
    server.respond = lambda request: bad if request.seed == 3 else completed()
    replies = list(open_engine().sample([Request(CHAT, seed, PARAMETERS) for seed in range(6)]))
    assert sorted(reply.index for reply in replies) == list(range(6))
    assert [r.index for r in replies if isinstance(r.outcome, EngineFailure)] == [3]


def test_replies_come_as_they_are_ready(server: FakeServer, open_engine: OpenEngine) -> None:
    first_was_seen = threading.Event()

    def respond(request: FakeRequest) -> FakeReply:
        if request.seed == 0:
            first_was_seen.wait(60)
        return completed()

    server.respond = respond
    replies = open_engine().sample([Request(CHAT, seed, PARAMETERS) for seed in range(2)])
    assert next(replies).index == 1  # the slow one does not hold it back
    first_was_seen.set()
    assert next(replies).index == 0
    assert next(replies, None) is None


def test_leaving_early_cancels_what_is_in_flight(server: FakeServer, open_engine: OpenEngine) -> None:
    released = threading.Event()

    def respond(request: FakeRequest) -> FakeReply:
        if request.seed > 0:
            released.wait(60)
        return completed()

    server.respond = respond
    engine = open_engine(concurrency=2)
    replies = engine.sample([Request(CHAT, seed, PARAMETERS) for seed in range(20)])
    assert next(replies).index == 0
    del replies
    # The places of the cancelled requests are free again, while the server still sits on them.
    server.respond = lambda _: completed()
    assert isinstance(outcome_of(engine), Completion)
    asked = len(server.requests)
    released.set()
    assert asked <= 1 + 2 + 1


def test_a_stream_gives_pieces_and_then_the_outcome(server: FakeServer, open_engine: OpenEngine) -> None:
    server.respond = lambda _: streamed("he", "l", "lo")
    deltas = list(open_engine().stream([Request(CHAT, 1, PARAMETERS)]))
    assert [delta.text for delta in deltas] == ["he", "l", "lo", ""]
    outcome = deltas[-1].outcome
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.finish_reason, outcome.completion_tokens) == ("hello", "stop", 2)
    assert all(delta.outcome is None for delta in deltas[:-1])
    assert server.requests[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("response", "cause"),
    [
        (streamed("he", finish_reason=None), "malformed"),
        (streamed("he", usage=False), "malformed"),
        (json_reply({"error": {"message": "no"}}, 500), "server"),
        (FakeReply(b"data: {torn\n\n", headers={"Content-Type": EVENTS}), "malformed"),
        (
            FakeReply(b'data: {"error": {"message": "lost"}}\n\n', headers={"Content-Type": EVENTS}),
            "malformed",
        ),
    ],
)
def test_a_stream_that_breaks_is_a_failure(
    server: FakeServer, open_engine: OpenEngine, response: FakeReply, cause: str
) -> None:
    server.respond = lambda _: response
    last = list(open_engine().stream([Request(CHAT, 1, PARAMETERS)]))[-1].outcome
    assert isinstance(last, EngineFailure)
    assert last.cause == cause


def test_a_key_is_sent_and_no_other_ever_is(
    server: FakeServer, open_engine: OpenEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the user's own")
    outcome_of(open_engine(api_key="given"))
    outcome_of(open_engine())
    sent = [request.headers["authorization"] for request in server.requests]
    assert sent == ["Bearer given", "Bearer none"]


def test_closing_twice_is_safe(open_engine: OpenEngine) -> None:
    engine = open_engine()
    engine.close()
    engine.close()
    with pytest.raises(PolicyError, match="is closed"):
        outcome_of(engine)


def test_headers_and_the_query_and_the_user_of_a_url_are_sent_and_never_shown(server: FakeServer) -> None:
    url = server.url.replace("http://", "http://ann:pw-secret@") + "?api-version=3"
    options = EngineOptions(max_retries=0, first_byte_timeout_s=60.0)
    for api_key, authorization in ((None, "Basic YW5uOnB3LXNlY3JldA=="), ("key", "Bearer key")):
        with closing(OpenAIEngine(url, "m", api_key, options, headers={"x-team": "blue"})) as engine:
            assert isinstance(outcome_of(engine), Completion)
            request = server.requests[-1]
            assert request.path.endswith("/v1/chat/completions?api-version=3")
            assert (request.headers["authorization"], request.headers["x-team"]) == (authorization, "blue")
            server.respond = lambda _: FakeReply(b"", 500)
            assert "secret" not in failure_of(engine).message
            server.respond = lambda _: completed()
