"""Whole runs by the command line, against a real server and the real judge: what they write, and how they go on."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from alphamix.ensemble.cli import main
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.policies.registry import Registry

from .conftest import DOUBLE, honest_program, write_humaneval

SUMMARY_KEYS = {
    *("run", "budget", "problems", "policies", "pass_at_k", "frontier", "arms", "ensemble", "best_single"),
    *("complementarity", "claims", "owed", "judge"),
}


@pytest.fixture
def alphamix(fork_server):
    return fork_server.run


def slots_and_verdicts(folder: Path) -> tuple[dict[int, tuple[str, int]], dict[int, str]]:
    with Store(folder / STORE_NAME, read_only=True) as store:
        samples = {s.slot.number: (s.completion.text, s.slot.seed) for s in store.samples()}
        table = store.verdicts()
        return samples, dict(zip(table["slot"], table["verdict"], strict=True))


def stored_requests(folder: Path) -> set[tuple[str, str, int]]:
    """Model, prompt and seed of each stored sample, as the server counts them."""
    with Store(folder / STORE_NAME, read_only=True) as store:
        slots = [sample.slot for sample in store.samples()]
    return {(slot.policy, f"Multiply by {slot.problem.removeprefix('times-')}.", slot.seed) for slot in slots}


def test_a_run_writes_what_the_contract_says(alphamix, trial, server, tmp_path):
    done = alphamix("run", trial, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "results" / "trial"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary.keys() >= SUMMARY_KEYS
    assert summary["policies"].keys() == {"even", "odd"}
    assert summary["policies"]["even"].keys() == {"alpha", "n", "pass_at_k", "frontier", "tokens", "seconds"}
    assert summary["policies"]["even"]["tokens"] == 11
    assert summary["arms"]["equal"]["allocation"] == {"even": 2, "odd": 2}
    assert {path.name for path in (folder / "figures").iterdir()} >= {"complementarity.png", "coverage.png"}
    page = (folder / "report.html").read_text()
    assert "At 4 samples per problem, ensemble minus best single policy" in page
    assert "hostile" not in page  # no acceptance of these problems can be forged
    # Every seed was asked for exactly once, and decides by its parity what is accepted.
    assert len(server.seeds) == len(set(server.seeds)) == 24
    outcomes = read_outcomes(folder / "outcomes.csv")
    right = Counter((model, prompt) for model, prompt, seed in server.seeds if (seed % 2 == 0) == (model == "even"))
    for policy in ("even", "odd"):
        for p, problem in enumerate(outcomes.problems):
            factor = problem.removeprefix("times-")
            assert outcomes.num_correct_MP[outcomes.row(policy), p] == right[policy, f"Multiply by {factor}."]


@pytest.mark.slow
def test_a_finished_run_asks_for_nothing_more_and_repeats_from_its_own_folder(alphamix, trial, server, tmp_path):
    assert alphamix("run", trial, cwd=tmp_path).returncode == 0
    asked = len(server.seeds)
    assert alphamix("run", trial, cwd=tmp_path).returncode == 0
    assert alphamix("resume", "results/trial", cwd=tmp_path).returncode == 0
    assert alphamix("report", "results/trial", "--set", "analysis.level=0.9", cwd=tmp_path).returncode == 0
    assert len(server.seeds) == asked
    again = alphamix("run", "results/trial/experiment.toml", "-o", "elsewhere", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert slots_and_verdicts(tmp_path / "elsewhere") == slots_and_verdicts(tmp_path / "results" / "trial")


def test_the_registry_is_closed_when_a_run_ends(trial, tmp_path, monkeypatch):
    closed: list[tuple[str, ...]] = []
    monkeypatch.setattr(Registry, "close", lambda self: closed.append(self.names))
    monkeypatch.chdir(tmp_path)
    main(["run", str(trial), "--quiet"])
    assert closed == [("even", "odd")]


@pytest.mark.slow
def test_export_and_status_tell_what_there_is(alphamix, trial, tmp_path):
    assert alphamix("run", trial, "-q", cwd=tmp_path).returncode == 0
    status = json.loads(alphamix("status", "results/trial", "--json", cwd=tmp_path).stdout)
    assert status["even"].items() >= {"planned": 12, "sampled": 12, "graded": 12, "tokens": 132}.items()
    assert alphamix("export", "results/trial", "-o", "out", cwd=tmp_path).returncode == 0
    samples, verdicts = (
        [json.loads(line) for line in (tmp_path / "out" / name).read_text().splitlines()]
        for name in ("samples.jsonl", "verdicts.jsonl")
    )
    assert len(samples) == len(verdicts) == 24
    assert {"problem_id", "policy", "index", "completion", "finish_reason", "usage", "seed"} <= samples[0].keys()
    assert {"verdict", "failure", "tests_passed", "num_tests", "cpu_s", "judge"} <= verdicts[0].keys()
    assert verdicts[0]["judge"].keys() == {"version", "sandbox", "limits"}
    accepted = next(verdict for verdict in verdicts if verdict["verdict"] == "AC")
    assert (accepted["failure"], accepted["tests_passed"], accepted["first_failed_test"]) == (None, 3, None)
    wrong = next(verdict for verdict in verdicts if verdict["verdict"] == "WA")
    assert (wrong["failure"], wrong["tests_passed"], wrong["first_failed_test"]) == ("correctness", 0, 0)


def test_a_run_says_which_modules_programs_lacked_and_its_packages_reach_them(alphamix, trial, server, tmp_path):
    def answer(model: str, prompt: str, seed: int) -> str:
        module = "sortedcontainers" if model == "even" else "no_such_module"
        return honest_program("even", prompt, 0).replace("print", f"import {module}\nprint")

    server.answer = answer
    without = alphamix("run", trial, "-q", cwd=tmp_path)
    folder = tmp_path / "results" / "trial"
    lacked = "12 programs failed because they import sortedcontainers, which is not in the sandbox"
    for text in (without.stderr, " ".join((folder / "report.html").read_text().split())):
        assert f"{lacked}: alphamix regrade FOLDER --packages sortedcontainers." in text
        assert "12 programs failed because they import no_such_module, which is not installed here." in text
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["missing_modules"] == {"sortedcontainers": 12, "no_such_module": 12}
    assert read_outcomes(folder / "outcomes.csv").num_correct_MP.sum() == 0
    trial.write_text(trial.read_text() + '[grading]\npackages = ["sortedcontainers"]\n')
    refused = alphamix("run", trial, "-q", cwd=tmp_path)
    assert (refused.returncode, "grading.packages" in refused.stderr) == (2, True)
    assert alphamix("run", trial, "-q", "-o", folder.with_name("with"), cwd=tmp_path).returncode == 0
    outcomes = read_outcomes(folder.with_name("with") / "outcomes.csv")
    assert outcomes.num_correct_MP.sum(axis=1).tolist() == [12, 0]
    summary = json.loads((folder.with_name("with") / "summary.json").read_text())
    assert summary["missing_modules"] == {"no_such_module": 12}
    assert list(summary["judge"]["limits"]["packages"]) == ["sortedcontainers"]


def test_completions_go_on_from_the_prologue_and_forgeable_acceptance_is_told(alphamix, trial, server, tmp_path):
    write_humaneval(tmp_path / "problems.jsonl")
    body = "    return [2 * n for n in numbers]\n"
    whole = f"```python\n{DOUBLE.splitlines()[-1]}\n{body}```"
    server.answer = lambda model, prompt, seed: body if model == "even" else whole
    assert alphamix("run", trial, "-q", cwd=tmp_path).returncode == 0
    folder = tmp_path / "results" / "trial"
    outcomes = read_outcomes(folder / "outcomes.csv")
    assert outcomes.num_correct_MP.tolist() == [[4, 4], [4, 4]]
    assert json.loads((folder / "summary.json").read_text())["forgeable"] == {
        "problems": 1,
        "samples": 8,
        "accepted": 8,
    }
    page = " ".join((folder / "report.html").read_text().split())
    assert "The assertions of 1 of 2 problems had to run in the process of the program" in page
    assert "Of their 8 samples, 8 were accepted" in page
    assert alphamix("export", folder, "-o", "out", cwd=tmp_path).returncode == 0
    verdicts = [json.loads(line) for line in (tmp_path / "out" / "verdicts.jsonl").read_text().splitlines()]
    assert {one["problem_id"] for one in verdicts if one.get("forgeable")} == {"forgeable"}


@pytest.mark.slow
def test_failures_of_the_engine_stay_owed_and_are_made_good(alphamix, trial, server, tmp_path):
    good = server.answer
    server.answer = lambda model, prompt, seed: 400 if model == "odd" and "3" in prompt else good(model, prompt, seed)
    first = alphamix("run", trial, cwd=tmp_path)
    assert first.returncode == 3
    assert "4 samples of results/trial cannot be drawn" in first.stderr
    assert "odd: rejected" in first.stderr
    assert not (tmp_path / "results" / "trial" / "summary.json").exists()
    server.answer = good
    asked = len(server.seeds)
    assert alphamix("run", trial, cwd=tmp_path).returncode == 0
    assert len(server.seeds) == asked + 4


def test_a_policy_that_only_fails_is_set_aside_while_the_others_finish(alphamix, trial, server, tmp_path):
    good = server.answer
    server.answer = lambda model, prompt, seed: 400 if model == "even" else good(model, prompt, seed)
    done = alphamix("run", trial, "--set", "budget.samples=80", "--set", "sampling.concurrency=4", cwd=tmp_path)
    assert done.returncode == 3
    assert re.search(r"^240 samples .* cannot be drawn", done.stderr)
    assert re.search(r"\d+ × even: set aside after 1\d\d failures in a row, the last: rejected: ", done.stderr)
    assert Counter(model for model, _, _ in server.seeds)["odd"] == 240


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.slow
def test_a_run_that_was_stopped_at_any_moment_goes_on(fork_server, kind, trial, server, tmp_path):
    undisturbed = fork_server.run("run", trial, "-o", "undisturbed", cwd=tmp_path)
    assert undisturbed.returncode == 0, undisturbed.stderr
    good = server.answer

    def slow(model: str, prompt: str, seed: int) -> str | int:
        time.sleep(0.1)
        return good(model, prompt, seed)

    server.answer = slow
    rng = random.Random(kind)
    stops: list[tuple[int, set[tuple[str, str, int]]]] = []
    """What was asked for, and what was stored, when each process ended."""
    for _ in range(40):
        asked = len(server.seeds)
        process = fork_server.start("run", trial, "-q", "--set", "sampling.concurrency=1", cwd=tmp_path)
        moment = rng.randint(3, 8)
        while process.poll() is None and len(server.seeds) < asked + moment:
            time.sleep(0.005)
        process.send_signal(kind)
        code = process.wait(timeout=60)
        if code == 0:
            break
        assert code == (130 if kind == signal.SIGINT else -signal.SIGKILL)
        stops.append((len(server.seeds), stored_requests(tmp_path / "results" / "trial")))
    assert code == 0
    assert len(stops) >= 2
    assert slots_and_verdicts(tmp_path / "results" / "trial") == slots_and_verdicts(tmp_path / "undisturbed")
    assert stored_requests(tmp_path / "results" / "trial") == set(server.seeds)
    # What was under way when a process ended is asked again; what was stored is not.
    assert not any(stored & set(server.seeds[asked:]) for asked, stored in stops)


def test_a_second_process_on_one_run_is_told_so(alphamix, trial, tmp_path):
    folder = tmp_path / "results" / "trial"
    folder.mkdir(parents=True)
    with Store(folder / STORE_NAME):
        second = alphamix("run", trial, cwd=tmp_path)
    assert second.returncode == 2
    assert "another process is working on results/trial" in second.stderr


@pytest.mark.slow
def test_another_experiment_in_the_same_folder_is_refused(alphamix, trial, tmp_path):
    assert alphamix("run", trial, "-q", cwd=tmp_path).returncode == 0
    other = alphamix("run", trial, "--set", "sampling.temperature=0.5", cwd=tmp_path)
    assert other.returncode == 2
    assert "(sampling.temperature was 1.0, is now 0.5)" in other.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("trial.toml", "[budget]", "[budgets]", "unknown key 'budgets' .* did you mean 'budget'"),
        ("trial.toml", "problems.jsonl", "nothing.jsonl", "nothing.jsonl"),
        ("trial.toml", "pass_at = [1, 4]", "pass_at = [64]", "draw only 4 samples"),
        ("trial.toml", '"policies.toml"', '"policies.toml"\nuse = ["evne"]', "unknown policy 'evne' .* 'even'"),
        (
            "trial.toml",
            "samples = 4\n[analysis]\npass_at = [1, 4]",
            "samples = 1\n[analysis]",
            "split over 2 policies",
        ),
        ("trial.toml", "[budget]", '[allocation]\npolicies = ["evn"]\n[budget]', "unknown policy 'evn' .* 'even'"),
        ("problems.jsonl", None, "", "has no problems"),
        ("problems.jsonl", '"tests"', '"test"', "line 1"),
        ("policies.toml", 'model = "odd"', 'modle = "odd"', "unknown key 'modle' .* did you mean 'model'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(file, old, new, message, trial, tmp_path, monkeypatch, capsys):
    path = tmp_path / file
    text = path.read_text()
    path.write_text(new if old is None else text.replace(old, new))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["run", str(trial)])
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.count("\n") == 1
    assert re.search(message, error), error
    assert not (tmp_path / "results").exists()


def test_a_folder_that_cannot_be_written_is_one_line(alphamix, trial, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    done = alphamix("run", trial, "-o", "taken/run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: taken/run cannot be made, since a file has that name: give another folder\n"


def test_dry_run_writes_nothing_and_says_what_it_would_cost(alphamix, trial, server, tmp_path):
    plan = json.loads(alphamix("run", trial, "--dry-run", "--json", cwd=tmp_path).stdout)
    assert (plan["samples"], plan["budget_per_problem"], plan["policies"]) == (24, 4, ["even", "odd"])
    said = alphamix("run", trial, "--dry-run", cwd=tmp_path).stdout
    assert said.startswith("Nothing is written or asked. The run goes to results/trial.\n3 problems, 2 policies;")
    assert "equal split   2 each of even, odd" in said
    assert "Samples: 24, all that is drawn. At most 24 samples and 24,576 completion tokens." in said
    assert not (tmp_path / "results").exists()
    assert not server.seeds


def test_the_core_imports_neither_torch_nor_what_draws():
    code = (
        "import alphamix.ensemble.cli.commands.run, alphamix.ensemble.cli.commands.report, sys; "
        "sys.exit(not {'torch', 'matplotlib', 'jinja2'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, env=os.environ).returncode == 0
