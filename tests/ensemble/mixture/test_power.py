"""Power: standard errors and power are those of simulated tables, scored by the intervals that reports use."""

import numpy as np
import pytest
from scipy.special import expit

from alphamix.ensemble.mixture.gain_location import choose_for_new_problems
from alphamix.ensemble.mixture.power import analyse_power, power_of_guess
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.intervals import Resampling, mean_over_problems
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage
from alphamix.ensemble.statistics.shared_difficulty import fit


def world(num_problems: int, n: int, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    level_P, slope_P = rng.normal(-2, 1.5, num_problems), rng.normal(0, 2, num_problems)
    rate_MP = expit(level_P + np.array([-1, 0, 1])[:, None] * slope_P)
    n_MP = np.full(rate_MP.shape, n)
    problems = tuple(f"p{p:04}" for p in range(num_problems))
    return Outcomes(problems, ("a", "b", "c"), n_MP, rng.binomial(n_MP, rate_MP), {}, {})


def test_power_and_standard_error_are_those_of_simulated_tables() -> None:
    pilot = world(400, 16, seed=0)
    design = analyse_power(pilot, 8, problems=[100], samples=[8]).designs[0]
    choice = choose_for_new_problems(fit(pilot.num_samples_MP, pilot.num_correct_MP), 8)
    gains = []
    seen = 0
    for seed in range(1, 201):
        table = world(100, 8, seed)
        counts = table.num_samples_MP, table.num_correct_MP
        estimate = mean_over_problems(
            coverage(*counts, choice.allocation_M) - coverage(*counts, choice.single_M), Resampling()
        )
        gains.append(estimate.value)
        seen += estimate.sign > 0
    assert np.std(gains) == pytest.approx(design.stderr, rel=0.2)
    assert seen / 200 == pytest.approx(design.power, abs=0.12)


def test_errors_fall_with_problems_and_samples() -> None:
    designs = {(d.problems, d.samples): d for d in analyse_power(world(60, 8, 0), 8, [50, 200], [8, 16]).designs}
    assert designs[200, 8].stderr == pytest.approx(designs[50, 8].stderr / 2)
    assert designs[50, 16].stderr < designs[50, 8].stderr
    assert designs[50, 8].smallest_gain == pytest.approx((1.959964 + 0.841621) * designs[50, 8].stderr, rel=1e-5)


def test_the_problems_needed_give_the_power_asked_for() -> None:
    table = world(60, 8, 0)
    needed = analyse_power(table, 8, [10], [8], gain=0.05).problems_needed[8]
    assert needed is not None
    assert analyse_power(table, 8, [needed], [8], gain=0.05).designs[0].power == pytest.approx(0.8, abs=0.01)


def test_what_cannot_be_said_is_refused_with_its_cure() -> None:
    table = world(20, 8, 0)
    with pytest.raises(UndefinedError, match="give 8 samples or more, or lower the budget"):
        analyse_power(table, 8, [20], [4])
    with pytest.raises(OutcomesError, match="add the outcomes of another"):
        analyse_power(table.select(policies=[0]), 8, [20], [8])


def test_a_guess_gives_the_power_of_discordant_pairs() -> None:
    """Differences of -1, 0 and 1, drawn with these shares, by the intervals that reports use."""
    design = power_of_guess(0.1, 50, [160], gain=0.04).designs[0]
    rng = np.random.default_rng(0)
    estimates = [
        mean_over_problems(rng.choice([1.0, -1.0, 0.0], 160, p=[0.07, 0.03, 0.9]), Resampling()) for _ in range(300)
    ]
    assert np.std([estimate.value for estimate in estimates]) == pytest.approx(design.stderr, rel=0.12)
    assert np.mean([estimate.sign > 0 for estimate in estimates]) == pytest.approx(design.power, abs=0.08)
    with pytest.raises(OutcomesError, match="raise the share, or lower the gain"):
        power_of_guess(0.02, 50, [160], gain=0.04)
