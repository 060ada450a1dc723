"""`/v1/responses`, asked by the official client: texts, streams, tools and schemas, over the same policies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from alphamix.policies.registry import Registry

from .upstreams import CALL, EVENTS, FakeUpstream, says, status, stream_then, well

TOOL: Any = {"type": "function", "name": "run", "parameters": {"type": "object"}, "strict": False}
ARGUMENTS = CALL["function"]["arguments"]


@pytest.fixture
def client(upstreams: dict[str, FakeUpstream], tmp_path: Path, client_of: Callable[..., OpenAI]) -> OpenAI:
    lines = [f'[policies.{name}]\nurl = "{fake.url}"\nmodel = "m"\n' for name, fake in upstreams.items()]
    file = tmp_path / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 1 }"]))
    return client_of(Registry.load(file))


@pytest.mark.parametrize("model", ["low", "both"])
def test_a_text(client: OpenAI, upstreams: dict[str, FakeUpstream], model: str) -> None:
    answer = client.responses.create(
        model=model, instructions="be brief", input="hi", max_output_tokens=9, temperature=0.5, store=False
    )
    assert answer.output_text in ("low 0", "high 0")
    assert (answer.status, answer.model) == ("completed", model)
    assert answer.output[0].policy == {"name": answer.output_text.split()[0], "alpha": None}
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens) == (10, 3, 13)
    assert answer.usage.input_tokens_details.cached_tokens == 2
    (asked,) = [asked for fake in upstreams.values() for asked in fake.asked()]
    assert asked == {
        "model": "m",
        "temperature": 0.5,
        "max_completion_tokens": 9,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
    }


@pytest.mark.parametrize("model", ["low", "both"])
def test_a_stream(client: OpenAI, model: str) -> None:
    with client.responses.stream(model=model, input="hi") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert final.output_text in ("low goes on", "high goes on")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].response.model == model
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final.usage is not None
    assert final.usage.total_tokens == 13


@pytest.mark.parametrize("model", ["low", "both"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_tool_is_called_and_its_result_sent_back(
    client: OpenAI, upstreams: dict[str, FakeUpstream], streamed: bool, model: str
) -> None:
    ask: Any = {"model": model, "user": "ann", "input": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
    if streamed:
        with client.responses.stream(**ask) as stream:
            answer = stream.get_final_response()
    else:
        answer = client.responses.create(tool_choice={"type": "function", "name": "run"}, **ask)
    (call,) = answer.output
    assert (call.type, call.name, call.call_id, call.arguments) == ("function_call", "run", "call_1", ARGUMENTS)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "1"}
    again = client.responses.create(model=model, user="ann", input=[*ask["input"], *answer.output, result])
    assert again.output_text in ("low 0", "high 0")
    first, second = (asked for fake in upstreams.values() for asked in fake.asked())
    assert first["tools"][0]["function"]["name"] == "run"
    assert streamed or first["tool_choice"] == {"type": "function", "function": {"name": "run"}}
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
    assert second["messages"][1]["tool_calls"] == [CALL]
    assert second["messages"][2] == {"role": "tool", "tool_call_id": "call_1", "content": "1"}


def test_an_answer_can_be_sent_back(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    answer = client.responses.create(model="low", input="hi")
    more: Any = {"role": "user", "content": [{"type": "input_text", "text": "and?"}]}
    client.responses.create(model="low", input=[*answer.output, more])
    assert upstreams["low"].asked()[1]["messages"] == [
        {"role": "assistant", "content": "low 0"},
        {"role": "user", "content": "and?"},
    ]


def test_a_schema(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    class Found(BaseModel):
        number: int

    message = {"role": "assistant", "content": '{"number": 7}'}
    upstreams["low"].behaviour = says(
        json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    )
    answer = client.responses.parse(model="low", input="hi", text_format=Found)
    assert answer.output_parsed == Found(number=7)
    assert answer.usage is None
    asked = upstreams["low"].asked()[0]["response_format"]
    assert (asked["type"], asked["json_schema"]["name"], asked["json_schema"]["strict"]) == (
        "json_schema",
        "Found",
        True,
    )


@pytest.mark.parametrize("streamed", [False, True])
def test_a_refusal_is_told_and_can_be_sent_back(
    client: OpenAI, upstreams: dict[str, FakeUpstream], streamed: bool
) -> None:
    message = {"role": "assistant", "content": None, "refusal": "I will not"}
    part = "delta" if streamed else "message"
    choice = {"index": 0, part: message, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    upstreams["low"].behaviour = says(b"data: " + body + b"\n\ndata: [DONE]\n\n", EVENTS) if streamed else says(body)
    if streamed:
        with client.responses.stream(model="low", input="hi") as stream:
            kinds = [event.type for event in stream]
            answer = stream.get_final_response()
        assert {"response.refusal.delta", "response.refusal.done"} < set(kinds)
    else:
        answer = client.responses.create(model="low", input="hi")
    (item,) = answer.output
    (said,) = item.content
    assert (said.type, said.refusal, answer.output_text) == ("refusal", "I will not", "")
    upstreams["low"].behaviour = well
    client.responses.create(model="low", input=[item, {"role": "user", "content": "why?"}])
    assert upstreams["low"].asked()[-1]["messages"][0] == {"role": "assistant", "content": "I will not"}


def test_an_answer_that_is_cut_is_incomplete(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "so"}, "finish_reason": "length"}
    upstreams["low"].behaviour = says(json.dumps({"choices": [choice]}).encode())
    answer = client.responses.create(model="low", input="hi")
    assert (answer.status, answer.output_text) == ("incomplete", "so")
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input[0].content"),
        ({"input": 3}, "input"),
        ({"text": 3}, "text"),
        ({"tools": {}}, "tools"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(client: OpenAI, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.responses.create(**{"model": "low", "input": "hi", **changes})
    assert raised.value.param == param


def test_failures(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = status(500)
    with pytest.raises(openai.InternalServerError):
        client.responses.create(model="low", input="hi")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="hihg", input="hi")
    upstreams["low"].behaviour = stream_then(b"")
    upstreams["low"].go_on.set()
    events = list(client.responses.create(model="low", input="hi", stream=True))
    assert events[-1].type == "response.failed"
    assert events[-1].response.error is not None
    assert "response.completed" not in [event.type for event in events]
