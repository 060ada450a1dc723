"""Experiments: what wins over what, and what is refused with which words."""

from pathlib import Path

import pytest
import tomli_w

from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.config import ExperimentError

FILE = """
name = "trial"
[problems]
file = "problems.jsonl"
[policies]
file = "policies.toml"
[budget]
samples = 4
[analysis]
pass_at = [1, 4]
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "trial.toml"
    path.write_text(FILE)
    return path


def test_flags_beat_variables_and_variables_beat_the_file(path):
    variables = {"ALPHAMIX_BUDGET__SAMPLES": "8", "ALPHAMIX_SAMPLING__SEED": "5", "ALPHAMIX_CACHE": "/x"}
    settings = experiment.load(path, ["budget.samples=16"], variables)
    assert (settings.budget.samples, settings.sampling.seed) == (16, 5)


def test_paths_of_the_file_are_relative_to_it_and_those_of_flags_to_here(path, tmp_path, monkeypatch):
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    settings = experiment.load(path, ["problems.file=mine.jsonl"])
    assert settings.problems.file == here / "mine.jsonl"
    assert settings.policies.file == tmp_path / "policies.toml"


def test_samples_default_to_the_budget(path):
    assert experiment.load(path).budget.samples == 4


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.sample=3", r"unknown key 'sample' in \[budget\] .* did you mean 'samples'"),
        ("sampling.samples=3", r"budget.samples = 4, but sampling.samples = 3 .* lower the budget"),
        ("budget.samples=many", "budget.samples .* whole number"),
        ("sampling.temperature=-1", "sampling.temperature .* it should be 0 or more"),
        ("sampling.prompt=hello", "does not contain the problem"),
        ("budget", "is not of the form KEY=VALUE"),
        ("name=a/b", "name"),
    ],
)
def test_what_does_not_hold_is_refused_in_one_line(path, override, message):
    with pytest.raises(ExperimentError, match=message) as caught:
        experiment.load(path, [override])
    assert "\n" not in str(caught.value)


def test_problems_come_from_a_file_or_a_benchmark(path, tmp_path):
    text = path.read_text()
    start, end = text.index("[problems]"), text.index("[policies]")

    def load(section):
        path.write_text(f"{text[:start]}[problems]\n{section}\n{text[end:]}")
        return experiment.load(path)

    settings = load('benchmark = "livecodebench"\npath = "lcb"\nafter = 2024-08-01\nbefore = "2025-01-31"')
    assert settings.problems.path == tmp_path / "lcb"
    assert settings.problems.given() == ("after", "before")
    named = load('benchmark = "kattis:packages/sum"\nsplit = "test"').problems
    assert (named.benchmark, named.path, named.split) == ("kattis", tmp_path / "packages/sum", "test")
    again = tmp_path / "again.toml"
    again.write_text(tomli_w.dumps(settings.to_toml()))
    assert experiment.load(again) == settings
    for section, told in (
        ("limit = 3", "neither is given"),
        ('file = "p.jsonl"\nbenchmark = "mbpp"', "both are given"),
        ('file = "p.jsonl"\ndifficulty = "hard"', "problems.difficulty belongs to a benchmark"),
        ('file = "p.jsonl"\npath = "lcb"', "problems.path belongs to a benchmark"),
        ('benchmark = "kattis:a"\npath = "b"', "both name a path"),
        ('benchmark = "mbpp"\nafter = "soon"', r"problems\.after of .* is 'soon'"),
    ):
        with pytest.raises(ExperimentError, match=told):
            load(section)


def test_a_resolved_experiment_reads_back_the_same(path, tmp_path):

    settings = experiment.load(path)
    again = tmp_path / "again.toml"
    again.write_text(tomli_w.dumps(settings.to_toml()))
    assert experiment.load(again) == settings


def test_sections_of_a_program_override_the_file_key_by_key(path, tmp_path, monkeypatch):
    here = tmp_path / "elsewhere"
    here.mkdir()
    monkeypatch.chdir(here)
    sections = {"problems": {"file": Path("mine.jsonl"), "limit": 2}, "budget": {"tokens": 100.0}}
    settings = experiment.load_with(path, sections)
    assert (settings.problems.file, settings.problems.limit) == (here / "mine.jsonl", 2)
    assert settings.policies.file == tmp_path / "policies.toml"
    assert settings.budget.amounts == {"tokens": 100.0}
    assert settings.analysis.pass_at == [1, 4]


def test_sections_alone_are_an_experiment_and_their_faults_are_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = {"name": "n", "problems": {"file": "p.jsonl"}, "policies": {"file": "p.toml"}, "budget": {"samples": 2}}
    assert experiment.load_with(None, whole).problems.file == tmp_path / "p.jsonl"
    with pytest.raises(ExperimentError, match=r"unknown key 'sample' in \[budget\]"):
        experiment.load_with(None, whole | {"budget": {"sample": 2}})


def test_a_fault_is_blamed_on_what_it_came_from(path):
    def said(overrides=(), environment=None):
        with pytest.raises(ExperimentError) as caught:
            experiment.load(path, overrides, environment)
        return str(caught.value)

    flag, variable = "--set budget.sample=3", "ALPHAMIX_BUDGET__SAMPLE"
    assert said(["budget.sample=3"]) == f"unknown key 'sample' in [budget] of {flag}: did you mean 'samples'?"
    assert said((), {variable: "3"}) == f"unknown key 'sample' in [budget] of {variable}: did you mean 'samples'?"
    assert said(["bugdet.samples=3"]).startswith("unknown key 'bugdet' in --set bugdet.samples=3")
    assert said(["analysis.pass_at=[0]"]).startswith("analysis.pass_at.0 of --set analysis.pass_at=[0] is 0")
    assert said(["budget.run={a=1}"]).startswith("unknown key 'a' in [budget.run] of --set budget.run={a=1}")
    path.write_text(path.read_text().replace("samples", "sampels"))
    assert said(["sampling.seed=3"]).startswith(f"unknown key 'sampels' in [budget] of {path}")
    path.write_text(path.read_text().replace("sampels", "samples"))
    with pytest.raises(ExperimentError, match=r"unknown key 'sample' in \[budget\] of the keyword arguments"):
        experiment.load_with(path, {"budget": {"sample": 2}})
