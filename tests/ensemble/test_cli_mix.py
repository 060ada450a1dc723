"""`alphamix mix`: what it prints, what it says, and what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from alphamix.ensemble import cli

LIVECODEBENCH = Path(__file__).parents[2].parent / "shared/data/lcb_outcomes.csv"
QUICK = ["--repeats", "2"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Two policies that solve different halves of 40 problems, and a third that is a poorer twin of the first."""
    rng = np.random.default_rng(0)
    rates = {"first": [0.4, 0.02], "second": [0.02, 0.35], "twin": [0.1, 0.01]}
    rows = [
        (f"p{p}", policy, 24, int(rng.binomial(24, rate[p % 2])), 10.0 if policy == "first" else 20.0)
        for policy, rate in rates.items()
        for p in range(40)
    ]
    path = tmp_path / "outcomes.csv"
    pd.DataFrame(rows, columns=["problem", "policy", "n", "c", "tokens"]).to_csv(path, index=False)
    return path


def mix(capsys: pytest.CaptureFixture[str], table: Path, *options: str) -> str:
    capsys.readouterr()
    cli.main(["mix", "--outcomes", str(table), *QUICK, *options])
    return capsys.readouterr().out


def mix_json(capsys: pytest.CaptureFixture[str], table: Path, *options: str) -> dict:
    return json.loads(mix(capsys, table, *options, "--json"))


def test_json_holds_what_the_contract_names(capsys, table):
    said = mix_json(capsys, table, "--budget", "6")
    assert (said["budget"], said["currency"]) == (6, "samples")
    assert sum(said["allocation"].values()) == 6
    assert {"first", "second"} <= said["allocation"].keys()
    assert said["best_single"]["policy"] == "first"
    assert said["gain"]["honest"] > 0.1
    assert said["gain"]["interval"][0] > 0
    assert said["gain"]["optimism"] == pytest.approx(said["gain"]["naive"] - said["gain"]["honest"])
    assert said["certificate"]["objective"] <= said["certificate"]["upper_bound"]
    assert sum(said["random_routing"]["weights"].values()) == pytest.approx(1)
    assert said["random_routing"]["coverage"] <= said["random_routing"]["fixed_coverage"]
    assert said["crossfit"] == {"by": "problems", "folds": 3, "repeats": 2}
    assert said["intervals"] == {"level": 0.95, "naive": "score", "honest": "student"}
    assert set(said["crossfits"]) == {"problems", "samples"}
    shares = [one["shapley"] for one in said["contributions"].values()]
    assert sum(shares) == pytest.approx(said["certificate"]["objective"], abs=0.01)
    assert said["undefined"] == {}


def test_the_sentence_says_what_to_do(capsys, table):
    said = " ".join(mix(capsys, table, "--budget", "6").split())
    assert "Spend 6 samples per problem as" in said
    assert "95 % intervals for new problems, score interval; of honest estimates with Student's t." in said
    assert "over first, the policy that you would have picked alone. The gain is more than chance explains." in said
    assert "It beats every single policy: even over first it gains +" in said
    twins = " ".join(mix(capsys, table, "--budget", "6", "--policy", "first", "--policy", "twin").split())
    assert "Use first alone: it is the best mixture, and covers" in twins
    few = " ".join(mix(capsys, table, "--budget", "12", "--policy", "first", "--policy", "twin").split())
    assert "Use first alone: the best mixture (" in few
    assert "Chance could explain that gain" in few


def test_a_tie_is_told_and_the_posterior_is_named_only_where_it_decides(capsys, tmp_path):
    def said(c_of: dict[str, list[int]]) -> str:
        rows = [(f"p{p}", policy, 8, c) for policy, c_P in c_of.items() for p, c in enumerate(c_P * 5)]
        path = tmp_path / "outcomes.csv"
        pd.DataFrame(rows, columns=["problem", "policy", "n", "c"]).to_csv(path, index=False)
        return " ".join(mix(capsys, path, "--budget", "8").split())

    assert "a covers no more than b; the posterior hardly tells them apart" in said({"a": [0, 5, 3], "b": [0, 5, 3]})
    assert "b covers no more than a; the posterior prefers it." in said({"a": [0, 1, 2], "b": [0, 7, 8]})


def test_a_budget_in_tokens_buys_more_of_what_is_cheap(capsys, table):
    said = mix_json(capsys, table, "--budget", "200", "--cost", "tokens")
    assert said["currency"] == "tokens"
    assert 10 * said["allocation"].get("first", 0) + 20 * said["allocation"].get("second", 0) <= 200
    assert said["random_routing"] is None


def test_what_is_undefined_is_null_with_its_reason(capsys, table):
    said = mix_json(capsys, table, "--budget", "16")
    assert said["crossfits"]["samples"]["gain"]["honest"] is None
    assert "only 12 can be scored" in said["undefined"]["best_single, honest by samples"]
    assert "n/a, best single, honest by samples" in " ".join(mix(capsys, table, "--budget", "16").split())


