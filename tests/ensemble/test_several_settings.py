"""Runs of several settings: each policy is one column for each of them, from the plan to the report and the export."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from alphamix.ensemble.analysis.compare_settings import compare_settings
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.cli import main
from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.experiment.resolved import Inputs, read_inputs
from alphamix.ensemble.experiment.schema import SamplingSection, SettingName
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, cross_fits
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.run.fingerprints import identity
from alphamix.ensemble.run_settings import RunSettings
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.statistics.pass_at_k import pass_at_k
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, FakeServer, json_reply

SEVERAL = 'sampling.setting=["reasoning", "tool"]'
QUICK = ("--set", "analysis.resamples=100", "--set", "analysis.repeats=1", "-q")
AT_1 = ("--set", "analysis.pass_at=[1]")
COLUMNS = ["even@reasoning", "even@tool", "odd@reasoning", "odd@tool"]


def reply(content: str | None, finish_reason: str, tokens: int, **message: Any) -> AnyReply:
    usage = {"prompt_tokens": 20, "completion_tokens": tokens}
    message = {"role": "assistant", "content": content, **message}
    return json_reply({"choices": [{"index": 0, "message": message, "finish_reason": finish_reason}], "usage": usage})


def answer(request: FakeRequest) -> AnyReply:
    """Solve with tools always; without them only the model `even` solves, with even seeds."""
    messages = request.json["messages"]
    factor = messages[0]["content"].removeprefix("Multiply by ").split(".")[0]
    if "tools" not in request.json:
        is_right = request.json["model"] == "even" and request.seed % 2 == 0
        return reply(f"```python\nprint({factor if is_right else 0} * int(input()))\n```", "stop", 10)
    if messages[-1]["role"] == "user":
        function = {"name": "python", "arguments": json.dumps({"code": f"print({factor})"})}
        return reply(None, "tool_calls", 7, tool_calls=[{"id": "call", "type": "function", "function": function}])
    return reply(f"```python\nprint({messages[-1]['content']} * int(input()))\n```", "stop", 7)


def point_to(trial: Path, url: str) -> None:
    policies = (f'[policies.{name}]\nurl = "{url}"\nmodel = "{name}"\n' for name in ("even", "odd"))
    (trial.parent / "policies.toml").write_text("".join(policies))


def run(*arguments: object) -> int:
    try:
        main([*map(str, arguments)])
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def inputs_of(trial: Path, *overrides: str) -> Inputs:
    return read_inputs(load(trial, [SEVERAL, *overrides]))


def drawn(folder: Path) -> dict[tuple[str, str, int], tuple[int, str]]:
    with Store(folder / STORE_NAME, read_only=True) as store:
        return {
            (sample.slot.policy, sample.slot.problem, sample.slot.index): (sample.slot.seed, sample.completion.text)
            for sample in store.samples()
        }


def test_a_killed_run_goes_on_and_is_reported_exported_and_imported(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "run"
    process: subprocess.Popen[bytes] | None = None

    def respond(request: FakeRequest) -> AnyReply:
        if process is not None and request.number == num_requests + 30:
            os.kill(process.pid, signal.SIGKILL)
        return answer(request)

    with FakeServer(respond) as server:
        point_to(trial, server.url)
        assert run("run", trial, "--set", SEVERAL, *QUICK, "-o", whole) == 0
        num_requests = len(server.requests)
        assert num_requests == 2 * 12 + 2 * 2 * 12  # one turn in `reasoning`, two in `tool`
        command = [sys.executable, "-m", "alphamix", "run", trial, "--set", SEVERAL, *QUICK, "-o", folder]
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert process.wait() == -signal.SIGKILL
        assert len(drawn(folder)) < 48
        process = None
        assert run("resume", folder, *QUICK) == 0
    assert drawn(folder) == drawn(whole)
    seeds = {(column, slot[1]): seed for (column, *slot), (seed, _) in drawn(folder).items() if slot[1] == 0}
    assert len({seeds[column, 0] for column in COLUMNS}) == 4  # settings are drawn independently

    table = read_outcomes(folder / "outcomes.csv")
    assert sorted(table.policies) == COLUMNS
    summary = json.loads((folder / "summary.json").read_text())
    compared = summary["settings"]
    assert compared["policies"] == ["even", "odd"]
    assert compared["settings"]["tool"]["pass_at_k"]["1"]["value"] == 1.0
    assert compared["settings"]["tool"]["tokens"] == 14.0
    assert compared["settings"]["reasoning"]["tokens"] == 10.0
    assert compared["settings"]["reasoning"]["best_single"] == "even@reasoning"
    (difference,) = compared["differences"]
    assert (difference["setting"], difference["other"]) == ("tool", "reasoning")
    assert summary["arms"]["mixture"]["allocation"].keys() <= set(COLUMNS)
    page = (folder / "report.html").read_text()
    assert "<h2>The settings</h2>" in page
    assert "tool − reasoning" in page
    capsys.readouterr()
    assert run("report", folder, "--set", "analysis.resamples=100") == 0
    assert "tool minus reasoning, pass@4 of the same policies: " in capsys.readouterr().out
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert run("status", folder, "--json") == 0
    assert [*json.loads(capsys.readouterr().out)] == [*COLUMNS, "*"]

    assert run("export", folder, "-o", tmp_path / "out") == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert {(record["policy"], record["setting"]) for record in records} == {
        (column, column.split("@")[1]) for column in COLUMNS
    }
    assert len({record["fingerprint"] for record in records}) == 2
    again = tmp_path / "again"
    again.mkdir()
    with Store(folder / STORE_NAME, read_only=True) as store, Store(again / STORE_NAME) as copy:
        copy.plan([slot for column in COLUMNS for slot in store.slots(column)], store.about())
    assert run("import", again, "--samples", tmp_path / "out" / "samples.jsonl") == 0
    assert drawn(again) == drawn(folder)
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps(records[0] | {"setting": "agent"}) + "\n")
    assert run("import", again, "--samples", wrong) == 2
    assert "its setting is 'agent', but the plan says 'reasoning'" in capsys.readouterr().err


def test_a_limit_of_the_run_holds_over_settings_and_costs_are_known_by_column(trial: Path, tmp_path: Path) -> None:
    with FakeServer(answer) as server:
        point_to(trial, server.url)
        folder = tmp_path / "run"
        tokens = ("--set", "budget.tokens=56", *AT_1)
        assert run("run", trial, "--set", SEVERAL, *tokens, *QUICK, "-o", folder) == 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["costs"] == {column: 14.0 if column.endswith("tool") else 10.0 for column in COLUMNS}
    assert {name: policy["n"] for name, policy in summary["policies"].items()} == {
        column: 3 * (4 if column.endswith("tool") else 5) for column in COLUMNS
    }


def test_a_class_of_the_user_takes_part_and_each_setting_has_its_own_limits_and_prompt(
    trial: Path, tmp_path: Path
) -> None:
    (trial.parent / "own.py").write_text(
        "import alphamix\n\nclass Once:\n    def run(self, task):\n"
        '        reply = yield alphamix.Ask([{"role": "user", "content": task.prompt}])\n'
        '        yield from task.write("a.py", task.program_in(reply.text))\n'
        '        return "a.py"\n'
    )
    own = (
        'sampling.setting=["reasoning", "tool", "agent"]',
        "sampling.tool.max_tokens=99",
        "sampling.agent.max_tokens=50",
        "sampling.reasoning.prompt=Multiply by 0. {statement}",
        f"sampling.agent.loop={trial.parent / 'own.py'}:Once",
        'policies.use=["even"]',
        "problems.limit=2",
    )
    folder = tmp_path / "run"
    with FakeServer(answer) as server:
        point_to(trial, server.url)
        flags = [part for override in own for part in ("--set", override)]
        assert run("run", trial, *flags, *QUICK, "-o", folder) == 0
        asked = {
            (request.json["messages"][0]["content"][:14], request.json["max_tokens"]) for request in server.requests
        }
    # The second turn of a tool's user has what the first left.
    assert {limit for _, limit in asked} == {1024, 99, 92, 50}
    assert {prompt for prompt, limit in asked if limit == 1024} == {"Multiply by 0."}
    assert {prompt for prompt, limit in asked if limit != 1024} == {"Multiply by 2.", "Multiply by 3."}
    summary = json.loads((folder / "summary.json").read_text())
    assert [*summary["policies"]] == ["even@reasoning", "even@tool", "even@agent"]
    assert summary["settings"]["settings"]["agent"]["tokens"] == 10.0
    pairs = [(difference["setting"], difference["other"]) for difference in summary["settings"]["differences"]]
    assert pairs == [("tool", "reasoning"), ("agent", "reasoning"), ("agent", "tool")]
    with Store(folder / STORE_NAME, read_only=True) as store:
        assert {sample.is_code for sample in store.samples() if sample.slot.policy == "even@agent"} == {True}


@pytest.mark.parametrize("name", get_args(SettingName))
def test_every_setting_may_have_keys_of_its_own(name: str) -> None:
    section = SamplingSection.model_validate({"setting": ["reasoning", "tool", "agent"], name: {"max_tokens": 9}})
    limits = {each: section.in_setting(each).max_tokens for each in section.settings.names}
    assert limits == dict.fromkeys(section.settings.names, 1024) | {name: 9}


def test_names_stand_for_all_settings_or_for_one(trial: Path) -> None:
    weights = 'allocation.weights.w={even=2, "odd@tool"=1}'
    design = inputs_of(trial, 'allocation.policies=["odd", "even@tool"]', weights).design
    assert design.policies == tuple(COLUMNS)
    assert design.members == ("odd@reasoning", "odd@tool", "even@tool")
    assert design.weights == {"w": {"even@reasoning": 1.0, "even@tool": 1.0, "odd@tool": 1.0}}


def test_a_run_of_one_setting_is_what_it_was(trial: Path) -> None:
    before = {
        *("problems", "sampling.setting", "sampling.prompt", "sampling.temperature", "sampling.top_p"),
        *("sampling.max_tokens", "sampling.stop", "sampling.seed", "sampling.batch_size"),
        *("policies.even", "policies.odd"),
    }
    plain = read_inputs(load(trial))
    assert identity(plain.sampling).keys() == before
    assert plain.design.policies == ("even", "odd")
    listed = read_inputs(load(trial, ['sampling.setting=["reasoning"]']))
    assert identity(listed.sampling) == identity(plain.sampling)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (['sampling.setting=["tool", "tool"]'], "'tool' is named twice: name each setting once"),
        (['sampling.setting=["reasoning", "tools"]'], "'tools' is no setting: did you mean 'tool'?\n"),
        (["sampling.setting=5"], "5 is no setting"),
        (["sampling.setting=[]"], "no setting is named: name some of reasoning, tool"),
        ([SEVERAL, "sampling.tool.max_tokens=0"], "sampling.tool.max_tokens"),
        ([SEVERAL, "sampling.tool.prompt=Solve it."], "sampling.tool.prompt is 'Solve it.', which does not contain"),
        ([SEVERAL, 'allocation.policies=["even@tol"]'], "unknown policy 'even@tol'"),
        ([SEVERAL, "budget.tokens=50", "budget.costs={even=1, odd=2}"], "one cost for each of even@reasoning"),
    ],
)
def test_bad_input_is_one_line_and_draws_nothing(
    overrides: list[str], message: str, trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [part for override in overrides for part in ("--set", override)]
    assert run("run", trial, *flags, "-o", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_an_engine_that_can_serve_one_of_the_settings_only_is_refused(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = Path(__file__).parents[2] / "examples" / "ladder"
    (trial.parent / "policies.toml").write_text(f'[policies.low]\ncheckpoint = "{ladder / "checkpoints" / "low"}"\n')
    assert run("run", trial, "--set", SEVERAL, "-o", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert 'sampling.tool.format to "hermes"' in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_policy_that_is_named_like_another_one_in_a_setting_is_refused(
    trial: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policies = trial.parent / "policies.toml"
    policies.write_text(policies.read_text().replace("[policies.odd]", '[policies."even@tool"]'))
    assert run("run", trial, "--set", SEVERAL, "-o", tmp_path / "run") == 2
    assert re.search("'even@tool' is the name of a policy of .*: rename the policy", capsys.readouterr().err)


def test_the_comparison_of_settings_is_that_of_the_same_policies_problem_by_problem() -> None:
    generator = np.random.default_rng(5)
    policies = ("a@tool", "b@reasoning", "a@reasoning", "b@tool", "c@tool")
    counts = {name: generator.integers(0, 7, 40) for name in policies}
    table = Outcomes(
        problems=tuple(f"p{p}" for p in range(40)),
        policies=policies,
        num_samples_MP=np.full((5, 40), 6),
        num_correct_MP=np.stack([counts[name] for name in policies]),
        num_failures_MP={},
        costs_MP={"tokens": np.repeat([[30.0], [20.0], [10.0], [50.0], [900.0]], 40, axis=1)},
    )
    resampling = Resampling(0.95, 200, 0)
    options = CrossFitOptions(cross_fits(0, 2, {"problems": 3}), resampling)
    settings = RunSettings(("reasoning", "tool"))
    found = compare_settings(table, settings, Budget.of_samples(6, 5), [2, 1, 7], options)
    assert found is not None
    assert sorted(found.policies) == ["a", "b"]  # c was asked in one setting only
    for k in (1, 2):
        passed = {name: pass_at_k(np.full(40, 6), counts[name], k) for name in policies}
        tool, reasoning = ((passed[f"a@{name}"] + passed[f"b@{name}"]) / 2 for name in ("tool", "reasoning"))
        for name, values in (("tool", tool), ("reasoning", reasoning)):
            estimate = found.settings[name].pass_at_k[k]
            assert estimate is not None
            assert estimate.value == pytest.approx(values.mean())
        paired = found.differences[0].pass_at_k[k]
        assert paired is not None
        assert paired.interval is not None
        assert paired.value == pytest.approx((tool - reasoning).mean())
        assert paired.interval[0] < paired.value < paired.interval[1]
    assert found.settings["tool"].pass_at_k[7] is None
    assert (found.settings["reasoning"].tokens, found.settings["tool"].tokens) == (15.0, 40.0)
    best = {
        name: max((p for p in policies if p.endswith(name)), key=lambda p: (counts[p] > 0).sum())
        for name in settings.names
    }
    for name, policy in best.items():
        coverage = found.settings[name].coverage
        assert coverage is not None
        assert found.settings[name].best_single == policy
        assert coverage.naive.value == pytest.approx((counts[policy] > 0).mean())
    naive = found.differences[0].coverage
    assert naive is not None
    assert naive.naive.value == pytest.approx(((counts[best["tool"]] > 0) * 1 - (counts[best["reasoning"]] > 0)).mean())
    assert compare_settings(table, RunSettings(("tool",)), Budget.of_samples(6, 5), [1], options) is None


def test_labels_can_be_split_again() -> None:
    several = RunSettings.of(["reasoning", "tool"])
    for policy in ("low", "coverage@+0.50", "@", "a@b@c"):
        assert [several.split(label) for label in several.labels(policy)] == [(policy, "reasoning"), (policy, "tool")]
        assert RunSettings.of("tool").split(policy) == (policy, "tool")
        assert RunSettings.of("tool").labels(policy) == [policy]
        assert several.split(policy) == (policy, None)
