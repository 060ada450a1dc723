"""Trajectories against brute force: lines by polyfit, rank 1 by SVD, R² by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from alphamix.policies.merging.trajectory import Method, extrapolate, linearity
from alphamix.policies.types import PolicyError

W, NORM = "model.w.weight", "model.norm.weight"


def write_run(folder: Path, steps: list[int], noise: float = 0.1) -> dict[int, Path]:
    generator = np.random.default_rng(0)
    start, slope = generator.normal(size=(2, 6, 5))
    run: dict[int, Path] = {}
    for step in steps:
        run[step] = folder / f"step{step}"
        run[step].mkdir()
        (run[step] / "config.json").write_text("{}")
        w = start + step / 100 * slope + noise * generator.normal(size=(6, 5))
        w[0, 0] = 7  # never moves
        norm = np.full(3, 1 + step / 100)
        save_file({W: w.astype(np.float32), NORM: norm.astype(np.float32)}, run[step] / "model.safetensors")
    return run


def stacked(run: dict[int, Path], name: str) -> NDArray[np.float64]:
    return np.stack([load_file(run[s] / "model.safetensors")[name].astype(float).ravel() for s in sorted(run)])


@pytest.mark.parametrize("method", ["lines", "rank-1"])
def test_extrapolated_weights_are_those_of_brute_force(tmp_path: Path, method: Method) -> None:
    run = write_run(tmp_path, [300, 0, 50, 100])
    steps, values = np.array(sorted(run)), stacked(run, W)
    extrapolate(run, 700, tmp_path / "later", method=method)
    if method == "lines":
        slope, intercept = np.polyfit(steps, values, 1)
        expected = intercept + 700 * slope
    else:
        changes = values - values[0]
        direction = np.linalg.svd(changes, full_matrices=False)[2][0]
        slope, intercept = np.polyfit(steps, changes @ direction, 1)
        expected = values[0] + (intercept + 700 * slope) * direction
    later = load_file(tmp_path / "later" / "model.safetensors")
    np.testing.assert_allclose(later[W].ravel(), expected, rtol=1e-6, atol=1e-6)
    assert json.loads((tmp_path / "later" / "trajectory.json").read_text())["method"] == method
    made = (tmp_path / "later" / "model.safetensors").stat().st_ino
    extrapolate(run, 700, tmp_path / "later", method=method)  # it is left as it is
    assert (tmp_path / "later" / "model.safetensors").stat().st_ino == made


def test_norms_are_extrapolated_or_copied_by_choice(tmp_path: Path) -> None:
    run = write_run(tmp_path, [0, 100, 200])
    for norms, value in ((True, 5.0), (False, 3.0)):
        extrapolate(run, 400, tmp_path / f"{norms}", norms=norms)
        assert load_file(tmp_path / f"{norms}" / "model.safetensors")[NORM] == pytest.approx(value)


def test_r2_is_that_of_the_line_over_the_weights_that_move(tmp_path: Path) -> None:
    run = write_run(tmp_path, [0, 100, 200, 400], noise=1.0)
    steps, values = np.array(sorted(run), float), stacked(run, W)[:, 1:]
    r2 = np.array([np.corrcoef(steps, weight)[0, 1] ** 2 for weight in values.T])
    sst = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    rows = linearity(run)
    assert (rows[W].num_weights, rows[W].num_selected) == (30, 29)
    assert rows[W].mean == pytest.approx(r2.mean())
    assert rows[W].pooled == pytest.approx((r2 * sst).sum() / sst.sum())
    assert rows[W].straight == pytest.approx((r2 >= 0.7).mean())
    assert rows[NORM].mean == pytest.approx(1)
    assert rows[""].num_selected == 32
    assert linearity(run, min_range=1e9)[W].mean is None


def test_two_checkpoints_have_no_r2_and_one_no_direction(tmp_path: Path) -> None:
    run = write_run(tmp_path, [0, 100])
    assert linearity(run)[W].mean is None
    with pytest.raises(PolicyError, match="two or more"):
        linearity({0: run[0]})
    with pytest.raises(PolicyError, match="finite"):
        extrapolate(run, float("nan"), tmp_path / "later")
