"""Transcripts of the setting `tool`, with a scripted model and real workspaces."""

import json
from collections.abc import Iterator

import pytest

from alphamix.ensemble.settings.setting import Failed
from alphamix.ensemble.settings.tool import PYTHON, TESTS_FILE, ToolLimits, ToolUse
from alphamix.ensemble.settings.tool_formats import FORMATS
from alphamix.ensemble.store import Sample
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallLimits, WorkspacePool
from alphamix.policies.types import Completion, Request, ToolCall

from . import conversation
from .conversation import Says, course, said

TESTS = [{"input": "1", "output": "2"}, {"input": "20", "output": "40"}]
PROBLEM = Problem.model_validate({"id": "p", "statement": "Double n.", "tests": TESTS, "public_tests": 1})
ANSWER = "```python\nprint(2 * int(input()))\n```"


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        yield pool


def call(code: str, identity: str = "call_0") -> ToolCall:
    return conversation.call("python", identity, code=code)


def attempt(setting: ToolUse, says: Says) -> tuple[Sample, list[Request]]:
    found, requests = conversation.outcome(setting, says, PROBLEM)
    assert isinstance(found, Sample), found
    return found, requests


def test_openai_calls_run_and_variables_are_kept(pool: WorkspacePool) -> None:
    turns = [
        said("Let me try.", calls=(call("x = 20", identity="a"), call("print(x)\nx + 1", identity="b"))),
        said(ANSWER),
    ]
    sample, requests = attempt(ToolUse(pool), turns.__getitem__)
    assert sample.completion.text == ANSWER
    assert [[tool["function"]["name"] for tool in request.tools] for request in requests] == [["python"]] * 2
    _, calls, first, second, last = course(sample).messages
    assert calls == {"role": "assistant", "content": "Let me try.", "tool_calls": list(turns[0].tool_calls)}
    assert first == {"role": "tool", "tool_call_id": "a", "content": "The program printed nothing."}
    assert second == {"role": "tool", "tool_call_id": "b", "content": "20\n21"}
    assert last == {"role": "assistant", "content": ANSWER}
    usage = course(sample).usage
    assert (usage.turns, usage.calls, usage.tool_characters) == (2, 2, len("20\n21\n"))
    assert course(sample).ending == "submitted"


def hermes(code: str) -> str:
    return f"<tool_call>\n{json.dumps({'name': 'python', 'arguments': {'code': code}})}\n</tool_call>"


@pytest.mark.parametrize(
    ("name", "asks", "roles", "result"),
    [
        ("hermes", f"Try.\n{hermes('print(6 * 7)')}", ["assistant", "user"], "<tool_response>\n42\n</tool_response>"),
        (
            "cwm",
            "<think>\nhm\n</think>\n<tool: python>\nprint(6 * 7)\n</tool>",
            ["assistant", "tool: python"],
            "completed.\n[stdout]42\n[/stdout]\n[stderr][/stderr]",
        ),
        ("fenced", "Try.\n```run\nprint(6 * 7)\n```\n", ["assistant"], "```output\n42\n```\n"),
    ],
)
def test_formats_in_plain_text(name: str, asks: str, roles: list[str], result: str, pool: WorkspacePool) -> None:
    sample, requests = attempt(ToolUse(pool, name), [said(asks), said(ANSWER)].__getitem__)
    system, _user, *turns = requests[1].prompt
    assert isinstance(system, dict)
    assert system == {"role": "system", "content": FORMATS[name]([PYTHON]).instructions}
    assert [message["role"] for message in turns] == roles  # type: ignore[index]
    assert turns[-1]["content"].endswith(result)  # type: ignore[index]
    assert not requests[1].tools
    assert requests[1].continues_last_message == (name == "fenced")
    assert sample.completion.text == ANSWER
    last = course(sample).messages[-1]
    assert last["content"] == (f"{asks}{result}{ANSWER}" if name == "fenced" else ANSWER)


