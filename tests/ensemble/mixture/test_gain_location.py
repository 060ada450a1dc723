"""Where the gain lives: worlds with and without contrast are told apart, and the bump is put in its place."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

from alphamix.ensemble.mixture.gain_location import FEW_BUDGETS, GainLocation, locate_gain
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.intervals import Resampling

SHARED = Path(__file__).parents[3].parent / "shared/data"
ROOT = Path(__file__).parents[3]


def outcomes_of(rate_MP: np.ndarray, n: int, seed: int = 0) -> Outcomes:
    n_MP = np.full(rate_MP.shape, n)
    return Outcomes(
        problems=tuple(f"p{p:03}" for p in range(rate_MP.shape[1])),
        policies=tuple(f"m{m}" for m in range(len(rate_MP))),
        num_samples_MP=n_MP,
        num_correct_MP=np.random.default_rng(seed).binomial(n_MP, rate_MP),
        num_failures_MP={},
        costs_MP={},
    )


def line(difficulty: float, slope: float, num_problems: int = 120) -> np.ndarray:
    """Rates of five policies along α, where problems have slopes of both signs."""
    rng = np.random.default_rng(1)
    level_P, slope_P = rng.normal(difficulty, 1, num_problems), rng.normal(0, slope, num_problems)
    return expit(level_P + np.linspace(-1, 1, 5)[:, None] * slope_P)


def located(rate_MP: np.ndarray, samples: int) -> GainLocation:
    return locate_gain(outcomes_of(rate_MP, 32), samples, Resampling(), FEW_BUDGETS)


def test_policies_alike_have_no_contrast() -> None:
    location = located(np.tile(np.random.default_rng(0).beta(0.3, 0.6, 120), (5, 1)), 16)
    assert location.place == "no contrast"
    assert location.peak.gain < 0.02
    assert min(location.sharing.values()) > 0.9


def test_the_bump_lies_further_right_for_harder_problems() -> None:
    easy, hard = located(line(-1, 3), 16), located(line(-5, 3), 16)
    assert easy.peak.samples < hard.peak.samples
    assert easy.place == "past the bump"
    assert hard.place == "before the bump"
    assert located(line(-1, 3), easy.peak.samples).place == "on the bump"


def test_the_contrast_orders_policies_along_their_line() -> None:
    contrast = list(located(line(-2, 3), 4).contrast.values())
    assert contrast in (sorted(contrast), sorted(contrast, reverse=True))
    assert contrast[0] * contrast[-1] < 0


def test_what_the_model_expects_is_what_fresh_samples_of_fresh_problems_gain() -> None:
    rate_MP = line(-3, 3, 2000)
    location = locate_gain(outcomes_of(rate_MP[:, :200], 16), 16, Resampling(), FEW_BUDGETS)
    for point in location.points:
        k_M = np.array([point.allocation.get(name, 0) for name in ("m0", "m1", "m2", "m3", "m4")])
        miss_P = np.prod((1 - rate_MP[:, 200:]) ** k_M[:, None], axis=0)
        alone_P = (1 - rate_MP[int(point.best_single[1]), 200:]) ** point.samples
        low, high = point.interval
        assert low - 0.02 <= float((alone_P - miss_P).mean()) <= high + 0.02


def test_held_out_gains_are_told_as_far_as_there_are_samples() -> None:
    location = located(line(-2, 3), 16)
    known = [point.samples for point in location.points if point.held_out is not None]
    assert known == [k for k in sorted({*FEW_BUDGETS, 16}) if k <= 32]
    first = location.points[0]
    assert first.held_out is not None
    assert first.gain == 0  # one sample cannot be shared between policies


def test_the_order_of_rows_and_policies_changes_nothing() -> None:
    outcomes = outcomes_of(line(-2, 3, 30), 8)
    turned = outcomes.select(policies=[3, 0, 4, 1, 2], problems=np.random.default_rng(0).permutation(30))
    first, second = (locate_gain(one, 8, Resampling(), (4,)) for one in (outcomes, turned))
    assert [point.gain for point in first.points] == [point.gain for point in second.points]
    assert first.points[0].held_out == second.points[0].held_out
    assert first.contrast == second.contrast


def test_groups_widen_the_interval() -> None:
    outcomes = outcomes_of(np.repeat(line(-2, 3, 12), 10, axis=1), 8)
    grouped = Outcomes(**{**vars(outcomes), "groups": tuple(f"g{p // 10}" for p in range(120))})
    alone, together = (locate_gain(one, 8, Resampling(), (4,)) for one in (outcomes, grouped))
    width = [point.interval[1] - point.interval[0] for point in (alone.points[0], together.points[0])]
    assert width[1] > 1.2 * width[0]


def test_what_cannot_be_said_is_refused_with_its_cure() -> None:
    with pytest.raises(OutcomesError, match="add the outcomes of another"):
        locate_gain(outcomes_of(np.full((1, 4), 0.5), 4), 4, Resampling())
    with pytest.raises(OutcomesError, match="draw 2 or more samples"):
        locate_gain(outcomes_of(np.full((2, 4), 0.5), 1), 4, Resampling())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "samples", "place", "peak"),
    [
        ("ladder_outcomes.csv", 16, "no contrast", None),
        ("ladder_independent_outcomes.csv", 64, "past the bump", (2, 16)),
        ("ladder_long_outcomes.csv", 32, "before the bump", (256, 1024)),
    ],
)
def test_the_worlds_of_the_ladder_are_told_apart(name: str, samples: int, place: str, peak: tuple[int, int]) -> None:
    if not (SHARED / name).exists():
        pytest.skip("no shared data")
    location = locate_gain(read_outcomes(SHARED / name), samples, Resampling(), FEW_BUDGETS)
    assert location.place == place
    if peak:
        assert peak[0] <= location.peak.samples <= peak[1]


def test_the_quickstart_has_no_contrast() -> None:
    outcomes = read_outcomes(ROOT / "results/quickstart/outcomes.csv")
    assert locate_gain(outcomes, 16, Resampling(), FEW_BUDGETS).place == "no contrast"
