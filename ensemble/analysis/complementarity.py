"""Complementarity: what a second policy solves that more samples of the first would not.

Pairs are compared at k samples each, without bias: miss_i(k) · miss_j(k) is unbiased for i ≠ j, since policies are
sampled independently. Intervals are for new problems. What a policy adds to a whole ensemble is in `mixture.shapley`.
Axes: `M` policies, `P` problems, `R` bootstrap draws, `O` ordered pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.beta_prior import fit_prior
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, draw_weights, from_draws, means_over_problems
from alphamix.ensemble.statistics.pass_at_k import miss


@dataclass(frozen=True, slots=True)
class Pair:
    """Two policies at k samples each. The fields up to `gain` depend on which policy is first; the others do not."""

    first: str
    second: str
    second_saves: Estimate
    """miss_i(k) · (1 - miss_j(k)), the share of problems that k samples of j solve after k of i have failed."""
    first_saves: Estimate
    """miss_i(k) - miss_i(2k), the share of problems that k more samples of i would have solved."""
    gain: Estimate
    """`second_saves` - `first_saves`: 0 for identical policies, above 0 where the two complement each other."""
    co_failure: Estimate
    """miss_i(k) · miss_j(k), the share of problems that both leave unsolved."""
    disagreement: Estimate
    """Chance that of one sample of each, exactly one is accepted."""
    independent: Estimate | None
    """`co_failure` if the two failed on unrelated problems; None for a single problem."""
    dependence: Estimate | None
    """`co_failure` - `independent`, the covariance of the two misses over problems; below 0 where failures avoid each
    other."""


@dataclass(frozen=True, slots=True)
class UniqueSolve:
    """A problem that some policies solved and others did not. Unsolved in n samples does not mean unsolvable."""

    problem: str
    solvers: tuple[str, ...]
    num_correct: int
    """Number of accepted samples of the solvers."""
    num_samples: int
    """Number of graded samples of the solvers."""
    others_samples: int
    """Number of graded samples of the others, none of them accepted."""
    luck: float
    """Chance that as many new samples of the others would solve it, if policies were independent. They rarely are: the
    success of the solvers makes it even more likely that the others can solve it."""


def pairs(outcomes: Outcomes, k: int, resampling: Resampling) -> list[Pair]:
    """Compare every ordered pair of policies at k samples each, with all intervals from the same draws of problems.

    Raises:
        UndefinedError: some cell has fewer than 2k samples.
    """
    n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
    first_O, second_O = np.nonzero(~np.eye(len(outcomes.policies), dtype=np.bool_))
    miss_MP, rate_MP = miss(n_MP, c_MP, k), outcomes.solve_rate_MP
    both_OP = miss_MP[first_O] * miss_MP[second_O]
    second_saves_OP = miss_MP[first_O] - both_OP
    first_saves_OP = (miss_MP - miss(n_MP, c_MP, 2 * k))[first_O]
    disagreement_OP = rate_MP[first_O] + rate_MP[second_O] - 2 * rate_MP[first_O] * rate_MP[second_O]
    gain_OP = second_saves_OP - first_saves_OP
    means_and_lowest = ((second_saves_OP, 0), (first_saves_OP, 0), (gain_OP, -1), (both_OP, 0), (disagreement_OP, 0))
    columns = zip(
        *(means_over_problems(values_OP, resampling, lowest) for values_OP, lowest in means_and_lowest),
        *_dependence(miss_MP, first_O, second_O, resampling),
        strict=True,
    )
    names = outcomes.policies
    return [Pair(names[i], names[j], *estimates) for i, j, estimates in zip(first_O, second_O, columns, strict=True)]


def _dependence(
    miss_MP: Floats, first_O: Ints, second_O: Ints, resampling: Resampling
) -> tuple[list[Estimate | None], list[Estimate | None]]:
    """Estimate `independent` and `dependence` of each ordered pair; None for a single problem, which shows neither."""
    num_problems = miss_MP.shape[1]
    if num_problems == 1:
        return [None] * len(first_O), [None] * len(first_O)

    mean_M, both_OP = miss_MP.mean(axis=1), miss_MP[first_O] * miss_MP[second_O]

    def statistics(mean_RM: Floats, both_RO: Floats) -> Floats:
        """Return both numbers of each pair, `[2O, R]`."""
        # The mean over pairs of *different* problems: a plain product of means pairs each problem with itself as well,
        # and so is biased towards co-failure.
        product_RO = mean_RM[:, first_O] * mean_RM[:, second_O]
        independent_RO = (num_problems * product_RO - both_RO) / (num_problems - 1)
        return np.concatenate([independent_RO.T, (both_RO - independent_RO).T])

    weights_RP = draw_weights(num_problems, resampling)
    value_2O = statistics(mean_M[None], both_OP.mean(axis=1)[None])[:, 0]
    draws_2OR = statistics(weights_RP @ miss_MP.T, weights_RP @ both_OP.T)
    deviation_MP = miss_MP - mean_M[:, None]
    apart_OP = deviation_MP[first_O] * mean_M[second_O, None] + mean_M[first_O, None] * deviation_MP[second_O]
    together_OP = deviation_MP[first_O] * deviation_MP[second_O]
    influence_2OP = np.concatenate([apart_OP, together_OP - together_OP.mean(axis=1, keepdims=True)])
    estimates: list[Estimate | None] = [*from_draws(value_2O, draws_2OR, influence_2OP, resampling)]
    return estimates[: len(first_O)], estimates[len(first_O) :]


def cross_fitted_wins(n_2P: Ints, c_2P: Ints, seed: int, divisions: int = 1) -> tuple[Floats, Floats]:
    """Estimate how much more often each of two policies solves each problem, where it seems to be ahead.

    The larger of two noisy rates is partly larger by luck. So one random half of the samples decides which policy is
    ahead, and the other half by how much: d_B · 1{d_A > 0}. The expectation, (p - p') · P(d_A > 0), has a mean over
    problems above 0 only if the policy is truly ahead on some of them.

    The mean over many divisions shows a lead far more often than one division. But where two policies are alike, a half
    in which one is ahead leaves a half in which it is behind, so such means are skewed towards losses, and only one
    division tells a loss from chance.

    Every cell needs n ≥ 2. Return the lead of the first policy where it is ahead, and that of the second, `[P]` each.
    """
    half_2P = n_2P // 2
    c_D2P = np.random.default_rng(seed).hypergeometric(c_2P, n_2P - c_2P, half_2P, (divisions, *c_2P.shape))
    rate_2DP = np.moveaxis(c_D2P / half_2P, 1, 0)
    other_2DP = np.moveaxis((c_2P - c_D2P) / (n_2P - half_2P), 1, 0)
    chosen_DP, scored_DP = rate_2DP[0] - rate_2DP[1], other_2DP[0] - other_2DP[1]
    return (scored_DP * (chosen_DP > 0)).mean(axis=0), (-scored_DP * (chosen_DP < 0)).mean(axis=0)


def solved_by_one(outcomes: Outcomes) -> dict[str, list[UniqueSolve]]:
    """Return the problems that exactly one policy solved, by policy."""
    log_miss_MP = _log_miss_again(outcomes)
    alone_MM = np.eye(len(outcomes.policies), dtype=np.bool_)
    return {
        policy: _solved_only_by(outcomes, alone_M, ~alone_M, log_miss_MP)
        for policy, alone_M in zip(outcomes.policies, alone_MM, strict=True)
    }


def solved_by_extrapolation(outcomes: Outcomes, alphas: Mapping[str, float | None]) -> list[UniqueSolve]:
    """Return the problems solved by policies with α < 0 or α > 1 but by none with 0 ≤ α ≤ 1. Others are ignored."""
    alpha_M = np.array([alphas.get(name) for name in outcomes.policies], np.float64)  # None becomes nan
    between_M = (alpha_M >= 0) & (alpha_M <= 1)
    return _solved_only_by(outcomes, (alpha_M < 0) | (alpha_M > 1), between_M, _log_miss_again(outcomes))


def _solved_only_by(outcomes: Outcomes, group_M: Bools, others_M: Bools, log_miss_MP: Floats) -> list[UniqueSolve]:
    """Return the problems that a policy of the group solved and none of the others did."""
    n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
    solvers_MP = group_M[:, None] & (c_MP > 0)
    unique_P = solvers_MP.any(axis=0) & np.all(c_MP[others_M] == 0, axis=0) & others_M.any()
    return [
        UniqueSolve(
            problem=outcomes.problems[p],
            solvers=tuple(outcomes.policies[m] for m in np.flatnonzero(solvers_MP[:, p])),
            num_correct=int(c_MP[solvers_MP[:, p], p].sum()),
            num_samples=int(n_MP[solvers_MP[:, p], p].sum()),
            others_samples=int(n_MP[others_M, p].sum()),
            luck=float(-np.expm1(log_miss_MP[others_M, p].sum())),
        )
        for p in np.flatnonzero(unique_P)
    ]


def _log_miss_again(outcomes: Outcomes) -> Floats:
    """Return the log of the chance that as many new samples all fail, `[M, P]`.

    It is log B(a + c, b + 2n - c) - log B(a + c, b + n - c), with the prior (a, b) that `fit_prior` fits to the counts.
    """
    rows: list[Floats] = []
    counts = outcomes.num_samples_MP.astype(np.float64), outcomes.num_correct_MP.astype(np.float64)
    for n_P, c_P in zip(*counts, strict=True):
        a, b = fit_prior(n_P, c_P, np.ones(len(n_P), np.int64))
        rows.append(betaln(a + c_P, b + 2 * n_P - c_P) - betaln(a + c_P, b + n_P - c_P))
    return np.stack(rows)
