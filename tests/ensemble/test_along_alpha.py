"""Curves along α against scikit-learn's own regressor and known truths; proposals where the truth is known."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, gammaln
from sklearn.gaussian_process import GaussianProcessRegressor

from alphamix.ensemble.next_alpha.expected_improvement import ProposalOptions, candidates, propose
from alphamix.ensemble.next_alpha.gaussian_process import AlphaCurves
from alphamix.ensemble.next_alpha.lines import AlphaError, alphas_of
from alphamix.ensemble.outcomes.files import read_outcomes

LADDER = Path(__file__).parents[2].parent / "shared/data/ladder_outcomes.csv"
ALPHAS = np.array([-0.5, 0.0, 0.5, 1.0, 1.5])
FAMILIES = {
    "flat": lambda at, level_P, slope_P: level_P + 0 * at,
    "lines": lambda at, level_P, slope_P: level_P + at * slope_P,
    "parallel": lambda at, level_P, slope_P: level_P + 1.5 * np.sin(2 * at),
    "bumps": lambda at, level_P, slope_P: level_P - 1 + 3 * np.exp(-(((at - slope_P) / 0.7) ** 2)),
}
"""Logits `[A, P]` at α `[A, 1]`."""


def logits(family, alpha_A, num_problems, seed):
    rng = np.random.default_rng(seed)
    level_P, slope_P = rng.normal(-1, 1.5, num_problems), rng.normal(0.5, 0.8, num_problems)
    return FAMILIES[family](np.asarray(alpha_A)[:, None], level_P, slope_P)


def sampled(logit_MP, n, seed):
    return np.full(logit_MP.shape, n), np.random.default_rng(seed).binomial(n, expit(logit_MP))


def fitted(family, num_problems=80, n=12, seed=0, alpha_M=ALPHAS):
    return AlphaCurves.fit(alpha_M, *sampled(logits(family, alpha_M, num_problems, seed), n, seed))


def test_every_problem_is_regressed_as_scikit_learn_does():
    curves, at_A = fitted("bumps", 6), np.array([-0.7, 0.2, 0.5, 1.8])
    scaled = lambda alpha: (np.asarray(alpha) - 0.5)[:, None]  # noqa: E731  (the range is -0.5 to 1.5)
    mean_PA, covariance_PAA = curves._deviations(at_A)
    for p in range(6):
        regressor = GaussianProcessRegressor(curves.kernel, alpha=curves.noise_PM[p], optimizer=None)
        regressor.fit(scaled(ALPHAS), curves.response_PM[p])
        mean_A, covariance_AA = regressor.predict(scaled(at_A), return_cov=True)
        np.testing.assert_allclose(mean_PA[p], mean_A, atol=1e-8)
        np.testing.assert_allclose(covariance_PAA[p], covariance_AA, atol=1e-8)


def test_the_mode_is_that_of_the_binomial_likelihood():
    """Where the log posterior is largest its gradient is 0: c - n p = K⁻¹ (f - m)."""
    curves = fitted("lines", 40)
    n_MP, c_MP = sampled(logits("lines", ALPHAS, 40, 0), 12, 0)
    kernel_MM = curves.kernel((ALPHAS - 0.5)[:, None])
    weight_PM = np.linalg.solve(kernel_MM + curves.noise_PM[:, :, None] * np.eye(5), curves.response_PM[:, :, None])[
        :, :, 0
    ]
    logit_PM = curves.shared_M + weight_PM @ kernel_MM
    np.testing.assert_allclose(weight_PM, c_MP.T - n_MP.T * expit(logit_PM), atol=1e-4)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_intervals_of_held_out_alphas_hold_the_truth(family):
    """Between and a little beyond the measured ones; nominal 95 %."""
    held_A, inside = np.array([-0.7, -0.25, 0.75, 1.7]), []
    for seed in range(8):
        mean_AP, variance_AP = fitted(family, seed=seed).logits(held_A)
        off_AP = np.abs(logits(family, held_A, 80, seed) - mean_AP) / np.sqrt(variance_AP)
        inside.append((off_AP < 1.96).mean(axis=1))
    inside_A = np.mean(inside, axis=0)
    assert np.all(inside_A > 0.85), inside_A
    assert inside_A.mean() < 0.99


def test_uncertainty_grows_beyond_the_measured_range():
    variance_AP = fitted("bumps").logits(np.array([1.0, 1.6, 1.8, 2.0, 2.5]))[1]
    assert np.all(np.diff(variance_AP.mean(axis=1)) > 0)


def test_draws_are_joint_and_have_the_models_moments():
    curves, at_A = fitted("parallel", 60), np.array([0.0, 0.02, 2.0])
    drawn = curves.draws(at_A, 3000, seed=1)
    logit_SAP = np.log(drawn / (1 - drawn))
    mean_AP, variance_AP = curves.logits(at_A)
    np.testing.assert_allclose(logit_SAP.mean(axis=0), mean_AP, atol=0.15)
    np.testing.assert_allclose(logit_SAP.var(axis=0), variance_AP, rtol=0.2)
    neighbours = np.corrcoef(logit_SAP[:, 0, 0], logit_SAP[:, 1, 0])[0, 1]
    assert neighbours > 0.95
    # Beyond the range all problems go up or down together, for the shared curve is what is unknown.
    together = np.corrcoef(logit_SAP[:, 2, 0], logit_SAP[:, 2, 1])[0, 1]
    assert together > 0.5


def test_cells_without_samples_and_without_successes_are_no_trouble():
    n_MP, c_MP = sampled(logits("lines", ALPHAS, 30, 0), 8, 0)
    n_MP[2, :10], c_MP[2, :10], c_MP[:, 20] = 0, 0, 0
    mean_AP, variance_AP = AlphaCurves.fit(ALPHAS, n_MP, c_MP).logits(ALPHAS)
    assert np.isfinite(mean_AP).all()
    assert variance_AP[2, :10].mean() > variance_AP[2, 10:20].mean()
    never = AlphaCurves.fit(ALPHAS, n_MP, np.zeros_like(n_MP))
    assert never.draws(ALPHAS, 50).mean() < 0.1


def test_the_gap_that_hides_the_peak_is_proposed():
    alpha_M, best = np.array([-0.5, 0.0, 0.5, 1.0, 2.0, 2.5]), []
    for seed in range(3):
        level_P = np.random.default_rng(seed).normal(-3, 1.2, 100)
        peak_MP = level_P + 4 * np.exp(-(((alpha_M[:, None] - 1.5) / 0.7) ** 2))
        proposal = propose(AlphaCurves.fit(alpha_M, *sampled(peak_MP, 20, seed)), ProposalOptions(8))
        assert proposal.verdict == "make"
        best.append(proposal.candidates[0].alpha)
        assert proposal.candidates[0].chance > 0.5
    assert all(1 < alpha < 2 for alpha in best), best


def test_a_candidate_that_repeats_its_neighbours_gains_nothing():
    """Independent beliefs would gain by spreading over policies that share one curve."""
    alpha_M = np.linspace(-0.5, 1.5, 9)
    level_P = np.random.default_rng(0).normal(-3, 1.5, 150)
    peak_MP = level_P + 2 * np.exp(-(((alpha_M[:, None] - 0.6) / 0.8) ** 2))
    proposal = propose(AlphaCurves.fit(alpha_M, *sampled(peak_MP, 16, 0)), ProposalOptions(30, low=0.1, high=1.1))
    assert all(abs(one.gain) < 0.002 and one.improvement < 0.002 for one in proposal.candidates)


def test_what_is_expected_of_a_candidate_is_what_it_gives():
    """Mixtures with and without the first candidate, scored on the true rates."""
    errors = []
    for seed in range(6):
        curves = fitted("bumps", 100, 16, seed, np.array([-0.5, 0.0, 0.5, 2.0]))
        proposal = propose(curves, ProposalOptions(6, low=0.6, high=1.9))
        best = proposal.candidates[0]
        rate_AP = expit(logits("bumps", [*curves.alpha_M, best.alpha], 100, seed))
        covered = [
            (1 - np.prod((1 - rate_AP) ** np.append(k_M, k)[:, None], axis=0)).mean()
            for k_M, k in ((best.allocation_M, best.share), (proposal.allocation_M, 0))
        ]
        gain = covered[0] - covered[1]
        assert best.interval[0] - 0.01 < gain < best.interval[1] + 0.01
        errors.append(best.gain - gain)
    assert abs(np.mean(errors)) < 0.015


@pytest.mark.parametrize("seed", range(3))
def test_where_policies_are_flat_more_would_not_pay(seed):
    proposal = propose(fitted("flat", 100, 12, seed), ProposalOptions(10))
    assert proposal.verdict in ("below", "flat")


def test_flat_curves_are_called_flat_and_others_are_not():
    """Nominal 5 % of flat ones are not, none of the others."""
    assert sum(not fitted("flat", 60, 8, seed).is_flat for seed in range(24)) <= 4
    assert not any(fitted(family, 60, 8, seed).is_flat for family in list(FAMILIES)[1:] for seed in range(5))


def test_a_gain_on_very_few_problems_is_within_noise():
    few, many = (propose(fitted("lines", size, 30), ProposalOptions(4, min_gain=0.0)) for size in (8, 200))
    assert many.verdict == "make"
    assert few.candidates[0].stderr > 2 * many.candidates[0].stderr
    assert few.verdict == "noise"


def test_one_problem_is_refused():
    with pytest.raises(AlphaError, match="two problems"):
        propose(fitted("lines", 1), ProposalOptions(4))


def test_candidates_are_round_new_and_no_further_than_is_known():
    curves = fitted("bumps")
    grid_A = candidates(curves, ProposalOptions(4))
    assert grid_A.min() >= -1.0
    assert grid_A.max() <= 2.0
    assert np.abs(grid_A[:, None] - ALPHAS).min() > 0.03
    np.testing.assert_allclose(grid_A * 20, np.round(grid_A * 20), atol=1e-6)
    far_A = candidates(curves, ProposalOptions(4, low=-9.0, high=9.0))
    sd_A = np.sqrt(np.diag(curves.shared(far_A)[1]))
    assert sd_A.max() <= 1.0
    assert len(far_A) < 60
    assert far_A.min() >= -1.5
    with pytest.raises(AlphaError, match="half as far beyond"):
        candidates(curves, ProposalOptions(4, low=30.0, high=40.0))
    with pytest.raises(AlphaError, match="ascending"):
        candidates(curves, ProposalOptions(4, low=1.0, high=1.0))


def test_the_same_question_gets_the_same_answer():
    first, second = (propose(fitted("lines", 30), ProposalOptions(5)).candidates for _ in range(2))
    assert [one.improvement for one in first] == [one.improvement for one in second]


@pytest.mark.parametrize("alpha_M", [[0.0, 1.0], [0.0, 1.0, 1.0]])
def test_fewer_than_three_alphas_are_refused(alpha_M):
    n_MP = np.ones((len(alpha_M), 4), int)
    with pytest.raises(AlphaError, match="3 or more different"):
        AlphaCurves.fit(alpha_M, n_MP, n_MP)


def test_alphas_come_from_names_files_and_words():
    names = ("low", "mix@-0.50", "mix@+1.00", "mix@\u22121.50", "other")
    assert alphas_of(names, {}, {"low": 0.0}, None) == {
        "low": 0.0,
        "mix@-0.50": -0.5,
        "mix@+1.00": 1.0,
        "mix@\u22121.50": -1.5,
    }
    assert alphas_of(names, {"other": 2.0}, {"low": 0.0, "mix@+1.00": 1.25}, "mix") == {
        "mix@-0.50": -0.5,
        "mix@+1.00": 1.25,
        "mix@\u22121.50": -1.5,
        "other": 2.0,
    }


def test_each_setting_has_a_line_of_its_own():
    names = [f"mix@{alpha}@{setting}" for alpha in ("-0.50", "+0.00", "+1.00") for setting in ("reasoning", "tool")]
    with pytest.raises(AlphaError, match="several sweeps, mix@reasoning, mix@tool: choose one"):
        alphas_of(names, {}, {}, None)
    assert alphas_of(names, {}, {}, "mix@tool") == {"mix@-0.50@tool": -0.5, "mix@+0.00@tool": 0, "mix@+1.00@tool": 1}


@pytest.mark.parametrize(
    ("names", "given", "sweep", "message"),
    [
        (("a@+0.00", "a@+1.00"), {}, None, "a curve needs 3 policies with a known α"),
        (("a@+0.00", "b@+1.00", "b@+2.00"), {}, None, "several sweeps, a, b"),
        (("a@+0.00", "a@+1.00", "a@+2.00"), {}, "b", "unknown sweep 'b': choose one of a"),
        (("a@+0.00", "a@+1.00", "x"), {"x": 1.0}, None, "both have α = 1"),
        (("a@+0.00", "a@+1.00", "x"), {"y": 1.0}, None, "unknown policy 'y'"),
    ],
)
def test_policies_that_are_no_line_are_refused(names, given, sweep, message):
    with pytest.raises(AlphaError, match=message):
        alphas_of(names, given, {}, sweep)


@pytest.mark.skipif(not LADDER.exists(), reason="the table is not part of the project")
def test_on_the_ladder_a_left_out_alpha_is_predicted_better_than_by_interpolation():
    """Log likelihood of the held-out counts; the line between neighbours gets the best width in hindsight."""
    outcomes = read_outcomes(LADDER)
    alpha_M = np.array([float(name.split("@")[1]) for name in outcomes.policies])
    order = np.argsort(alpha_M)
    alpha_M, n_MP, c_MP = alpha_M[order], outcomes.num_samples_MP[order], outcomes.num_correct_MP[order]
    gains, inside = [], []
    for m in range(1, len(alpha_M) - 1):
        rest = np.arange(len(alpha_M)) != m
        curves = AlphaCurves.fit(alpha_M[rest], n_MP[rest], c_MP[rest])
        mean_AP, variance_AP = curves.logits(alpha_M[[m]])
        empirical_MP = np.log((c_MP + 0.5) / (n_MP - c_MP + 0.5))[rest]
        line_P = np.array([np.interp(alpha_M[m], alpha_M[rest], values) for values in empirical_MP.T])
        line = max(likelihood(n_MP[m], c_MP[m], line_P, np.full(len(line_P), sd**2)) for sd in (0.2, 0.5, 1.0))
        gains.append(likelihood(n_MP[m], c_MP[m], mean_AP[0], variance_AP[0]) - line)
        drawn = np.random.default_rng(m).normal(size=(500, 1)) * np.sqrt(variance_AP[0]) + mean_AP[0]
        low_P, high_P = np.quantile(np.random.default_rng(m).binomial(n_MP[m], expit(drawn)), [0.025, 0.975], axis=0)
        inside.append(((low_P <= c_MP[m]) & (c_MP[m] <= high_P)).mean())
    assert np.mean(gains) > 0.05
    assert 0.93 < np.mean(inside) < 0.995


def likelihood(n_P, c_P, mean_P, variance_P):
    node_K, weight_K = np.polynomial.hermite_e.hermegauss(31)
    logit_PK = mean_P[:, None] + np.sqrt(variance_P)[:, None] * node_K
    term_PK = c_P[:, None] * -np.logaddexp(0, -logit_PK) + (n_P - c_P)[:, None] * -np.logaddexp(0, logit_PK)
    choose_P = gammaln(n_P + 1) - gammaln(c_P + 1) - gammaln(n_P - c_P + 1)
    return np.mean(choose_P + np.log(np.exp(term_PK) @ (weight_K / weight_K.sum()) + 1e-300))
