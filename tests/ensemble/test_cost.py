"""What a plan will cost: rates by hand, intervals by simulation, and a real run foretold from a smaller one."""

import json
import random
import re
import subprocess
import sys
from math import isnan, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from alphamix.ensemble.cli import main
from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.run import cost_estimate as cost
from alphamix.ensemble.run.cost_estimate import JUDGE_FACTOR, JUDGE_OVERHEAD_S, CostError, Range, Resources, Spread
from alphamix.ensemble.run.executor import Executor
from alphamix.ensemble.run.slots import plan_slots
from alphamix.ensemble.store import STORE_NAME, Graded, Sample, Slot, Store
from alphamix.ensemble.store.rows import compress
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Judgement, Problem, Verdict
from alphamix.policies.types import Completion

LADDER = Path(__file__).parents[2] / "examples" / "ladder"
TOKENS = {("low", "p0"): (10, 30), ("low", "p1"): (40, 80), ("high", "p0"): (20, 20), ("high", "p1"): (100, 100)}
"""Completion tokens of two samples in each cell."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run of 2 policies × 2 problems × 2 samples. Each takes 2 s, one after the other; `high` begins a day later."""
    slots = [
        Slot(2 * cell + index, policy, problem, index, index)
        for cell, (policy, problem) in enumerate(TOKENS)
        for index in range(2)
    ]
    with Store(tmp_path / STORE_NAME) as store:
        store.plan(slots, {"made": "here"})
        for slot in slots:
            came = 2.0 * (slot.number % 4 + 1) + (86400 if slot.policy == "high" else 0)
            tokens = TOKENS[slot.policy, slot.problem][slot.index]
            store.add_samples([Sample(slot, Completion("x" * tokens, "stop", 5, tokens, 2.0), came)])
            judgement = Judgement(Verdict.AC, 1, 1, None, 0.1 * (1 + slot.index), 1.0)
            store.add_verdicts([Graded(slot, judgement, None)], "{}")
    return tmp_path


def test_rates_are_means_of_the_record(folder: Path) -> None:
    with Store(folder / STORE_NAME, read_only=True) as store:
        rates, both = cost.rates_of(store), cost.pooled(store)
    low = rates["low"]
    assert (low.samples, both.samples) == (4, 8)
    assert low.completion_tokens == Spread(40, pytest.approx(20 * sqrt(2)), 2)
    assert both.completion_tokens == Spread(50, pytest.approx(30 * sqrt(2)), 2, pytest.approx(10 * sqrt(2)), 2)
    assert low.engine_s.mean == 2
    assert low.grading_cpu_s.mean == pytest.approx(0.15)
    assert low.text_bytes.mean == sum(len(compress("x" * n)) for n in (10, 30, 40, 80)) / 4
    assert low.tokens_per_s.mean == 160 / 8
    assert both.tokens_per_s.mean == pytest.approx(400 / 16), "the day between is no time of sampling"
    assert both.samples_per_s == pytest.approx(8 / 16)


def test_a_plan_is_rates_times_samples(folder: Path) -> None:
    with Store(folder / STORE_NAME, read_only=True) as store:
        rates, both = cost.rates_of(store), cost.pooled(store)
    plan = {"low": 30, "high": 60}
    found = cost.estimate_run(3, plan, rates, Resources(engines=4, workers=2))
    assert found.samples == 90
    assert found.completion_tokens is not None
    assert found.completion_tokens.mean == 30 * 40 + 60 * 60
    spread = 20 * sqrt(2), 40 * sqrt(2)
    half = sum(
        count * student.ppf(0.975, 1) * one * sqrt(1 / 2 + 1 / 3) for count, one in zip((30, 60), spread, strict=True)
    )
    assert found.completion_tokens.high == pytest.approx(4800 + half)
    assert found.completion_tokens.low == 0
    assert found.engine_hours is not None
    assert found.engine_hours.mean == pytest.approx((30 * 40 / 20 + 60 * 60 / 30) / 3600)
    assert found.grading_cpu_hours is not None
    assert found.grading_cpu_hours.mean == pytest.approx(90 * (JUDGE_FACTOR * 0.15 + JUDGE_OVERHEAD_S) / 3600)
    assert found.wall_hours is not None
    assert found.wall_hours.mean == max(found.engine_hours.mean / 4, found.grading_cpu_hours.mean / 2)
    given_tokens = cost.estimate(3, 5, 4, both, Resources(tokens=1000, tokens_per_s=50))
    assert given_tokens.completion_tokens == Range(60000, 60000, 60000)
    assert given_tokens.engine_hours == Range(*(3 * [60000 / 50 / 3600]))
    assert given_tokens.disk_bytes is not None
    assert given_tokens.disk_bytes.mean - cost._EMPTY_RECORD_BYTES == pytest.approx(
        60 * (both.row_bytes + both.text_bytes.mean * 1000 / 50)
    )
    dense = cost.estimate(3, 5, 4, both, Resources(tokens=1000, bytes_per_token=1.5))
    assert dense.disk_bytes is not None
    assert dense.disk_bytes.mean == pytest.approx(cost._EMPTY_RECORD_BYTES + 60 * (both.row_bytes + 1500))
    as_is = cost.estimate(3, 5, 4, both)
    twice = cost.estimate(3, 5, 4, both, Resources(measured_engines=2))
    assert twice.engine_hours is not None
    assert as_is.engine_hours is not None
    assert twice.engine_hours.mean == pytest.approx(2 * as_is.engine_hours.mean)


