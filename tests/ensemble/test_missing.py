"""Runs that cannot be completed: what was rejected is told from what is owed, and the rest is reported."""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.run import executor
from alphamix.ensemble.run.status import read_status
from alphamix.ensemble.settings.setting import Failed
from alphamix.ensemble.store import STORE_NAME, AttemptUsage, Sample, Slot, Store
from alphamix.policies.engines.openai import failures
from alphamix.policies.types import Completion, EngineFailure

from .conftest import Server


@pytest.fixture
def folder(trial: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run of the trial in which `odd` refuses the problem `times-3`, 4 of 24 samples."""
    monkeypatch.chdir(trial.parent)
    return trial.parent / "results" / "trial"


@pytest.fixture
def refusing(server: Server) -> Server:
    good = server.answer
    server.answer = lambda model, prompt, seed: 400 if model == "odd" and "3" in prompt else good(model, prompt, seed)
    return server


def code_of(*arguments: object) -> int:
    try:
        main([*map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, output and errors of a command."""
    code = code_of(*arguments)
    captured = capsys.readouterr()
    return code, " ".join(captured.out.split()), " ".join(captured.err.split())


def test_what_a_policy_refuses_is_rejected_and_the_rest_is_reported_without_it(
    trial: Path, folder: Path, refusing: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, errors = said(capsys, "run", trial, "-q")
    assert code == 3
    assert "4 samples of results/trial cannot be drawn: 4 × odd: rejected: " in errors
    assert "--missing drop-problems" in errors
    assert "owed" not in errors

    status = read_status(folder)
    assert [(p.rejected, p.owed, p.sampled) for p in status.policies.values()] == [(0, 0, 12), (4, 0, 8)]
    _, table, _ = said(capsys, "status", folder)
    assert "all samples that could be drawn are graded" in table
    assert "4 × odd: rejected: " in table

    code, _, errors = said(capsys, "export", folder, "-o", "out")
    assert code == 0
    assert "1 cells of the outcomes lack verdicts" in errors
    code, _, errors = said(capsys, "mix", "--outcomes", "out/outcomes.csv", "--budget", "2")
    assert (code, "policy 'odd' on problem 'times-3'" in errors) == (2, True)
    code, chosen, _ = said(
        capsys, "mix", "--outcomes", "out/outcomes.csv", "--budget", "2", "--missing", "drop-problems"
    )
    assert code == 0
    assert "Left out for all policies alike, since samples are missing: 1 problem (times-3)." in chosen

    code, _, errors = said(capsys, "report", folder)
    assert (code, "policy 'odd' on problem 'times-3' (1 cell missing)" in errors) == (2, True)
    code, page, _ = said(capsys, "report", folder, "--missing", "drop-problems")
    assert code == 0
    assert page.startswith("Left out for all policies alike, since samples are missing: 1 problem (times-3).")
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["left_out"], summary["problems"]) == ({"problems": ["times-3"]}, 2)
    assert (summary["rejected"], summary["owed"]) == (4, 0)
    assert "1 problem (times-3)" in (folder / "report.html").read_text()
    code, page, _ = said(capsys, "report", folder, "--missing", "drop-policies")
    assert code == 0
    assert page.startswith("Left out, since samples are missing: 1 policy (odd).")


def test_a_rule_in_the_experiment_lets_a_run_go_on_and_what_is_mended_completes_it(
    trial: Path, folder: Path, refusing: Server, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.write_text(trial.read_text() + 'missing = "drop-problems"\n')
    arms = ("--set", 'allocation.arms=["equal", "thompson"]', "--set", "analysis.pass_at=[1]")
    code, _, errors = said(capsys, "run", trial, "-q", *arms)
    assert code == 0, errors
    assert errors.startswith("Left out for all policies alike, since samples are missing: 1 problem (times-3).")
    played = json.loads((folder / "summary.json").read_text())["arms"]
    assert played["thompson"]["cost"] is not None  # its rounds went on without the problem
    with Store(folder / STORE_NAME, read_only=True) as store:
        (tries,) = {store.failure(slot) for slot in store.slots("odd") if slot.problem == "times-3"}
    assert tries is not None
    assert tries[::2] == ("rejected", 1)  # each was asked for once, although there were several rounds
    asked = Counter(server.seeds)
    refusing.answer = lambda model, prompt, seed: "```python\nprint(0)\n```"
    assert code_of("resume", folder, "-q") == 0
    new = Counter(server.seeds) - asked
    assert {(model, prompt) for model, prompt, _ in new} <= {
        ("odd", "Multiply by 3."),
        ("even", "Multiply by 3."),
    }
    assert json.loads((folder / "summary.json").read_text())["problems"] == 3


def test_a_policy_that_is_gone_is_left_out_and_promises_no_time(
    trial: Path, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policies = trial.parent / "policies.toml"
    table, _, model = policies.read_text().rpartition("[policies.odd]\nurl = ")
    policies.write_text(f'{table}[policies.odd]\nurl = "http://127.0.0.1:9/v1"\n{model.partition(chr(10))[2]}')
    monkeypatch.setattr(failures, "_FIRST_WAIT_S", 0.001)
    code, _, errors = said(capsys, "run", trial, "-q", "--missing", "drop-policies")
    assert code == 3  # connections may come back, so these samples are owed
    assert "12 samples or verdicts of results/trial are still owed: 12 × odd: connection: " in errors
    assert errors.startswith("Left out, since samples are missing: 1 policy (odd).")
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["policies"]) == ["even"]
    with Store(folder / STORE_NAME) as store:
        assert read_status(folder).seconds_left(read_status(folder).policies["odd"]) is None
        store.give_up("odd", "set aside", 1.0)
        status = read_status(folder)
    assert (status.policies["odd"].rejected, status.policies["odd"].owed, status.all.owed) == (12, 0, 0)


def test_nothing_is_left_where_every_problem_lacks_something(
    trial: Path, folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    good = server.answer
    server.answer = lambda model, prompt, seed: 400 if model == "odd" else good(model, prompt, seed)
    code, _, errors = said(capsys, "run", trial, "-q", "--missing", "drop-problems")
    assert code == 3
    assert "every problem in results/trial lacks samples somewhere" in errors
    assert "leave out policies instead" in errors
    assert code_of("run", trial, "-q", "--missing", "drop-policies") == 0


def test_a_cell_that_is_half_full_is_left_out_whole(
    trial: Path, folder: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    good = server.answer
    refused: set[int] = set()

    def answer(model: str, prompt: str, seed: int) -> str | int:
        if model == "odd" and "3" in prompt and (seed in refused or not refused):
            refused.add(seed)
            return 400
        return good(model, prompt, seed)

    server.answer = answer
    assert code_of("run", trial, "-q", "--missing", "drop-problems", "--set", "sampling.choices=1") == 0
    assert json.loads((folder / "summary.json").read_text())["left_out"] == {"problems": ["times-3"]}
    assert code_of("report", folder) == 0  # the rule is kept with the run
    assert json.loads((folder / "summary.json").read_text())["left_out"] == {"problems": ["times-3"]}


def test_an_older_record_is_read_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / STORE_NAME
    slots = [Slot(number, "low", "p", number, number) for number in range(3)]
    with Store(path) as store:
        store.plan(slots, {"problems": "hash"})
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TABLE failures; DROP TABLE answer_kinds; DROP TABLE transcripts; DROP TABLE prompts; "
            "DROP TABLE lost_costs; PRAGMA user_version = 3"
        )
    with Store(path, read_only=True) as store:
        assert store.failures() == []
        assert len(list(store.owed_slots("low"))) == 3
    with Store(path) as store:
        store.add_failures([(slots[0], EngineFailure("rejected", "too long"))], 1.0)
        store.add_samples([Sample(slots[1], Completion("why", "stop", 1, 1, 0.0, "reasoning"), 1.0)])
    with Store(path, read_only=True) as store:
        assert list(map(str, store.failures())) == ["low: rejected: too long"]
        assert store.answer_kinds() == {"low": Counter(reasoning=1)}
        assert [sample.completion.kind for sample in store.samples()] == ["reasoning"]


def test_tries_are_counted_and_a_sample_ends_them(tmp_path: Path) -> None:
    slots = [Slot(number, "low", f"p{number}", 0, number) for number in range(3)]
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(slots, {})
        store.add_failures(
            [(slots[0], EngineFailure("timeout", "late")), (slots[1], EngineFailure("rejected", "no"))], 1.0
        )
        store.add_failures([(slots[1], EngineFailure("rejected", "still no"))], 2.0)
        assert store.failure(slots[1]) == ("rejected", "still no", 2)
        store.give_up("low", "gone", 3.0)
        assert [(f.cause, f.slots) for f in store.failures()] == [("gone", 2), ("rejected", 1)]
        assert store.failure(slots[2]) == ("gone", "gone", 0)
        store.add_failures([(slots[2], EngineFailure("timeout", "late"))], 4.0)
        store.forget_passing_failures()
        assert [slot.number for slot in store.owed_slots("low")] == [2]
        assert [slot.number for slot in store.failed_slots("low", 2.5)] == [1]
        store.add_samples([Sample(slots[1], Completion("x", "stop", 1, 1, 0.0), 5.0)])
        assert store.failure(slots[1]) is None
        assert store.rejected_cells() == [("low", "p0")]


def test_one_problem_that_is_refused_sets_no_policy_aside() -> None:
    def failed(number: int, problem: str, message: str) -> Failed:
        return Failed(Slot(number, "low", problem, 0, 0), EngineFailure("rejected", message), AttemptUsage())

    row = executor._FailuresInARow(100, num_problems=10)
    row.add([failed(i, "long", "too long") for i in range(500)])
    assert not row.is_too_long
    row.add([failed(i, f"p{i}", "no model") for i in range(2)])
    assert row.is_too_long
    assert str(row) == "set aside after 502 failures in a row, the last: rejected: no model"
    row.add([Sample(Slot(1, "low", "p", 0, 0), Completion("x", "stop", 1, 1, 0.0), 0.0)])
    assert not row.is_too_long
