"""Whole runs in the setting `tool`: a server whose models call Python, real workspaces, the record and its export."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from alphamix.ensemble.cli import main
from alphamix.ensemble.interchange.record_schema import SampleRecord, sample_record
from alphamix.ensemble.store import STORE_NAME, AttemptUsage, Sample, Slot, Store, Transcript
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, FakeServer, error, json_reply
from alphamix.policies.types import Completion, Message

TOOL = ("--set", "sampling.setting=tool", "--set", "analysis.resamples=100")
USAGE = {"prompt_tokens": 20, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}}


def reply(content: str | None, finish_reason: str, **message: Any) -> AnyReply:
    message = {"role": "assistant", "content": content, **message}
    return json_reply({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": USAGE})


def calling(request: FakeRequest) -> AnyReply:
    """Compute the factor by a call, and then answer with what it printed."""
    messages = request.json["messages"]
    factor = messages[0]["content"].removeprefix("Multiply by ").split(".")[0]
    if messages[-1]["role"] == "user":
        assert [tool["function"]["name"] for tool in request.json["tools"]] == ["python"]
        code = json.dumps({"code": f"print({factor} + {request.seed} % 2 * 0)"})
        function = {"name": "python", "arguments": code}
        calls = [{"id": f"call-{request.seed}", "type": "function", "function": function}]
        return reply(None, "tool_calls", tool_calls=calls, reasoning_content="I should compute it.")
    assert messages[-2]["tool_calls"][0]["id"] == messages[-1]["tool_call_id"]
    assert messages[-2]["reasoning_content"] == "I should compute it."
    return reply(f"```python\nprint({messages[-1]['content']} * int(input()))\n```", "stop")


def point_to(trial: Path, url: str) -> None:
    (trial.parent / "policies.toml").write_text(f'[policies.low]\nurl = "{url}"\nmodel = "low"\n')


def run(*arguments: object) -> int:
    try:
        main([*map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_keeps_every_turn_and_sums_their_costs(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FakeServer(calling) as server:
        point_to(trial, server.url)
        folder = tmp_path / "run"
        assert run("run", trial, *TOOL, "-q", "-o", folder) == 0
        num_requests = len(server.requests)
        assert run("run", trial, *TOOL, "--set", "sampling.tool.calls=3", "-q", "-o", folder) == 2
    assert "run of another experiment (sampling.tool differs)" in capsys.readouterr().err
    assert num_requests == 2 * 12
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert set(store.verdicts()["verdict"]) == {"AC"}
        assert store.progress().loc["low", "tokens"] == 12 * 14
    assert run("export", folder, "-o", tmp_path / "out") == 0
    records = lines(tmp_path / "out" / "samples.jsonl")
    assert len(records) == 12
    for record in records:
        roles = [message["role"] for message in record["messages"]]
        assert roles == ["user", "assistant", "tool", "assistant"]
        assert record["messages"][1]["reasoning"] == "I should compute it."
        assert record["messages"][-1]["content"] == record["completion"]
        usage = record["usage"]
        assert (usage["turns"], usage["calls"], usage["prompt_tokens"], usage["completion_tokens"]) == (2, 1, 40, 14)
        assert (usage["new_prompt_tokens"], usage["cached_tokens"], usage["tool_characters"]) == (20, 8, 2)
        assert record["seconds"] == pytest.approx(usage["model_seconds"] + usage["tool_seconds"])
        assert (record["ending"], record["prompt"]["id"], record["setting"]) == ("submitted", "own", "tool")
    assert len({record["prompt"]["hash"] for record in records}) == 3  # one for each problem
    again = tmp_path / "again"
    again.mkdir()
    with Store(folder / STORE_NAME, read_only=True) as store, Store(again / STORE_NAME) as copy:
        copy.plan(store.slots("low"), store.about())
        before = [store.transcript(slot) for slot in store.slots("low")]
    assert run("import", again, "--samples", tmp_path / "out" / "samples.jsonl") == 0
    with Store(again / STORE_NAME, read_only=True) as copy:
        for slot, transcript in zip(copy.slots("low"), before, strict=True):
            found = copy.transcript(slot)
            assert found is not None
            assert transcript is not None
            assert (found.messages, found.prompt_hash, found.ending) == (
                transcript.messages,
                transcript.prompt_hash,
                transcript.ending,
            )
            assert asdict(found.usage) == pytest.approx(asdict(transcript.usage))


def test_a_prompt_that_shows_answers_is_the_same_prompt_after_an_import() -> None:
    turns: tuple[Message, ...] = (
        {"role": "user", "content": "1+1"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "1+2"},
        {"role": "assistant", "content": "3"},
    )
    kept = Transcript("own", turns, 3, "submitted", AttemptUsage(turns=1))
    slot = Slot(0, "low", "p", 0, 1)
    record = sample_record(Sample(slot, Completion("4", "stop", 1, 1, 0.0), 0.0), {"policies.low": "low"}, kept)
    record = json.loads(json.dumps(record))
    again = SampleRecord.model_validate(record).sample(slot).transcript
    assert again is not None
    assert (again.prompt_messages, again.turns) == (turns[:3], turns[3:])
    unknown = SampleRecord.model_validate({**record, "prompt": {"id": "own", "hash": "0"}}).sample(slot).transcript
    assert unknown is not None
    assert unknown.prompt_messages == turns[:1]


@pytest.mark.parametrize(
    "messages", ["[", "{}", [], [5], [{"role": "user"}], [{"role": "user", "content": None}], [{"content": "x"}]]
)
def test_messages_of_another_form_are_refused(messages: Any) -> None:
    with pytest.raises(ValidationError, match="messages"):
        SampleRecord.model_validate(
            {"problem_id": "p", "policy": "low", "index": 0, "completion": "x", "messages": messages}
        )


def test_an_attempt_that_failed_in_a_later_turn_is_owed_and_begins_anew(trial: Path, tmp_path: Path) -> None:
    failing = True

    def respond(request: FakeRequest) -> AnyReply:
        if failing and request.json["messages"][-1]["role"] == "tool" and "by 2" in str(request.json["messages"][0]):
            return error(401)
        return calling(request)

    with FakeServer(respond) as server:
        point_to(trial, server.url)
        folder = tmp_path / "run"
        assert run("run", trial, *TOOL, "-q", "-o", folder) == 3
        with Store(folder / STORE_NAME, read_only=True) as store:
            before = {sample.slot.number: sample.completion.text for sample in store.samples()}
            spent = int(store.progress().loc["low", "tokens"])
        assert len(before) == 8
        assert spent == 8 * 14 + 4 * 7  # the first turns of the attempts that failed are paid for
        failing = False
        assert run("run", trial, *TOOL, "-q", "-o", folder) == 0
    with Store(folder / STORE_NAME, read_only=True) as store:
        after = {sample.slot.number: sample.completion.text for sample in store.samples()}
        assert int(store.progress().loc["low", "tokens"]) == 12 * 14 + 4 * 7
    assert len(after) == 12
    assert {number: after[number] for number in before} == before


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sampling.tool.calls=0", "sampling.tool.calls"),
        ("sampling.tool.cpu_s=0", "sampling.tool.cpu_s"),
        ("sampling.tool.format=xml", "sampling.tool.format"),
        ("sampling.tool.cals=3", "did you mean"),
        ("sampling.setting=tools", "sampling.setting"),
    ],
)
def test_bad_input_is_one_line_and_draws_nothing(
    override: str, message: str, trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("run", trial, *TOOL, "--set", override, "-o", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("setting", ["tool", "agent"])
def test_an_engine_that_parses_no_calls_is_told_before_anything_is_drawn(
    setting: str, trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = Path(__file__).parents[2] / "examples" / "ladder"
    (trial.parent / "policies.toml").write_text(f'[policies.low]\ncheckpoint = "{ladder / "checkpoints" / "low"}"\n')
    assert run("run", trial, "--set", f"sampling.setting={setting}", "-o", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert f'set sampling.{setting}.format to "hermes"' in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
