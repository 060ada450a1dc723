"""What is served: policies files, experiments, and mixtures from `mix` or from a finished run."""

import json
import sys
from pathlib import Path
from subprocess import run
from typing import Any

import pytest

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.serve.catalogue import load_catalogue, read_mixture
from alphamix.policies.types import PolicyError

LADDER = Path(__file__).parents[3] / "examples" / "ladder"
QUICKSTART = Path(__file__).parents[3] / "results" / "quickstart"
POLICY = '[policies.{}]\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n'
POLICIES = POLICY.format("low") + POLICY.format("high") + POLICY.format("other")
EXPERIMENT = """
name = "{name}"
[problems]
file = "no such file: serving needs none.jsonl"
[policies]
file = "policies.toml"
[budget]
samples = 4
[allocation]
policies = ["low", "high"]
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES + "[mixtures.both]\nweights = { low = 1, high = 3 }\n")
    return file


@pytest.fixture
def experiment(policies: Path) -> Path:
    file = policies.with_name("experiment.toml")
    file.write_text(EXPERIMENT.format(name="trial"))
    return file


def mixture(folder: Path, value: Any) -> Path:
    file = folder / "mixture.json"
    file.write_text(json.dumps(value))
    return file


def test_a_policies_file_is_served_with_its_mixtures(policies: Path) -> None:
    registry = load_catalogue(policies, [mixture(policies.parent, {"allocation": {"low": 1}})])
    assert registry.names == ("low", "high", "other")
    assert registry.mixtures == {"both": {"low": 1, "high": 3}, "mixture": {"low": 1}}


def test_the_weights_of_a_policy_in_several_settings_are_added(experiment: Path) -> None:
    several = {"low@reasoning": 1, "low@tool": 3, "high@agent": 2}
    registry = load_catalogue(experiment, [mixture(experiment.parent, {"allocation": several})])
    assert registry.mixtures["mixture"] == {"low": 4, "high": 2}
    experiment.write_text(experiment.read_text() + '[sampling]\nsetting = ["reasoning", "tool"]\n')
    text = experiment.read_text().replace('policies = ["low", "high"]', 'policies = ["low", "high@tool"]')
    experiment.write_text(text)
    assert load_catalogue(experiment).mixtures["trial"] == {"low": 2.0, "high": 1.0}
    with pytest.raises(EnsembleError, match="unknown policy 'lo'"):
        load_catalogue(experiment, [mixture(experiment.parent, {"allocation": {"lo@tool": 1}})])


def test_the_equal_split_of_an_experiment_is_served_under_its_name(experiment: Path) -> None:
    registry = load_catalogue(experiment)
    assert registry.names == ("low", "high", "other")
    assert registry.mixtures == {"both": {"low": 1, "high": 3}, "trial": {"low": 1, "high": 1}}


@pytest.mark.parametrize("is_folder", [True, False])
def test_the_mixture_of_a_run_takes_the_place_of_the_equal_split(experiment: Path, is_folder: bool) -> None:
    arms = {"equal": {"allocation": {"low": 2, "high": 2}}, "mixture": {"allocation": {"high": 3, "other": 1}}}
    summary = experiment.with_name("summary.json")
    summary.write_text(json.dumps({"run": "trial", "arms": arms}))
    registry = load_catalogue(experiment, [summary.parent if is_folder else summary])
    assert registry.mixtures["trial"] == {"high": 3, "other": 1}


def test_variables_beat_the_experiments_file(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALPHAMIX_ALLOCATION__POLICIES", '["other"]')
    assert load_catalogue(experiment).mixtures["trial"] == {"other": 1}


def test_the_quickstart_and_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = load_catalogue(LADDER / "quickstart.toml")
    assert len(registry.mixtures["quickstart"]) == 8
    assert registry.mixtures["quickstart"] == registry.mixtures["frontier"]
    told = json.loads((QUICKSTART / "summary.json").read_text())["arms"]["mixture"]["allocation"]
    assert load_catalogue(QUICKSTART / "experiment.toml", [QUICKSTART]).mixtures["quickstart"] == told


def test_an_allocation_becomes_weights(tmp_path: Path) -> None:
    file = mixture(tmp_path, {"budget": 4, "allocation": {"high": 3, "low": 0}})
    assert read_mixture(file, ["low", "high"]) == ("mixture", {"high": 3, "low": 0})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "alphamix mix --json"),
        ([], "alphamix mix --json"),
        ({"run": "trial", "arms": {}}, "alphamix mix --json"),
        ({"run": "trial", "arms": 3}, "alphamix mix --json"),
        ({"allocation": {}}, "counts by policy"),
        ({"allocation": {"hihg": 1}}, "did you mean 'high'"),
        ({"allocation": {"high": 1.5}}, "whole number"),
        ({"allocation": {"high": -1}}, "whole number"),
        ({"allocation": {"high": True}}, "whole number"),
        ({"allocation": {"high": 0}}, "0 for every policy"),
    ],
)
def test_what_is_no_mixture_is_refused(policies: Path, value: Any, message: str) -> None:
    with pytest.raises(EnsembleError, match=message):
        load_catalogue(policies, [mixture(policies.parent, value)])


@pytest.mark.parametrize(
    ("old", "new", "kind", "message"),
    [
        ('"low", "high"', '"low", "hihg"', PolicyError, "did you mean 'high'"),
        ("samples = 4", "samples = 1", ExperimentError, "cannot be split over 2 policies: raise it"),
        ('"trial"', '"low"', EnsembleError, "a policy are both called 'low': rename one"),
        ('"trial"', '"both"', EnsembleError, "and a mixture of .* are both called 'both': rename"),
        ("[budget]", "[budgte]", ExperimentError, "unknown key 'budgte'.*did you mean 'budget'"),
        ('"policies.toml"', '"polices.toml"', PolicyError, "there is no file .*polices.toml: give"),
    ],
)
def test_an_experiment_that_cannot_be_served_says_why(
    experiment: Path, old: str, new: str, kind: type[Exception], message: str
) -> None:
    experiment.write_text(experiment.read_text().replace(old, new))
    with pytest.raises(kind, match=message):
        load_catalogue(experiment)


def test_a_mixture_may_not_hide_a_policy(policies: Path) -> None:
    path = mixture(policies.parent, {"allocation": {"low": 1}}).rename(policies.parent / "low.json")
    with pytest.raises(EnsembleError, match="rename one"):
        load_catalogue(policies, [path])


@pytest.mark.parametrize("text", [None, "[policies", "[policies.low]\ncheckpoint = 'nowhere'"])
def test_the_command_says_what_is_wrong_in_one_line(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "policies.toml"
    if text is not None:
        file.write_text(text)
    done = run([sys.executable, "-m", "alphamix", "serve", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")