def test_a_pilot_chooses_beyond_its_samples_and_claims_nothing(capsys, table):
    said = mix_json(capsys, table, "--budget", "100", "--pilot")
    assert sum(said["allocation"].values()) == 100
    assert said["coverage"] == {"naive": None, "honest": None, "interval": None}
    assert 0 < said["best_single"]["expected"] < said["certificate"]["objective"]
    words = " ".join(mix(capsys, table, "--budget", "100", "--pilot").split())
    assert "the model of shared difficulty expects it to solve" in words
    assert "No figure without a model exists before as many samples are drawn" in words
    assert "covers" not in words.split("alone missing without it")[1]
    low, high = said["forecast"]["interval"]
    assert low <= said["forecast"]["value"] <= high
    assert said["forecast"]["value"] == pytest.approx(said["certificate"]["objective"], abs=1e-6)


def test_without_figures_there_is_no_empty_table(capsys, table):
    said = mix(capsys, table, "--budget", "100", "--pilot")
    assert "naive" not in said
    assert " ".join(said.split()).count("too few to score") == 1


def test_a_policy_named_twice_is_one(capsys, table):
    once, twice = (mix_json(capsys, table, "--budget", "4", *["--policy", "first"] * times) for times in (1, 2))
    assert once == twice


def test_json_is_valid_and_names_what_was_left_out(capsys, table):
    table.write_text(table.read_text() + "hole,first,24,3,10\n")
    said = mix(capsys, table, "--budget", "4", "--missing", "drop-problems", "--json")
    assert json.loads(said, parse_constant=pytest.fail)["left_out"] == ["hole"]
    assert "since samples are missing: 1 problem (hole)." in mix(
        capsys, table, "--budget", "4", "--missing", "drop-problems"
    )


def test_a_group_column_widens_what_copies_narrow_and_may_split_no_problem(capsys, table):
    """Each problem five times, as from one template."""
    plain = pd.read_csv(table)
    copies = [plain.assign(problem=plain["problem"] + f"/{copy}", group=plain["problem"]) for copy in range(5)]
    copied = pd.concat(copies, ignore_index=True)

    def width() -> float:
        low, high = mix_json(capsys, table, "--budget", "6")["gain"]["interval"]
        return high - low

    once = width()
    copied.to_csv(table, index=False)
    grouped = width()
    copied.drop(columns="group").to_csv(table, index=False)
    assert width() < 0.7 * once < grouped < 1.5 * once
    copied.assign(group=copied["policy"]).to_csv(table, index=False)
    with pytest.raises(SystemExit, match="2"):
        mix(capsys, table, "--budget", "6")
    assert "into the groups 'first' and 'second': give each problem one group" in capsys.readouterr().err


def test_at_least_so_many_policies(capsys, table):
    assert len(mix_json(capsys, table, "--budget", "6", "--min-policies", "3")["allocation"]) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget", "100"], "a budget of 100 samples exceeds the 72 that can be scored"),
        (["--budget", "2.5"], "2.5 samples is not a whole number"),
        (["--budget", "nan"], "not a finite number"),
        (["--budget", "inf", "--cost", "tokens"], "not a finite number"),
        (["--budget", "1e12", "--pilot"], "at most 1,000,000"),
        (["--budget", "1e12", "--pilot", "--cost", "tokens"], "more than 1,000,000 samples of 'first': lower it"),
        (["--budget", "6", "--level", "nan"], "not a finite number"),
        (["--budget", "5", "--cost", "tokens"], "5 tokens"),
        (["--budget", "6", "--cost", "seconds"], "no column 'seconds'"),
        (["--budget", "6", "--policy", "frist"], "unknown policy 'frist' in the outcomes: did you mean 'first'?"),
        (["--budget", "2", "--min-policies", "3"], "3 policies"),
    ],
)
def test_what_cannot_be_is_one_line_and_exit_code_2(capsys, table, options, message):
    with pytest.raises(SystemExit) as ended:
        mix(capsys, table, *options)
    assert ended.value.code == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert "Traceback" not in complaint


@pytest.mark.skipif(not LIVECODEBENCH.exists(), reason="the LiveCodeBench outcomes are not here")
def test_real_outcomes_with_a_hole(capsys):
    with pytest.raises(SystemExit) as ended:
        mix(capsys, LIVECODEBENCH, "--budget", "10")
    assert ended.value.code == 2
    assert "--missing drop-problems" in capsys.readouterr().err
    some = ("Claude-Instant-1", "DSCoder-33b-Ins", "GPT-4-0613", "GPT-4-Turbo-1106")
    options = ("--budget", "10", "--missing", "drop-problems", *(word for name in some for word in ("--policy", name)))
    said = mix_json(capsys, LIVECODEBENCH, *options)
    assert said["best_single"]["policy"] == "GPT-4-Turbo-1106"
    assert said["certificate"]["is_optimal"]
    assert said["gain"]["interval"][0] > 0


def test_commands_do_not_wait_for_scipy_stats():
    """It takes longer to import than all other parts of scipy."""
    code = "import sys; from alphamix.ensemble.cli.commands import mix, report; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_in_a_locale_of_ascii_what_it_lacks_becomes_a_question_mark(table, tmp_path):
    frame = pd.read_csv(table).replace("first", "α=½")
    frame.to_csv(table, index=False)
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    command = [sys.executable, "-m", "alphamix", "mix", "--outcomes", str(table), *QUICK, "--budget", "2"]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | ascii_only)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?=?" in done.stdout