@pytest.mark.parametrize("known", [None, {}])
def test_without_measurement_nothing_is_told_but_the_number(known: dict[str, cost.Rates] | None) -> None:
    found = cost.estimate_run(3, {"low": 30, "high": 60}, known)
    assert (found.samples, found.engine_hours, found.disk_bytes, found.wall_hours) == (90, None, None, None)


def test_the_mean_of_other_problems_and_policies_lies_within_the_range_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = []
    for _ in range(2000):
        problems, policies = rng.normal(0, 3, 60), rng.normal(0, 2, 15)
        values_PM = 100 + problems[:, None] + policies + rng.normal(0, 1, (60, 15))
        low_high = cost._spread(values_PM[:20, :5]).predict(40, 10)
        inside.append(low_high.low <= values_PM[20:, 5:].mean() <= low_high.high)
    assert 0.93 <= np.mean(inside) <= 0.99


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=12))
def test_busy_time_is_covered_time(requests: list[tuple[int, int]]) -> None:
    covered = {second for start, length in requests for second in range(start, start + length)}
    starts = np.array([start for start, _ in requests], float)
    ends = starts + [length for _, length in requests]
    firsts, lasts = cost._busy(starts, ends)
    assert (lasts - firsts).sum() == len(covered)
    edges = cost._slices(firsts, lasts)
    assert (edges[0], edges[-1]) == (min(covered), max(covered) + 1)
    passed = [sum(min(1.0, max(0.0, edge - second)) for second in covered) for edge in edges]
    assert np.diff(passed) == pytest.approx(len(covered) / 10)


def test_an_empty_record_is_not_counted(tmp_path: Path) -> None:
    with Store(tmp_path / STORE_NAME) as store:
        assert store.size() == cost._EMPTY_RECORD_BYTES
        with pytest.raises(CostError, match="has no samples yet: measure on a run that has some"):
            cost.rates_of(store)


