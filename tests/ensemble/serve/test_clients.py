"""What the official clients make of an ensemble: tools in Python, and everything in Node, by Vercel's SDK as well.

`make test` installs the Node clients where there is npm; without them, or without node, those tests are skipped.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.policies.registry import Registry

from .upstreams import CALL, FakeUpstream, endless, hangs, says, status, stream_then, well

NODE = Path(__file__).with_name("node")
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
TOOLS: list[Any] = [{"type": "function", "function": {"name": "run", "parameters": {"type": "object"}}}]
BEHAVIOURS = {
    "low": well,
    "high": well,
    "endless": endless,
    "silent": hangs,
    "failing": status(500),
    "breaking": stream_then(b""),
    "limited": status(429),
}


@pytest.fixture
def upstreams() -> Iterator[dict[str, FakeUpstream]]:
    with ExitStack() as stack:
        started = {name: FakeUpstream(name, how) for name, how in BEHAVIOURS.items()}
        yield {name: stack.enter_context(fake) for name, fake in started.items()}


@pytest.fixture
def registry(upstreams: Mapping[str, FakeUpstream], tmp_path: Path) -> Registry:
    lines = [f'[policies.{name}]\nurl = "{fake.url}"\nmodel = "m"\n' for name, fake in upstreams.items()]
    file = tmp_path / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 3 }"]))
    return Registry.load(file)


@pytest.fixture
def client(registry: Registry, client_of: Callable[..., OpenAI]) -> OpenAI:
    return client_of(registry)


@pytest.mark.parametrize("model", ["low", "both"])
def test_a_tool_is_called_and_its_result_is_passed_on(
    client: OpenAI, upstreams: Mapping[str, FakeUpstream], model: str
) -> None:
    chat: Any = {"model": model, "user": "ann"}  # one conversation stays with one policy
    (choice,) = client.chat.completions.create(tools=TOOLS, tool_choice="auto", **chat, **ASK).choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls or []
    assert call.model_dump(exclude_none=True) == CALL
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "1"}
    client.chat.completions.create(messages=[*ASK["messages"], choice.message, result], **chat)
    first, second = (asked for fake in upstreams.values() for asked in fake.asked())
    assert (first["tools"], first["tool_choice"]) == (TOOLS, "auto")
    assert second["messages"][1]["tool_calls"] == [CALL]
    assert second["messages"][2] == result


@pytest.mark.parametrize("model", ["low", "both"])
def test_a_tool_call_is_streamed_in_pieces(client: OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, tools=TOOLS, **ASK) as stream:
        (choice,) = stream.get_final_completion().choices
    (call,) = choice.message.tool_calls or []
    assert (call.id, call.function.name, call.function.arguments) == ("call_1", "run", CALL["function"]["arguments"])
    assert choice.finish_reason == "tool_calls"


def test_each_choice_of_an_ensemble_may_call_tools(client: OpenAI, upstreams: Mapping[str, FakeUpstream]) -> None:
    answer = client.chat.completions.create(model="both", n=4, tools=TOOLS, **ASK)
    calls = [
        call.model_dump(exclude_none=True) for choice in answer.choices for call in choice.message.tool_calls or []
    ]
    assert calls == [CALL] * 4
    assert [(upstreams[name].asked()[0]["n"], upstreams[name].asked()[0]["tools"]) for name in ("low", "high")] == [
        (1, TOOLS),
        (3, TOOLS),
    ]


def test_a_schema_is_passed_on_and_its_answer_parsed(client: OpenAI, upstreams: Mapping[str, FakeUpstream]) -> None:
    class Found(BaseModel):
        number: int

    message = {"role": "assistant", "content": '{"number": 7}', "reasoning": "six and one"}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    upstreams["low"].behaviour = says(json.dumps(answer).encode())
    (choice,) = client.chat.completions.parse(model="low", response_format=Found, **ASK).choices
    assert choice.message.parsed == Found(number=7)
    assert (choice.message.model_extra or {})["reasoning"] == "six and one"
    assert upstreams["low"].asked()[0]["response_format"]["json_schema"]["strict"] is True


@pytest.fixture
def told_by(
    registry: Registry, upstreams: Mapping[str, FakeUpstream], serving: Callable[..., str]
) -> Callable[[str, str], Any]:
    """Run a script of a package in Node, and return what it prints."""

    def run(script: str, package: str) -> Any:
        if shutil.which("node") is None or not (NODE / "node_modules" / package).is_dir():
            pytest.skip(f"needs node and its package {package}: make tests/ensemble/serve/node/node_modules")
        url = serving(registry, ServeOptions(timeouts=Timeouts(idle_s=30)))
        command = ["node", str(NODE / script), url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_sdk_of_vercel(told_by: Callable[[str, str], Any]) -> None:
    told = told_by("vercel.mjs", "ai")
    assert told.pop("unknown") == {"isApiError": True, "status": 404}
    assert told.pop("limited") == {"isApiError": True, "status": 429}
    assert told.keys() == {"compatible", "completion", "chat", "responses"}
    for answers in told.values():
        assert answers["whole"]["text"] in ("low 0", "high 0")
        assert "".join(answers["streamed"].pop("pieces")) in ("low goes on", "high goes on")
        ended = {"finishReason": "stop", "tokens": 13}
        assert answers["whole"].items() >= ended.items()
        assert answers["streamed"] == ended
        for step in answers.get("called", []):
            assert step == {"results": ["ran print(1)"], "text": ""}
        assert len(answers.get("called", "12")) == 2


def test_the_official_client_for_node(
    told_by: Callable[[str, str], Any], upstreams: Mapping[str, FakeUpstream]
) -> None:
    upstreams["breaking"].go_on.set()
    told = told_by("client.mjs", "openai")
    assert told["models"] == [*BEHAVIOURS, "both"]
    assert told["whole"] == [[0, "low 0", "low"], [1, "high 0", "high"], [2, "high 1", "high"], [3, "high 2", "high"]]
    assert (told["split"], told["usage"], told["logprob"]) == ("low=1, high=3", 26, -0.1234567890123456)
    streamed = told["streamed"]
    assert streamed["policies"] == {"0": "low", "1": "high", "2": "high", "3": "high"}
    assert streamed["texts"] == {index: f"{name} goes on" for index, name in streamed["policies"].items()}
    assert set(streamed["ends"].values()) == {"stop"}
    assert streamed["usage"]["total_tokens"] == 26
    assert told["completion"] == [[index, f"low {index}"] for index in range(4)]
    assert told["called"] == [CALL]
    assert told["calledInPieces"] == [CALL]
    assert told["unknown"] == {"kind": "NotFoundError", "status": 404, "code": "model_not_found"}
    assert (told["wrong"]["kind"], told["wrong"]["status"]) == ("BadRequestError", 400)
    assert told["failed"] == {"kind": "InternalServerError", "status": 502, "code": "server"}
    assert (told["brokenOff"]["kind"], told["brokenOff"]["code"]) == ("APIError", "malformed")
    assert told["limited"] == {"kind": "RateLimitError", "status": 429, "code": "rate_limit"}
    assert told["cancelled"] >= 2
    assert told["givenUp"]["kind"] == "APIUserAbortError"
    assert upstreams["endless"].abandoned.wait(60)
    assert upstreams["silent"].abandoned.wait(60)