def test_thinking_calls_nothing(pool: WorkspacePool) -> None:
    sample, _ = attempt(ToolUse(pool, "hermes"), lambda _: said(f"<think>{hermes('1')}</think>{ANSWER}"))
    assert course(sample).usage.calls == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "no JSON object"),
        ("[1]", "no JSON object"),
        ('{"name": "bash", "arguments": {}}', "no tool 'bash'"),
        ('{"name": "python"}', "python takes code, as text"),
        ('{"name": "python", "arguments": {"code": 5}}', "python takes code, as text"),
        ('{"name": "python", "arguments": "{\\"code\\": 5}"}', "python takes code, as text"),
    ],
)
def test_a_call_that_is_wrong_is_told_and_counts(body: str, message: str, pool: WorkspacePool) -> None:
    wrong = said(f"<tool_call>{body}</tool_call>")
    sample, requests = attempt(ToolUse(pool, "hermes", ToolLimits(calls=2)), lambda _: wrong)
    assert message in str(requests[1].prompt[-1])
    assert len(requests) == 3
    assert course(sample).ending == "out_of_turns"
    assert course(sample).usage.calls == 0


def test_the_model_is_told_that_no_call_is_left(pool: WorkspacePool) -> None:
    calls = tuple(call("1", identity=str(number)) for number in range(3))
    turns = [said("", calls=calls), said(ANSWER)]
    sample, requests = attempt(ToolUse(pool, limits=ToolLimits(calls=2)), turns.__getitem__)
    results = [str(message["content"]) for message in requests[1].prompt[-3:]]  # type: ignore[index]
    assert results[0] == "1"
    assert results[1] == "1\nNo call is left: give the final answer."
    assert results[2].startswith("No call is left")
    assert course(sample).usage.calls == 2


def test_an_answer_that_is_cut_off_runs_nothing(pool: WorkspacePool) -> None:
    cut = Completion("", "length", 1, 1, 0.0, "empty", tool_calls=(call("print(1)"),))
    sample, requests = attempt(ToolUse(pool), lambda _: cut)
    assert len(requests) == 1
    assert (course(sample).ending, course(sample).usage.calls) == ("out_of_tokens", 0)
    assert sample.completion.finish_reason == "length"


def test_errors_and_limits_come_back_as_text_that_is_short(pool: WorkspacePool) -> None:
    codes = ["kept = 1", "1 / 0", "while True: pass", "print(kept)", "print('x' * 10**6)"]
    turns = [said("", calls=(call(code),)) for code in codes]
    limits = ToolLimits(call=CallLimits(cpu_s=0.5, wall_s=20, output_chars=500))
    _, requests = attempt(ToolUse(pool, limits=limits), [*turns, said(ANSWER)].__getitem__)
    _, error, slow, lost, long = [str(request.prompt[-1]["content"]) for request in requests[1:]]  # type: ignore[index]
    assert "ZeroDivisionError" in error
    assert "The limit of CPU time ended the program." in slow
    assert "variables of earlier calls are gone" in slow
    assert "NameError" in lost
    assert len(long) < 700


def test_public_tests_are_seen_if_allowed_and_hidden_ones_never(pool: WorkspacePool) -> None:
    look = f"import pathlib; p = pathlib.Path({TESTS_FILE!r}); print(p.read_text() if p.exists() else 'none')"
    turns = [said("", calls=(call(look),)), said(ANSWER)]
    _, requests = attempt(ToolUse(pool, shows_tests=True), turns.__getitem__)
    assert json.loads(requests[1].prompt[-1]["content"]) == TESTS[:1]  # type: ignore[index]
    assert TESTS_FILE in str(requests[0].prompt[0])
    _, requests = attempt(ToolUse(pool), turns.__getitem__)
    assert requests[1].prompt[-1]["content"] == "none"  # type: ignore[index]


def test_without_kept_variables_each_call_begins_anew(pool: WorkspacePool) -> None:
    turns = [said("", calls=(call("x = 1"),)), said("", calls=(call("x"),)), said(ANSWER)]
    _, requests = attempt(ToolUse(pool, keeps_variables=False), turns.__getitem__)
    assert "NameError" in str(requests[2].prompt[-1])


def test_nothing_submitted_is_known(pool: WorkspacePool) -> None:
    sample, _ = attempt(ToolUse(pool), lambda _: said(" "))
    assert course(sample).ending == "nothing_submitted"


def test_an_attempt_that_calls_nothing_opens_no_workspace() -> None:
    pool = WorkspacePool()
    attempt(ToolUse(pool), lambda _: said(ANSWER))
    assert pool._broker is None


def test_a_pool_that_was_closed_leaves_the_slot_owed() -> None:
    pool = WorkspacePool()
    pool.close()
    found, _ = conversation.outcome(ToolUse(pool), lambda _: said("", calls=(call("1"),)), PROBLEM)
    assert isinstance(found, Failed)
    assert found.failure.cause == "sandbox"