def test_one_problem_tells_no_spread() -> None:
    with pytest.raises(CostError, match="one problem shows no spread: measure on a run of two problems or more"):
        Spread(3.0, 0.0, 1).predict(10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two real runs of the ladder's checkpoints, on other problems each: 14 × 4 and 26 × 6 samples of each policy."""
    pytest.importorskip("torch", reason="embedded policies need alphamix[local]")
    if not (LADDER / "checkpoints" / "high").is_dir():
        pytest.skip("the ladder's checkpoints are not here: make them with examples/ladder/train.py")
    lines = (LADDER / "problems.jsonl").read_text().splitlines()
    random.Random(0).shuffle(lines)
    folders: list[Path] = []
    silent: Any = Silent()
    for name, problems, samples in (("pilot", lines[:14], 4), ("whole", lines[14:], 6)):
        folder = tmp_path_factory.mktemp(name)
        (folder / "problems.jsonl").write_text("\n".join(problems) + "\n")
        (folder / "trial.toml").write_text(
            f'name = "{name}"\n[problems]\nfile = "problems.jsonl"\n[policies]\nfile = "{LADDER / "policies.toml"}"\n'
            'use = ["low", "high"]\n[sampling]\nprompt = "{statement}"\ntemperature = 1.0\nmax_tokens = 192\n'
            f"[budget]\nsamples = {samples}\n"
        )
        inputs = read_inputs(load(folder / "trial.toml"))
        with inputs.sampling.registry, Judge(workers=1) as judge, Store(folder / STORE_NAME) as store:
            store.plan(plan_slots(["low", "high"], inputs.design.problems, samples, 0), {"made": "here"})
            assert not Executor(store, inputs.sampling, {}, judge, silent).fill().is_anything
        folders.append(folder)
    return folders


def problem(name: str) -> Problem:
    return Problem.model_validate({"id": name, "statement": name, "tests": [{"input": "1", "output": "1"}]})


class Silent:
    """An observer that ignores everything."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.slow
def test_a_real_run_is_foretold_by_a_smaller_one(runs: list[Path]) -> None:
    pilot, whole = runs
    with Store(pilot / STORE_NAME, read_only=True) as store:
        foretold = cost.estimate_run(26, {"low": 156, "high": 156}, cost.rates_of(store))
        recorded_cpu_s = cost.pooled(store).grading_cpu_s.predict(26, 2)
    with Store(whole / STORE_NAME, read_only=True) as store:
        cells, size = store.cell_costs(), store.size()
    assert foretold.samples == cells["n"].sum() == 312
    came = {
        "prompt_tokens": 6 * cells["prompt_tokens"].sum(),
        "completion_tokens": 6 * cells["completion_tokens"].sum(),
        "disk_bytes": size,
    }
    for term, value in came.items():
        told: Range = getattr(foretold, term)
        assert 1 / 1.25 < value / told.mean < 1.25, term
        assert term == "disk_bytes" or told.low < value < told.high, term
    assert recorded_cpu_s.low <= cells["cpu_s"].mean() <= recorded_cpu_s.high
    assert 1 / 2.5 < cells["cpu_s"].mean() / recorded_cpu_s.mean < 2.5


def test_the_command_tells_a_plan_for_machines_and_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = ["--problems", "880", "--policies", "9", "--samples", "250", "--tokens", "16000"]
    main(["cost", "--like", str(folder), *plan, "--tokens-per-second", "2000", "--gpus", "8", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["samples"] == 880 * 9 * 250
    assert told["engine_hours"]["mean"] == pytest.approx(880 * 9 * 250 * 16000 / 2000 / 3600)
    assert told["plan"] == {"problems": 880, "policies": 9, "samples_per_cell": 250}
    assert told["measured"]["low"]["completion_tokens"]["mean"] == 40
    main(["cost", "--like", str(folder)])
    told_to_people = " ".join(capsys.readouterr().out.split())
    assert "Planned: 2 problems × 2 policies × 2 = 8 samples." in told_to_people
    assert "completion tokens 400" in told_to_people


def test_what_does_not_hold_is_one_line(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("imported")
    slots = list(plan_slots(["a"], ["p", "q"], 1, 0))
    with Store(other / STORE_NAME) as store:
        store.plan(slots, {"made": "here"})
        unknown = frozenset({"prompt_tokens", "completion_tokens", "seconds"})
        store.add_samples([Sample(slot, Completion("x", "stop", 0, 0, 0.0), 1.0, unknown=unknown) for slot in slots])
        assert isnan(cost.pooled(store).completion_tokens.mean)
    for arguments, message in (
        (["--like", str(other / "nowhere")], "holds no run"),
        (["--like", str(other)], "have no token counts: give --tokens"),
        (["--like", str(other), "--tokens", "9"], "have no times: give --tokens-per-second"),
        (["--like", str(other), "--tokens", "9", "--tokens-per-second", "5"], "is graded, .*: grade some first"),
        (["--like", str(folder), "--tokens", "nan"], "not a finite number"),
        (["--like", str(folder), "--tokens-per-second", "5", "--like-gpus", "2"], "leave it out"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["cost", *arguments])
        error = capsys.readouterr().err
        assert error.strip()
        assert re.search(message, error), error


def test_the_model_needs_no_torch() -> None:
    heavy = {"torch", "numba", "sklearn", "matplotlib"}
    code = f"import sys, alphamix.ensemble.run.cost_estimate; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
