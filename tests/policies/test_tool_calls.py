"""Tools, thinking and answers to be continued: what is sent, and what is read, at a URL and in this process."""

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.fake_server import FakeServer, error, events, json_reply
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import Completion, EngineFailure, Message, Request, SamplingParameters, ToolCall

USAGE = {"prompt_tokens": 20, "completion_tokens": 7}
TOOL = {"type": "function", "function": {"name": "python", "parameters": {"type": "object", "properties": {}}}}
CALL: ToolCall = {"id": "a", "type": "function", "function": {"name": "python", "arguments": '{"code": "1"}'}}
CHAT: list[Message] = [
    {"role": "user", "content": "go"},
    {"role": "assistant", "content": "", "reasoning": "hm", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": "1"},
]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def ask(server: FakeServer) -> Callable[..., Completion | EngineFailure]:
    def ask(request: Request, *, stream: bool = False) -> Completion | EngineFailure:
        with closing(OpenAIEngine(server.url, "fake", None, EngineOptions(max_retries=0))) as engine:
            replies = engine.stream([request]) if stream else engine.sample([request])
            outcome = list(replies)[-1].outcome
        assert outcome is not None
        return outcome

    return ask


def whole(message: dict[str, Any], finish_reason: str = "tool_calls", **usage: Any) -> Any:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish_reason}
    return json_reply({"choices": [choice], "usage": {**USAGE, **usage}})


def streamed(*deltas: dict[str, Any], finish_reason: str = "tool_calls") -> Any:
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish_reason}]})
    return events([*chunks, {"choices": [], "usage": USAGE}])


def piece(index: int, **call: Any) -> dict[str, Any]:
    identity = {"id": call.pop("id")} if "id" in call else {}
    return {"tool_calls": [{"index": index, **identity, "function": call}]}


def calls_of(outcome: Completion | EngineFailure) -> list[tuple[str, str, str]]:
    assert isinstance(outcome, Completion), outcome
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in outcome.tool_calls]


def test_what_is_sent(server: FakeServer, ask: Callable[..., Any]) -> None:
    ask(Request(CHAT, 1, SamplingParameters(thinking=False), (TOOL,)))
    body = server.requests[0].json
    assert body["tools"] == [TOOL]
    assert body["messages"] == [CHAT[0], {**CHAT[1], "reasoning_content": "hm"}, CHAT[2]]
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": False}
    assert "continue_final_message" not in body


def test_an_answer_to_be_continued(server: FakeServer, ask: Callable[..., Any]) -> None:
    begun: list[Message] = [{"role": "user", "content": "go"}, {"role": "assistant", "content": "so "}]
    ask(Request(begun, 1, SamplingParameters(), continues_last_message=True))
    body = server.requests[0].json
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert "tools" not in body
    assert "chat_template_kwargs" not in body


def test_a_plain_request_is_what_it_was(server: FakeServer, ask: Callable[..., Any]) -> None:
    ask(Request([{"role": "user", "content": "go"}], 1, SamplingParameters()))
    expected = {"model", "messages", "seed", "temperature", "top_p", "max_tokens"}
    assert set(server.requests[0].json) == expected


def test_a_whole_answer_with_calls(server: FakeServer, ask: Callable[..., Any]) -> None:
    twin = {**CALL, "id": "b"}
    message = {"tool_calls": [CALL, twin], "reasoning_content": "hm", "content": "So."}
    server.respond = lambda _: whole(message, prompt_tokens_details={"cached_tokens": 16})
    outcome = ask(Request(CHAT[:1], 1, SamplingParameters(), (TOOL,)))
    assert calls_of(outcome) == [("a", "python", '{"code": "1"}'), ("b", "python", '{"code": "1"}')]
    assert (outcome.finish_reason, outcome.text, outcome.reasoning) == ("tool_calls", "So.", "hm")
    assert outcome.cached_tokens == 16
    assert outcome.message == {
        "role": "assistant",
        "content": "So.",
        "reasoning": "hm",
        "tool_calls": list(outcome.tool_calls),
    }


def test_reasoning_alone_is_no_content_of_the_message(server: FakeServer, ask: Callable[..., Any]) -> None:
    server.respond = lambda _: whole({"tool_calls": [CALL], "reasoning": "hm"})
    assert ask(Request(CHAT[:1], 1, SamplingParameters())).message["content"] == ""


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (
            [
                piece(0, id="a", name="python", arguments=""),
                piece(0, arguments='{"co'),
                piece(0, arguments='de": "1"}'),
            ],
            [("a", "python", '{"code": "1"}')],
        ),
        (
            [
                piece(0, id="a", name="f", arguments="{"),
                piece(1, id="b", name="g", arguments="["),
                piece(0, arguments="}"),
                piece(1, arguments="]"),
            ],
            [("a", "f", "{}"), ("b", "g", "[]")],
        ),
        (  # all calls are numbered 0: a new id begins a new call
            [
                piece(0, id="a", name="f", arguments="{}"),
                piece(0, id="b", name="g", arguments="{"),
                piece(0, arguments="}"),
            ],
            [("a", "f", "{}"), ("b", "g", "{}")],
        ),
        (  # the id is repeated with each piece
            [piece(0, id="a", name="f", arguments="{"), piece(0, id="a", arguments="}")],
            [("a", "f", "{}")],
        ),
        ([piece(0, id="a", name="f")], [("a", "f", "{}")]),  # no arguments
        ([piece(0, name="f", arguments="{}")], [("call_0", "f", "{}")]),  # no id
    ],
)
def test_calls_in_a_stream(deltas: list[Any], expected: list[Any], server: FakeServer, ask: Callable[..., Any]) -> None:
    server.respond = lambda _: streamed({"content": "So."}, *deltas)
    outcome = ask(Request(CHAT[:1], 1, SamplingParameters(), (TOOL,)), stream=True)
    assert calls_of(outcome) == expected
    assert (outcome.text, outcome.finish_reason) == ("So.", "tool_calls")


