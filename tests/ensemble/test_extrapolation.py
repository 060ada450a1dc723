"""Forecasts: truth is found again on data that a model made, and what cannot be fitted is refused."""

import numpy as np
import pytest

from alphamix.ensemble.statistics.extrapolation import (
    MODELS,
    ForecastError,
    PowerLaw,
    ZeroInflatedBeta,
    fit_power_law,
    fit_zero_inflated,
    forecast,
)
from alphamix.ensemble.statistics.pass_at_k import pass_at_k


def draw(truth: ZeroInflatedBeta, num_problems: int, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rate_P = rng.beta(truth.a, truth.b, num_problems) * (rng.random(num_problems) >= truth.unsolvable)
    return np.full(num_problems, n), rng.binomial(n, rate_P)


def test_a_power_law_is_found_again():
    truth, ks = PowerLaw(1.7, -0.4), np.array([1, 2, 5, 10, 50, 100])
    found = fit_power_law(ks, np.array([truth.coverage(int(k)) for k in ks]))
    assert (found.a, found.b) == pytest.approx((truth.a, truth.b))


def test_points_at_the_ends_are_left_out_of_a_power_law():
    truth, ks = PowerLaw(1.7, -0.4), np.array([1, 2, 5, 10])
    curve = np.array([truth.coverage(int(k)) for k in ks[:3]] + [1.0])
    assert fit_power_law(ks, curve).b == pytest.approx(truth.b)
    with pytest.raises(ForecastError, match="fewer than two k"):
        fit_power_law(ks, np.array([0.0, 0.5, 1.0, 1.0]))


@pytest.mark.parametrize("truth", [ZeroInflatedBeta(0.3, 0.5, 2.0), ZeroInflatedBeta(0.0, 2.0, 3.0)])
def test_a_zero_inflated_beta_is_found_again(truth):
    n_P, c_P = draw(truth, 100_000, 50)
    (n_U, c_U), count_U = np.unique([n_P, c_P], axis=1, return_counts=True)
    found = fit_zero_inflated(n_U, c_U, count_U)
    assert found.unsolvable == pytest.approx(truth.unsolvable, abs=0.02)
    assert (found.a, found.b) == pytest.approx((truth.a, truth.b), rel=0.05)


def test_the_fit_is_a_maximum_and_counts_stand_for_problems():
    n_P, c_P = draw(ZeroInflatedBeta(0.2, 0.5, 1.0), 200, 10)
    (n_U, c_U), count_U = np.unique([n_P, c_P], axis=1, return_counts=True)
    one_by_one = fit_zero_inflated(n_P, c_P, np.ones(200, np.int64))
    together = fit_zero_inflated(n_U, c_U, count_U)
    elsewhere = fit_zero_inflated(n_U, c_U, count_U, ZeroInflatedBeta(0.9, 5.0, 5.0))
    for found in (together, elsewhere):
        assert found.coverage(100) == pytest.approx(one_by_one.coverage(100), abs=2e-3)


def test_the_zero_inflated_model_forecasts_what_it_made_and_its_interval_holds_it():
    truth = ZeroInflatedBeta(0.3, 0.5, 2.0)
    found = forecast(*draw(truth, 2000, 50), 500, "zero-inflated beta-binomial", draws=100)
    low, high = found.interval
    assert found.model == "zero-inflated beta-binomial"
    assert found.value == pytest.approx(truth.coverage(500), abs=0.03)
    assert low < truth.coverage(500) < high
    assert set(found.parameters) == {"unsolvable", "a", "b"}


def test_where_some_problems_cannot_be_solved_a_power_law_promises_too_much():
    truth = ZeroInflatedBeta(0.3, 0.5, 2.0)
    found = forecast(*draw(truth, 2000, 50), 500, "power law")
    assert found.value > found.interval[0] > truth.coverage(500) + 0.05


def test_without_unsolvable_problems_both_models_forecast_well():
    truth = ZeroInflatedBeta(0.0, 0.3, 1.0)
    counts = draw(truth, 2000, 200)
    for model in MODELS:
        found = forecast(*counts, 2000, model, draws=100)
        assert found.value == pytest.approx(truth.coverage(2000), abs=0.03)


@pytest.mark.parametrize("model", MODELS)
def test_a_forecast_goes_on_where_the_samples_end(model):
    n_P, c_P = draw(ZeroInflatedBeta(0.1, 0.5, 2.0), 300, 20)
    n_P[:50] += 5  # unequal n is the normal case
    values = [forecast(n_P, c_P, k, model, draws=100).value for k in (21, 40, 400)]
    assert float(pass_at_k(n_P, c_P, 20).mean()) - 0.03 < values[0] < values[1] < values[2] <= 1


@pytest.mark.parametrize("model", MODELS)
def test_draws_that_cannot_be_fitted_widen_the_interval(model):
    """One solved problem of ten is missing from a third of the draws, which then forecast 0."""
    n_P, c_P = np.full(10, 10), np.array([3] + [0] * 9)
    low, high = forecast(n_P, c_P, 100, model).interval
    assert low == pytest.approx(0, abs=1e-3)
    assert high > 0.1


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    ("n", "c", "k", "reason"),
    [
        ([10, 10], [0, 0], 100, "no sample was accepted, so no model can be fitted: draw more"),
        ([10, 10], [10, 10], 100, "every sample was accepted"),
        ([10, 12], [3, 2], 10, "pass@10 needs no model"),
        ([1, 10], [1, 2], 100, "single sample"),
    ],
)
def test_what_cannot_be_fitted_is_refused(model, n, c, k, reason):
    with pytest.raises(ForecastError, match=reason):
        forecast(np.array(n), np.array(c), k, model)
