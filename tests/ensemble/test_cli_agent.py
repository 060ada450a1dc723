"""Whole runs in the setting `agent`: a server whose models call tools, a class of one's own, and refusals."""

import json
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, FakeServer, json_reply

AGENT = ("--set", "sampling.setting=agent", "--set", "analysis.resamples=100")
USAGE = {"prompt_tokens": 20, "completion_tokens": 7}
RETRY = """
import alphamix

class Retry:
    def __init__(self, tries):
        self.tries = tries

    def run(self, task):
        for _ in range(self.tries):
            reply = yield alphamix.Ask([{"role": "user", "content": task.prompt}])
            yield from task.write("a.py", task.program_in(reply.text))
        return "a.py"
"""
OWN = ("--set", "sampling.agent.loop=retry.py:Retry", "--set", "sampling.agent.arguments.tries=2")


def reply(content: str | None, *calls: tuple[str, dict[str, str]]) -> AnyReply:
    tool_calls = [
        {"id": f"call-{place}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for place, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": content, **({"tool_calls": tool_calls} if calls else {})}
    reason = "tool_calls" if calls else "stop"
    return json_reply({"choices": [{"index": 0, "message": message, "finish_reason": reason}], "usage": USAGE})


def solving(request: FakeRequest) -> AnyReply:
    """Write a program that multiplies by the factor in the statement, look at it, and submit it."""
    messages = request.json["messages"]
    statement = next(message["content"] for message in messages if message["role"] == "user")
    program = f"print({statement.removeprefix('Multiply by ').split('.')[0]} * int(input()))"
    if "tools" not in request.json:
        return reply(f"```python\n{program}\n```")
    if messages[-1]["role"] == "user":
        return reply(None, ("write", {"path": "a.py", "text": program}), ("bash", {"command": "cat a.py"}))
    assert messages[-1]["content"] == program
    return reply(None, ("submit", {"path": "a.py"}))


def point_to(trial: Path, url: str) -> None:
    (trial.parent / "policies.toml").write_text(f'[policies.low]\nurl = "{url}"\nmodel = "low"\n')


def run(*arguments: object) -> int:
    try:
        main([*map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def test_a_run_judges_files_and_keeps_every_turn(trial: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with FakeServer(solving) as server:
        point_to(trial, server.url)
        assert run("run", trial, *AGENT, "-q", "-o", folder) == 0
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert set(store.verdicts()["verdict"]) == {"AC"}
        assert store.progress().loc["low", "tokens"] == 12 * 14
        before = [(sample.completion.text, sample.is_code) for sample in store.samples()]
    assert run("export", folder, "-o", tmp_path / "out") == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert len(records) == 12
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["system", "user", "assistant", "tool", "tool", "assistant"]
        assert record["code"] == record["messages"][-2]["content"]
        assert (record["ending"], record["prompt"]["id"], record["setting"]) == ("submitted", "own", "agent")
        assert (record["usage"]["turns"], record["usage"]["calls"]) == (2, 1)
    again = tmp_path / "again"
    again.mkdir()
    with Store(folder / STORE_NAME, read_only=True) as store, Store(again / STORE_NAME) as copy:
        copy.plan(store.slots("low"), store.about())
    assert run("import", again, "--samples", tmp_path / "out" / "samples.jsonl") == 0
    with Store(again / STORE_NAME, read_only=True) as copy:
        assert [(sample.completion.text, sample.is_code) for sample in copy.samples()] == before


def test_an_agent_of_ones_own_is_resumed_from_the_run_alone_and_only_unchanged(
    trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "retry.py").write_text(RETRY)
    folder = tmp_path / "run"
    with FakeServer(solving) as server:
        point_to(trial, server.url)
        assert run("run", trial, *AGENT, *OWN, "-q", "-o", folder) == 0
        assert len(server.requests) == 2 * 12
        assert run("resume", folder, "-q") == 0
        assert run("run", trial, *AGENT, *OWN, "--set", "sampling.agent.arguments.tries=3", "-q", "-o", folder) == 2
        (tmp_path / "retry.py").write_text(RETRY + "\n")
        assert run("resume", folder, "-q") == 2
        assert len(server.requests) == 2 * 12
    first, second = capsys.readouterr().err.splitlines()
    assert "sampling.agent differs" in first
    assert "sampling.agent.source differs" in second
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert set(store.verdicts()["verdict"]) == {"AC"}


def test_an_error_in_an_agent_of_ones_own_is_told_and_is_not_the_models(
    trial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "retry.py").write_text(RETRY.replace('return "a.py"', "return 1 / 0"))
    folder = tmp_path / "run"
    with FakeServer(solving) as server:
        point_to(trial, server.url)
        assert run("run", trial, *AGENT, *OWN, "-q", "-o", folder) == 3
    said = capsys.readouterr().err
    assert "setting: retry.py:Retry raised ZeroDivisionError('division by zero') (retry.py, line 12): mend it." in said
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert list(store.samples()) == []
        assert int(store.progress().loc["low", "tokens"]) == 12 * 14


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampling.agent.turns=0"], "sampling.agent.turns"),
        (["sampling.agent.calls=0"], "sampling.agent.calls"),
        (["sampling.agent.cpu_s=0"], "sampling.agent.cpu_s"),
        (["sampling.agent.processes=0"], "sampling.agent.processes"),
        (["sampling.agent.output_chars=0"], "sampling.agent.output_chars"),
        (["sampling.agent.format=xml"], "sampling.agent.format"),
        (["sampling.agent.turn=3"], "did you mean"),
        (["sampling.agent.arguments.tries=1"], "arguments are those of a class: name it as loop"),
        (["sampling.agent.loop=Retry"], "sampling.agent.loop"),
        (["sampling.agent.loop=absent.py:Retry"], "absent.py:Retry cannot be made (FileNotFoundError"),
        (["sampling.agent.loop=no_such_package:Retry"], "No module named 'no_such_package'"),
        (["sampling.agent.loop=json:JSONDecoder"], "no attribute 'run'"),
        (["sampling.agent.loop=json:JSONDecoder", "sampling.agent.arguments.tries=1"], "argument 'tries'"),
    ],
)
def test_bad_input_is_one_line_and_draws_nothing(
    overrides: list[str], message: str, trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for override in overrides for part in ("--set", override)]
    for more in ([], ["--dry-run"]):
        assert run("run", trial, *AGENT, *given, *more, "-o", tmp_path / "run") == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