@pytest.mark.parametrize(
    ("stated", "has_calls", "expected"),
    [
        ("tool_calls", True, "tool_calls"),
        ("stop", True, "tool_calls"),  # some servers say so
        ("length", True, "length"),  # the last call may be cut off
        ("stop", False, "stop"),
    ],
)
def test_the_finish_reason_says_whether_to_run(
    stated: str, has_calls: bool, expected: str, server: FakeServer, ask: Callable[..., Any]
) -> None:
    server.respond = lambda _: whole({"tool_calls": [CALL]} if has_calls else {"content": "x"}, stated)
    assert ask(Request(CHAT[:1], 1, SamplingParameters())).finish_reason == expected


def test_calls_that_are_announced_and_do_not_come_are_malformed(server: FakeServer, ask: Callable[..., Any]) -> None:
    server.respond = lambda _: whole({"content": "x"}, "tool_calls")
    outcome = ask(Request(CHAT[:1], 1, SamplingParameters()))
    assert isinstance(outcome, EngineFailure)
    assert outcome.cause == "malformed"


@pytest.mark.parametrize("calls", [5, [5], [{"function": 5}], [{"function": {"arguments": "\ud800"}}]])
def test_calls_of_a_wrong_form_are_malformed(calls: Any, server: FakeServer, ask: Callable[..., Any]) -> None:
    server.respond = lambda _: whole({"tool_calls": calls})
    outcome = ask(Request(CHAT[:1], 1, SamplingParameters()))
    assert isinstance(outcome, EngineFailure)
    assert outcome.cause == "malformed"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens", True),
        ("the request exceeds the available context size. try increasing the context size", True),
        ("unknown model", False),
    ],
)
def test_a_prompt_that_is_too_long_is_known(
    message: str, expected: bool, server: FakeServer, ask: Callable[..., Any]
) -> None:
    server.respond = lambda _: error(400, message)
    outcome = ask(Request(CHAT[:1], 1, SamplingParameters()))
    assert isinstance(outcome, EngineFailure)
    assert (outcome.cause, outcome.is_too_long) == ("rejected", expected)


TEMPLATE = """{%- if tools %}[{% for tool in tools %}{{ tool.function.name }}{% endfor %}]{% endif -%}
{%- for m in messages -%}
<{{ m.role }}>{{ m.content }}{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}
{%- for call in m.tool_calls or [] %}!{{ call.function.arguments.code }}{% endfor %}
{%- endfor -%}
{%- if add_generation_prompt %}<assistant>{% if enable_thinking is false %}-{% endif %}{% endif -%}"""


@pytest.mark.parametrize(
    ("messages", "fields", "expected"),
    [
        (CHAT[:1], {}, "<user>go<assistant>"),
        (CHAT, {"tools": (TOOL,)}, "[python]<user>go<assistant>(hm)!1<tool>1<assistant>"),
        (CHAT[:1], {"parameters": SamplingParameters(0.0, max_tokens=4, thinking=False)}, "<user>go<assistant>-"),
        (
            [*CHAT[:1], {"role": "assistant", "content": "so"}],
            {"continues_last_message": True},
            "<user>go<assistant>so",
        ),
    ],
)
def test_the_embedded_engine_writes_them_by_the_chat_template(
    messages: list[Message], fields: dict[str, Any], expected: str, request: pytest.FixtureRequest
) -> None:
    torch = pytest.importorskip("torch")
    assert torch
    from alphamix.policies.engines.transformers.engine import TransformersEngine  # noqa: PLC0415

    tokenizer = copy.deepcopy(request.getfixturevalue("tokenizer"))
    engine = TransformersEngine(request.getfixturevalue("model"), tokenizer, device="cpu")
    tokenizer.chat_template = TEMPLATE
    greedy = SamplingParameters(0.0, max_tokens=4)
    (by_template, plain) = engine.sample(
        [Request(messages, 0, **{"parameters": greedy, **fields}), Request(expected, 0, greedy)]
    )
    assert isinstance(by_template.outcome, Completion)
    assert isinstance(plain.outcome, Completion)
    assert by_template.outcome.prompt_tokens == plain.outcome.prompt_tokens
    assert by_template.outcome.text == plain.outcome.text


def test_arguments_that_are_no_json_reach_the_template_as_they_are() -> None:
    pytest.importorskip("torch")
    from alphamix.policies.engines.transformers.engine import _for_template  # noqa: PLC0415

    call: ToolCall = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
    message = _for_template({"role": "assistant", "content": "", "tool_calls": [call]})
    assert message["tool_calls"] == [call]
    assert json.dumps(message)
