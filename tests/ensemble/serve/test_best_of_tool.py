"""Best-of in the setting `tool`: the official client, a real server, real workspaces and the real judge."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.best_of import tool_draws
from alphamix.ensemble.serve.best_of.tool_draws import with_instructions
from alphamix.grading.workspace import WorkspaceError, WorkspacePool, WorkspaceUnavailableError
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, json_reply
from alphamix.policies.registry import Registry
from alphamix.policies.types import Request

from .conftest import FakeRegistry, ScriptEngine
from .upstreams import FakeUpstream, status

Start = Callable[..., OpenAI]

MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "Print n + 1."}]}
TESTS = [{"input": f"{n}\n", "output": f"{n + 1}\n"} for n in range(3)]


def reply(content: str | None, *codes: str, reason: str | None = None) -> AnyReply:
    calls = [
        {
            "id": f"call-{place}",
            "type": "function",
            "function": {"name": "python", "arguments": json.dumps({"code": code})},
        }
        for place, code in enumerate(codes)
    ]
    message = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
    choice = {"index": 0, "message": message, "finish_reason": reason or ("tool_calls" if calls else "stop")}
    usage = {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    return json_reply(
        {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )


async def computing(_: FakeUpstream, request: FakeRequest) -> AnyReply:
    """Compute what to add by two calls that share a variable, and answer with what was printed."""
    messages = request.json["messages"]
    if messages[-1]["role"] == "user":
        return reply(None, "one = 10 - 9", "print(one)")
    return reply(f"```python\nprint(int(input()) + {messages[-1]['content']})\n```")


@pytest.fixture
def registry(upstreams: dict[str, FakeUpstream], tmp_path: Path) -> Registry:
    lines = [f'[policies.{name}]\nurl = "{fake.url}"\nmodel = "secret-model"\n' for name, fake in upstreams.items()]
    file = tmp_path / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 3 }"]))
    for fake in upstreams.values():
        fake.behaviour = computing
    return Registry.load(file)


@pytest.fixture
def client(registry: Registry, client_of: Start) -> OpenAI:
    return client_of(registry)


def ask(client: OpenAI, model: str = "low", tool: dict[str, Any] | None = None, **wanted: Any) -> Any:
    best_of: dict[str, Any] = {"budget": 4, "select": "tests", "tests": TESTS, "setting": "tool"}
    if tool is not None:
        best_of["tool"] = tool
    return client.chat.completions.create(model=model, extra_body={"ensemble": best_of}, **{**MESSAGES, **wanted})


def test_each_draw_runs_its_code_and_the_best_program_is_the_answer(
    client: OpenAI, upstreams: dict[str, FakeUpstream]
) -> None:
    answer = ask(client, "both", seed=5, max_tokens=100)
    assert answer.choices[0].message.content == "```python\nprint(int(input()) + 1)\n```"
    told = answer.ensemble
    assert (told["setting"], told["stopped"], told["drawn"]) == ("tool", "passed", answer.ensemble["drawn"])
    assert told["winners"][0]["attempt"] == {"turns": 2, "calls": 2, "ending": "submitted"}
    assert told["winners"][0]["verdict"] == "AC"
    asked = [sent for fake in upstreams.values() for sent in fake.asked()]
    assert len({sent["seed"] for sent in asked}) == len(asked)  # each attempt and each turn has its own
    first = [sent for sent in asked if sent["messages"][-1]["role"] == "user"]
    later = [sent for sent in asked if sent["messages"][-1]["role"] == "tool"]
    assert {len(first), *(sent["max_tokens"] for sent in first)} == {4, 100}
    assert {sent["max_tokens"] for sent in later} == {93}
    assert later[0]["messages"][-1]["content"] == "1"
    assert [sent["n"] for sent in asked] == [1] * len(asked)
    counted = {name: cost["calls"] for name, cost in told["cost"].items()}
    assert sum(cost["choices"] for cost in told["cost"].values()) == told["drawn"]
    assert answer.usage.completion_tokens == 7 * sum(counted.values())


def test_a_stream_ends_with_the_best(client: OpenAI) -> None:
    chunks: Any = list(ask(client, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "```python\nprint(int(input()) + 1)\n```"
    assert [chunk.ensemble["setting"] for chunk in chunks if hasattr(chunk, "ensemble")] == ["tool"]


def test_responses_have_it_as_well(client: OpenAI) -> None:
    best_of = {"budget": 1, "select": "tests", "tests": TESTS, "setting": "tool"}
    answer = client.responses.create(model="both", input="Print n + 1.", extra_body={"ensemble": best_of})
    assert answer.output_text == "```python\nprint(int(input()) + 1)\n```"


def test_an_engine_in_this_process_calls_in_plain_text(client_of: Start) -> None:
    def script(request: Request) -> list[str]:
        messages: Any = request.prompt
        assert [message["role"] for message in messages[:2]] == ["system", "user"]
        if len(messages) == 2:
            return ['<tool_call>{"name": "python", "arguments": {"code": "print(3 - 2)"}}</tool_call>']
        assert messages[-1]["content"] == "<tool_response>\n1\n</tool_response>"
        return ["```python\nprint(int(input()) + 1)\n```"]

    client = client_of(FakeRegistry({"low": ScriptEngine(script)}))
    answer = ask(client, tool={"format": "hermes", "calls": 2})
    assert answer.ensemble["winners"][0]["attempt"] == {"turns": 2, "calls": 1, "ending": "submitted"}


@pytest.mark.parametrize(
    ("content", "codes", "limits", "attempt"),
    [
        (None, ("1",), {}, {"turns": 3, "calls": 2, "ending": "out_of_turns"}),
        ("cut", (), {}, {"turns": 1, "calls": 0, "ending": "out_of_tokens"}),
        ("", (), {}, {"turns": 1, "calls": 0, "ending": "nothing_submitted"}),
        (None, ("1",), {"max_completion_tokens": 8}, {"turns": 2, "calls": 2, "ending": "out_of_tokens"}),
    ],
)
def test_an_attempt_ends_by_its_limits(
    content: str | None,
    codes: tuple[str, ...],
    limits: dict[str, Any],
    attempt: dict[str, Any],
    client: OpenAI,
    upstreams: dict[str, FakeUpstream],
) -> None:
    async def answer(*_: Any) -> AnyReply:
        return reply(content, *codes, reason="length" if content == "cut" else None)

    upstreams["low"].behaviour = answer
    told: Any = ask(client, tool={"calls": 2}, **limits)
    assert told.ensemble["stopped"] == "budget"
    assert told.ensemble["winners"][0]["attempt"] == attempt


@pytest.mark.parametrize(
    ("tool", "wanted", "param"),
    [
        ({"calls": 0}, {}, "ensemble.tool.calls"),
        ({"calls": 1000}, {}, "ensemble.tool.calls"),
        ({"format": "xml"}, {}, "ensemble.tool.format"),
        ({"cpu_s": 1}, {}, "ensemble.tool.cpu_s"),
        (None, {"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        (None, {"messages": []}, "messages"),
        (None, {"max_tokens": "many"}, "max_tokens"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_drawn(
    tool: Any, wanted: dict[str, Any], param: str, client: OpenAI, upstreams: dict[str, FakeUpstream]
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, tool=tool, **wanted)
    assert refused.value.param == param
    assert not upstreams["low"].asked()


def test_tool_options_without_the_setting_and_texts_are_refused(client: OpenAI) -> None:
    best_of = {"budget": 1, "select": "tests", "tests": TESTS}
    with pytest.raises(openai.BadRequestError, match=r"set ensemble\.setting to 'tool'"):
        client.chat.completions.create(model="low", extra_body={"ensemble": {**best_of, "tool": {}}}, **MESSAGES)
    with pytest.raises(openai.BadRequestError, match="send it to /v1/chat/completions"):
        client.completions.create(model="low", prompt="x", extra_body={"ensemble": {**best_of, "setting": "tool"}})


def test_no_sandbox_is_one_line_and_nothing_is_drawn(
    client: OpenAI, upstreams: dict[str, FakeUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_: WorkspacePool) -> None:
        raise WorkspaceUnavailableError("no user namespaces here", "allow them")

    monkeypatch.setattr(WorkspacePool, "check", check)
    with pytest.raises(openai.InternalServerError) as refused:
        ask(client)
    assert (refused.value.status_code, refused.value.code) == (503, "no_sandbox")
    assert "run 'alphamix doctor' on the server" in refused.value.message
    assert not upstreams["low"].asked()


def test_a_server_without_a_judge_refuses(registry: Registry, client_of: Start) -> None:
    client = client_of(registry, ServeOptions(judge_workers=0))
    with pytest.raises(openai.InternalServerError) as refused:
        ask(client)
    assert refused.value.status_code == 501


def test_a_sandbox_that_fails_is_no_fault_of_the_draw(client: OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    run = tool_draws.PythonSandbox.run

    def fails_at_first(self: Any, code: str) -> Any:
        nonlocal opened
        opened += 1
        if opened <= 3:
            raise WorkspaceError("the broker is gone")
        return (yield from run(self, code))

    monkeypatch.setattr(tool_draws.PythonSandbox, "run", fails_at_first)
    told = ask(client)
    assert (told.ensemble["failed"], told.ensemble["drawn"]) == (3, 1)
    cost = told.ensemble["cost"]["low"]
    assert (cost["calls"], cost["choices"]) == (5, 1)  # what the attempts that failed had cost is counted
    assert told.ensemble["winners"][0]["verdict"] == "AC"


def test_a_conversation_that_is_refused_later_says_nothing_about_its_draw(
    client: OpenAI, upstreams: dict[str, FakeUpstream]
) -> None:
    async def refuses_results(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
        refused = status(400, {"error": {"message": "no role tool", "type": "x", "param": None, "code": None}})
        is_first = request.json["messages"][-1]["role"] == "user"
        return await (computing if is_first else refused)(upstream, request)

    upstreams["low"].behaviour = refuses_results
    with pytest.raises(openai.InternalServerError) as failed:
        ask(client)
    assert (failed.value.status_code, failed.value.code) == (502, "conversation_refused")
    assert "no role tool" in failed.value.message
    upstreams["low"].behaviour = status(
        400, {"error": {"message": "no tools", "type": "x", "param": None, "code": None}}
    )
    with pytest.raises(openai.BadRequestError, match="no tools"):
        ask(client)


def test_one_slow_draw_holds_up_no_other(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    num_asked = 0

    async def one_hangs(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
        nonlocal num_asked
        num_asked += 1
        if num_asked == 1:
            await asyncio.sleep(3600)
        return await computing(upstream, request)

    upstreams["low"].behaviour = one_hangs
    told = ask(client)
    assert told.ensemble["stopped"] == "passed"
    assert told.ensemble["cancelled"] >= 1


def test_instructions_join_a_system_message() -> None:
    user: Any = {"role": "user", "content": "hi"}
    assert with_instructions([user], "") == [user]
    assert with_instructions([user], "run") == [{"role": "system", "content": "run"}, user]
    system: Any = {"role": "developer", "content": "be brief"}
    assert with_instructions([system, user], "run") == [{"role": "developer", "content": "be brief\n\nrun"}, user]
