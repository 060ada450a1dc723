"""Transcripts of the setting `agent`, with a scripted model and real workspaces, and what it withstands."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from alphamix.ensemble.settings.agent import AgenticCoding, TerminalAgent
from alphamix.ensemble.settings.setting import Failed
from alphamix.ensemble.settings.task import AgentLimits
from alphamix.ensemble.store import Sample
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallLimits, WorkspaceLimits, WorkspacePool
from alphamix.policies.types import Completion, Request, ToolCall

from .conversation import call, course, outcome, said

TESTS = [{"input": "1", "output": "2"}, {"input": "20", "output": "40"}]
PROBLEM = Problem.model_validate({"id": "p", "statement": "Double n.", "tests": TESTS, "public_tests": 1})
PROGRAM = "print(2 * int(input()))\n"
WRITE = call("write", path="a.py", text=PROGRAM)
SUBMIT = call("submit", path="a.py")
LIMITS = AgentLimits(
    turns=20,
    call=CallLimits(cpu_s=1.0, wall_s=600.0, output_chars=1000),
    workspace=WorkspaceLimits(memory_bytes=200 << 20, disk_bytes=8 << 20, max_files=200, max_processes=20),
)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkspacePool]:
    with WorkspacePool() as pool:
        pool.check()
        yield pool


def agent(pool: WorkspacePool, tool_format: str = "openai", limits: AgentLimits = LIMITS, **more: Any) -> AgenticCoding:
    return AgenticCoding(pool, partial(TerminalAgent, tool_format), limits, **more)


def attempt(setting: AgenticCoding, *turns: Completion, max_tokens: int = 1000) -> tuple[Sample, list[Request]]:
    """Let the model say one thing after the other, and the last for ever."""
    found, requests = outcome(setting, lambda turn: turns[min(turn, len(turns) - 1)], PROBLEM, max_tokens)
    assert isinstance(found, Sample), found
    return found, requests


def calling(*calls: ToolCall) -> Completion:
    return said("", calls=calls)


def contents(request: Request) -> list[str]:
    return [message["content"] for message in request.prompt]  # type: ignore[index]


def test_an_attempt_from_the_statement_to_a_submission(pool: WorkspacePool) -> None:
    wrong = call("write", "a", path="a.py", text="print(input())")
    turns = [
        calling(wrong, call("test", "b", path="a.py")),
        calling(call("bash", command="cat a.py")),
        calling(call("edit", path="a.py", old="input()", new="2 * int(input())")),
        calling(call("test", path="a.py")),
        calling(SUBMIT),
    ]
    sample, requests = attempt(agent(pool), *turns)
    assert (sample.completion.text, sample.is_code) == ("print(2 * int(input()))", True)
    assert [tool["function"]["name"] for tool in requests[0].tools] == [
        *("bash", "read", "write", "edit", "test", "submit")
    ]
    system, user = contents(requests[0])
    assert "You have 20 turns" in system
    assert user.startswith("Double n.\n\nWrite a Python program that reads from standard input")
    assert user.endswith("Write the whole program into a file below /workspace, and submit that file.")
    transcript = course(sample)
    assert [message["role"] for message in transcript.messages] == [
        *("system", "user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "tool"),
        *("assistant", "tool", "assistant"),
    ]
    results = [message["content"] for message in transcript.messages if message["role"] == "tool"]
    assert results == [
        "Wrote a.py.",
        "Test 1: failed\nexpected:\n2\nwritten:\n1",
        "print(input())",
        "Wrote a.py.",
        "Test 1: passed",
    ]
    assert (transcript.ending, transcript.prompt, transcript.num_prompt_messages) == ("submitted", "agent_stdin", 2)
    usage = transcript.usage
    assert (usage.turns, usage.calls, usage.completion_tokens) == (5, 3, 25)
    assert usage.tool_seconds > 0


RAW = {
    "cwm": "<tool: {name}>\n{body}\n</tool>",
    "fenced": "Now:\n```{name}\n{body}\n```",
    "hermes": '<tool_call>\n{{"name": "{name}", "arguments": {json}}}\n</tool_call>',
}


def written(tool_format: str, name: str, *arguments: str) -> Completion:
    body = "\n".join(arguments[:2]) + "".join(f"\n=======\n{each}" for each in arguments[2:])
    (asked,) = [call(name, **dict(zip(PARAMETERS[name], arguments, strict=True)))]
    return said(RAW[tool_format].format(name=name, body=body, json=asked["function"]["arguments"]))


PARAMETERS = {"bash": ["command"], "write": ["path", "text"], "edit": ["path", "old", "new"], "submit": ["path"]}


@pytest.mark.parametrize(
    ("tool_format", "roles"),
    [
        ("hermes", ["assistant", "user"] * 3),
        ("cwm", ["assistant", "tool: write", "assistant", "tool: edit", "assistant", "tool: bash"]),
        ("fenced", ["assistant"]),
    ],
)
def test_formats_in_plain_text(tool_format: str, roles: list[str], pool: WorkspacePool) -> None:
    write = partial(written, tool_format)
    turns = [
        write("write", "a.py", "import sys\nprint(int(input()))"),
        write("edit", "a.py", "import sys\nprint(", "print(2 *\n"),
        write("bash", "echo 21 | python3 a.py\necho end"),
        write("submit", "a.py"),
    ]
    sample, requests = attempt(agent(pool, tool_format), *turns)
    assert sample.completion.text == "print(2 *\nint(input()))"
    assert not requests[0].tools
    assert "submit" in contents(requests[0])[0]
    *before, last = requests[-1].prompt[2:]
    assert [message["role"] for message in [*before, last]] == roles  # type: ignore[index]
    assert "42\nend" in last["content"]  # type: ignore[index]
    assert requests[-1].continues_last_message == (tool_format == "fenced")
    texts = "".join(message["content"] for message in course(sample).turns)
    assert all(turn.text.rstrip() in texts for turn in turns)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (call("shell"), "There is no tool 'shell', only bash, read, write, edit, test, submit."),
        (call("write", path="a"), "write takes path and text, as text, and nothing else."),
        (call("bash", command="ls", timeout=5), "bash takes command, as text, and nothing else."),
        (call("bash", command=["ls"]), "bash takes command, as text, and nothing else."),
        ({**SUBMIT, "function": {"name": "submit", "arguments": "{"}}, "The arguments are no JSON object: "),
        ({**SUBMIT, "function": {"name": "submit", "arguments": ""}}, "submit takes path, as text, and nothing else."),
        (call("submit", path="absent"), "Error: absent: No such file or directory"),
        (call("submit", path="/usr/bin/env"), "Error: /usr/bin/env is not a file below /workspace"),
    ],
)
def test_a_wrong_call_is_told_and_the_attempt_goes_on(wrong: ToolCall, told: str, pool: WorkspacePool) -> None:
    sample, requests = attempt(agent(pool), calling(wrong), calling(WRITE, SUBMIT))
    assert contents(requests[1])[-1].startswith(told)
    assert (sample.completion.text, course(sample).ending) == (PROGRAM, "submitted")


@pytest.mark.parametrize(
    ("turns", "limits", "ending", "num_turns"),
    [
        ([said("I do not know.")], LIMITS, "gave_up", 3),
        ([said("Hm."), said(" "), calling(WRITE), said("Hm."), said("Hm."), calling(SUBMIT)], LIMITS, "submitted", 6),
        ([calling(WRITE)], AgentLimits(turns=4), "out_of_turns", 4),
        ([calling(WRITE), replace(calling(SUBMIT), finish_reason="length")], LIMITS, "out_of_tokens", 2),
        ([calling(call("write", path="a.py", text=" \n"), SUBMIT)], LIMITS, "nothing_submitted", 1),
    ],
)  # fmt: skip
def test_how_an_attempt_ends(
    turns: list[Completion], limits: AgentLimits, ending: str, num_turns: int, pool: WorkspacePool
) -> None:
    sample, requests = attempt(agent(pool, limits=limits), *turns)
    assert (course(sample).ending, course(sample).usage.turns) == (ending, num_turns)
    assert (sample.completion.text, sample.is_code) == (PROGRAM if ending == "submitted" else "", True)
    assert sample.completion.kind == "text"  # what the ending says needs no second remark in a report
    assert len(requests) == num_turns
    assert (sample.completion.finish_reason == "length") == (ending == "out_of_tokens")


def test_a_cut_off_answer_calls_nothing(pool: WorkspacePool) -> None:
    cut = Completion("", "length", 1, 1, 0.0, "empty", tool_calls=(WRITE, SUBMIT))
    sample, _ = attempt(agent(pool), cut)
    assert (course(sample).ending, sample.completion.text) == ("out_of_tokens", "")


def test_without_tokens_nothing_is_asked_and_nothing_submitted(pool: WorkspacePool) -> None:
    sample, requests = attempt(agent(pool), calling(WRITE), max_tokens=12)
    assert [request.parameters.max_tokens for request in requests] == [12, 7, 2]
    assert (course(sample).ending, sample.completion.text) == ("out_of_tokens", "")


def test_the_model_is_told_of_its_last_turn_and_of_its_last_call(pool: WorkspacePool) -> None:
    _, requests = attempt(agent(pool, limits=AgentLimits(turns=3)), calling(WRITE))
    assert [contents(request)[-1].rpartition("\n")[2][:23] for request in requests[1:]] == [
        "Wrote a.py.",
        "The next turn is the la",
    ]
    many = tuple(call("read", str(number), path="a.py") for number in range(100))
    _, requests = attempt(agent(pool, limits=AgentLimits(calls=10)), calling(WRITE, *many), calling(SUBMIT))
    results = contents(requests[1])[3:]
    assert (results.count(PROGRAM), results.count("No call is left: submit a program.")) == (9, 91)


def test_hidden_tests_are_nowhere_and_public_ones_only_if_allowed(pool: WorkspacePool) -> None:
    looking = call("bash", command="grep -r '40' /workspace /tmp /dev/shm; env; ls -a")
    _, requests = attempt(agent(pool), calling(WRITE, call("test", path="a.py"), looking), calling(SUBMIT))
    assert "40" not in contents(requests[1])[-1]
    assert not any("20" in text for text in contents(requests[1])[1:])
    _, requests = attempt(agent(pool, shows_tests=False), calling(WRITE, call("test", path="a.py")), calling(SUBMIT))
    assert "test" not in [tool["function"]["name"] for tool in requests[0].tools]
    assert contents(requests[1])[-1].startswith("There is no tool 'test'")


def test_an_attempt_that_calls_nothing_opens_no_workspace() -> None:
    pool = WorkspacePool()
    attempt(agent(pool), said("I give up."), max_tokens=5)
    assert pool._broker is None


def test_a_failure_of_the_sandbox_leaves_the_slot_owed() -> None:
    pool = WorkspacePool()
    pool.close()
    found, _ = outcome(agent(pool), lambda _: calling(WRITE), PROBLEM)
    assert isinstance(found, Failed)
    assert found.failure.cause == "sandbox"
    assert found.lost.completion_tokens == 5


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        ("(f() { f | f & }; f) & while :; do :; done", "The limit of CPU time"),
        ("cat /dev/zero > big", "No space left on device"),
        ("sleep 1000 & setsid sleep 1000 & echo started", "started"),
        ("kill -9 -1; kill -9 1; echo alive; kill -9 $$", "The program was killed."),
        (
            "ls / /root /proc/1/root 2>&1; find / -path /usr -prune -o -name 'test_*.py' 2> /dev/null",
            "",
        ),
        ("head -c 100000000 /dev/zero", "bytes left out"),
        (r"printf '\033[2J\0\377<|im_end|>'", r"\x1b[2J\x00\xff<|im_end|>"),
        ("nohup sh -c 'while :; do echo print\\(0\\) > a.py; done' > /dev/null 2>&1 &", ""),
        ("mount -t tmpfs none /tmp; unshare -U true; cat /proc/kcore", "unshare failed"),
    ],
    ids=[
        "fork",
        "disk",
        "sleep",
        "kill",
        "look around",
        "print without end",
        "control characters",
        "change later",
        "escape",
    ],
)
def test_hostile_commands_are_contained(
    command: str, seen: str, pool: WorkspacePool, descendants: Callable[[int], set[int]]
) -> None:
    before = descendants(os.getpid())
    clearing = call("bash", "clear", command="rm -f big")
    turns = calling(call("bash", command=command)), calling(clearing, WRITE), calling(SUBMIT)
    sample, requests = attempt(agent(pool), *turns)
    shown = contents(requests[1])[-1]
    assert seen in shown
    assert len(shown) < 2 * LIMITS.call.output_chars + 200
    assert not any(name in shown for name in ("test_agent.py", "conftest", "alphamix"))
    assert all(char in "\n\t" or char.isprintable() for char in shown)
    assert (sample.completion.text, course(sample).ending) == (PROGRAM, "submitted")
    assert descendants(os.getpid()) <= before


def test_nothing_of_an_attempt_is_there_for_the_next(
    pool: WorkspacePool, descendants: Callable[[int], set[int]]
) -> None:
    before = descendants(os.getpid())
    leaving = "echo secret > /workspace/left; echo secret > /tmp/left; (setsid sleep 1000 &)"
    attempt(agent(pool), calling(WRITE, call("bash", command=leaving), SUBMIT))
    assert descendants(os.getpid()) <= before
    looking = "ls -A /workspace /tmp /dev/shm; ps -e -o comm="
    _, requests = attempt(agent(pool), calling(call("bash", command=looking)), calling(WRITE, SUBMIT))
    assert not {"left", "sleep"} & set(contents(requests[1])[-1].split())
