"""Answers that are not text, and servers that name the limit of tokens in another way."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest

from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, FakeServer, error, events, json_reply
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.health.check_policy import CheckQuestion, check_engine
from alphamix.policies.types import Completion, EngineFailure, Request, SamplingParameters

Message = dict[str, Any]
USAGE = {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14}


def body(message: Message, finish_reason: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish_reason}
    return {"id": "x", "choices": [choice], "usage": USAGE}


def chunks(message: Message) -> list[dict[str, Any]]:
    """The message in two pieces, each of which has half of every text."""
    pieces = [{key: text and text[: len(text) // 2] for key, text in message.items()}]
    pieces.append({key: text and text[len(text) // 2 :] for key, text in message.items()})
    parts = [
        {"id": "x", "choices": [{"index": 0, "delta": piece, "finish_reason": reason}]}
        for piece, reason in zip(pieces, (None, "stop"), strict=True)
    ]
    return [*parts, {"id": "x", "choices": [], "usage": USAGE}]


def requests(number: int = 1) -> list[Request]:
    return [
        Request([{"role": "user", "content": "Hi"}], seed, SamplingParameters(max_tokens=9)) for seed in range(number)
    ]


def sampled(server: FakeServer, asked: Sequence[Request]) -> list[Completion | EngineFailure]:
    with closing(OpenAIEngine(server.url, "m", None, EngineOptions(choices=1))) as engine:
        return [reply.outcome for reply in sorted(engine.sample(asked), key=lambda reply: reply.index)]


@pytest.mark.parametrize(
    ("message", "text", "kind"),
    [
        ({"content": "print(1)", "reasoning_content": "Think.", "refusal": None}, "print(1)", "text"),
        ({"content": None, "reasoning_content": "print(2)"}, "print(2)", "reasoning"),
        ({"content": "\n\n", "reasoning": "print(3)"}, "print(3)", "reasoning"),
        ({"content": "", "reasoning": "once", "reasoning_content": "once"}, "once", "reasoning"),
        ({"content": None, "refusal": "I cannot.", "reasoning": "Hm."}, "I cannot.", "refusal"),
        ({"content": None}, "", "empty"),
        ({"content": " \n"}, " \n", "empty"),
    ],
)
@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_is_kept_with_its_kind(message: Message, text: str, kind: str, is_streamed: bool) -> None:
    def respond(request: FakeRequest) -> AnyReply:
        return events(chunks(message)) if is_streamed else json_reply(body(message))

    with FakeServer(respond) as server:
        if not is_streamed:
            (outcome,) = sampled(server, requests())
        else:
            with closing(OpenAIEngine(server.url, "m", None, EngineOptions())) as engine:
                deltas = list(engine.stream(requests()))
            outcome = deltas[-1].outcome
            assert "".join(delta.text for delta in deltas) == text
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.kind, outcome.completion_tokens) == (text, kind, 9)


def test_an_answer_that_a_filter_withheld_is_rejected_and_never_an_answer() -> None:
    with FakeServer(lambda request: json_reply(body({"content": ""}, "content_filter"))) as server:
        (outcome,) = sampled(server, requests())
    assert isinstance(outcome, EngineFailure)
    assert outcome.cause == "rejected"
    assert "filter" in outcome.message


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ({"content": None, "reasoning_content": "hm"}, "failure"),
        ({"content": None, "refusal": "no"}, "failure"),
        ({"content": ""}, "failure"),
    ],
)
def test_a_check_says_what_answers_are(message: Message, state: str) -> None:
    def respond(request: FakeRequest) -> AnyReply:
        said = {key: text and f"{text} {request.seed}" for key, text in message.items()}
        return json_reply(body(said))

    with FakeServer(respond) as server, closing(OpenAIEngine(server.url, "m", None, EngineOptions())) as engine:
        (finding,) = [
            one for one in check_engine(engine, CheckQuestion(samples=4, max_tokens=9)) if one.check == "text"
        ]
    assert finding.state == state
    assert finding.message.endswith(".")


def test_a_server_that_wants_the_newer_name_of_the_limit_gets_it() -> None:
    limits: list[tuple[Any, Any]] = []

    def respond(request: FakeRequest) -> AnyReply:
        limits.append((request.json.get("max_tokens"), request.json.get("max_completion_tokens")))
        if "max_tokens" in request.json:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return json_reply(body({"content": str(request.seed)}))

    with FakeServer(respond) as server:
        first, *_ = outcomes = sampled(server, requests(40))
    assert isinstance(first, Completion)
    assert [outcome.text for outcome in outcomes if isinstance(outcome, Completion)] == [
        str(seed) for seed in range(40)
    ]
    assert set(limits) == {(9, None), (None, 9)}
    assert limits.count((None, 9)) == 40  # what was under way learned of it, too, and nothing is asked a third time


def test_another_refusal_is_not_taken_for_that_one() -> None:
    with FakeServer(lambda request: error(400, "the prompt is too long")) as server:
        (outcome,) = sampled(server, requests())
        assert len(server.requests) == 1
    assert isinstance(outcome, EngineFailure)
    assert outcome.cause == "rejected"
