"""Means over problems, with their uncertainty of two kinds. These answer different questions and are never mixed.

*New problems*: what would the mean be on other problems of the same kind? The interval treats problems, or groups of
problems that belong together, as drawn at random, each with all its samples. So it covers both which problems were
picked and which completions were drawn. Bounded values get a score interval (`score_interval`), everything else a
bootstrap over problems. Samples inside a problem are never resampled, since that would centre on the biased plug-in
estimate.

*Fixed benchmark*: what would the mean be on these very problems, with other samples? The interval is normal, from the
unbiased sampling variance. It is narrower, and says nothing about other problems.

Axes: `B` draws of the bootstrap, `M` policies, `P` problems, `R` rows, each with its own interval.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.statistics.pass_at_k import coverage, sampling_variance
from alphamix.ensemble.statistics.score_interval import ScoreTest

Kind = Literal["new problems", "fixed benchmark"]
Method = Literal["score", "percentile", "bca"]

_DECIMALS = 12
"""Decimals that are kept: smaller differences are floating-point noise, and must not decide a sign."""
_LEAST_BOUND = 0.25
"""Difference on one problem that is possible even if none so large was seen."""
_CELLS = 2**22
"""Number of picks of problems held in memory at a time."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems, with its standard error and interval.

    `stderr` and `interval` are None where they are unknown: with a single problem, with equal values that have no
    bound, or where the estimated sampling variance of a fixed benchmark is not above 0.

    Example:
        >>> estimate = alphamix.Estimate(0.02, 0.01, (0.001, 0.04))
        >>> estimate.sign  # the whole interval lies above 0
        1
    """

    value: float
    stderr: float | None
    interval: tuple[float, float] | None
    kind: Kind = "new problems"

    @property
    def sign(self) -> int:
        """1 if the whole interval lies above 0, -1 if it lies below, else 0, since chance could explain the value."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return (low > 0) - (high < 0)


NO_DIFFERENCE = Estimate(0.0, 0.0, (0.0, 0.0))
"""Difference of two arms that are the same samples."""


@dataclass(frozen=True, slots=True)
class Resampling:
    """Settings of the bootstrap over problems, which makes intervals for new problems."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    method: Method = "score"
    """`score` holds for few problems and rare events (`score_interval`), where the two bootstraps do not; of these,
    `bca` is bias-corrected and accelerated (Efron 1987). Values without bounds have no score interval and get `bca`."""
    groups: tuple[int, ...] | None = None
    """Index of the group of each problem, where some belong together; groups are then drawn instead of problems."""

    def with_groups(self, names: Sequence[str] | None) -> Self:
        """Return the same settings for problems in these groups, which `Outcomes.groups` names."""
        if names is None:
            return self
        return replace(self, groups=tuple(np.unique(names, return_inverse=True)[1].tolist()))

    def num_units(self, num_problems: int) -> int:
        """Return the number of problems or groups that are drawn."""
        return num_problems if self.groups is None else len(set(self.groups))


def mean_over_problems(values_P: Floats, resampling: Resampling, lowest: float = -1.0) -> Estimate:
    """Estimate one mean, with arguments and errors as in `means_over_problems`."""
    return means_over_problems(values_P[None], resampling, lowest)[0]


def means_over_problems(values_RP: Floats, resampling: Resampling, lowest: float = -1.0) -> list[Estimate]:
    """Estimate the mean of each row for new problems of the same kind.

    For the difference of two arms, give the differences per problem, which makes the interval a paired one.

    Args:
        values_RP: `[R, P]` one value per problem in each row.
        resampling: how intervals are made.
        lowest: values lie in [lowest, 1]: 0 for shares, -1 for differences of shares, -inf for everything else.

    Raises:
        ValueError: there are no problems.
    """
    num_problems = values_RP.shape[1]
    if num_problems == 0:
        raise ValueError("a mean over no problems is undefined: grade at least one problem")
    values_RP = _without_noise(values_RP)
    mean_R = _without_noise(values_RP.mean(axis=1))
    if resampling.num_units(num_problems) == 1:
        return [Estimate(value, None, None) for value in mean_R.tolist()]
    if resampling.method == "score" and np.isfinite(lowest):
        return [_scored(values_P, resampling, lowest) for values_P in values_RP]
    draws_RB = values_RP @ draw_weights(num_problems, resampling).T
    estimates = from_draws(mean_R, draws_RB, values_RP - mean_R[:, None], resampling)
    for row, estimate in enumerate(estimates):
        if estimate.stderr == 0:
            # Equal values say nothing to a bootstrap, which would give an interval of no width.
            bounds = _scored(values_RP[row], resampling, lowest).interval if np.isfinite(lowest) else None
            estimates[row] = replace(estimate, interval=bounds)
    return estimates


def _scored(values_P: Floats, resampling: Resampling, lowest: float) -> Estimate:
    inflation = grouping_inflation(values_P, resampling)
    freedom = np.inf if resampling.groups is None else resampling.num_units(len(values_P)) - 1.0
    interval = ScoreTest(values_P, *_bounds(values_P, lowest), inflation, 0.0, freedom).interval(resampling.level)
    stderr = float(_without_noise(values_P.std(ddof=1) * np.sqrt(inflation / len(values_P))))
    return Estimate(float(_without_noise(values_P.mean())), stderr, _clean(interval))


def grouping_inflation(values_P: Floats, resampling: Resampling) -> float:
    """Return the factor by which groups raise the variance of the mean, 1 where problems are independent.

    It is the cluster-robust variance over the plain one (Miller 2024, arXiv 2411.00640, eq. 4). Equal values say
    nothing about groups, so each group then counts as one problem.
    """
    if resampling.groups is None:
        return 1.0
    group_P = np.array(resampling.groups)
    size_G = np.bincount(group_P)
    deviation_P = values_P - values_P.mean()
    squares = float(deviation_P @ deviation_P)
    if squares <= len(values_P) * 10.0 ** (-2 * _DECIMALS):
        return float((size_G**2).sum() / len(values_P))
    sums_G = np.bincount(group_P, deviation_P)
    return max(1.0, float(sums_G @ sums_G) / squares * len(size_G) / (len(size_G) - 1))


def from_draws(value_R: Floats, draws_RB: Floats, influence_RP: Floats, resampling: Resampling) -> list[Estimate]:
    """Estimate statistics that are smooth functions of the weights of problems, such as means.

    Args:
        value_R: `[R]` each statistic on all problems.
        draws_RB: `[R, B]` each statistic with the weights of each draw (`draw_weights`).
        influence_RP: `[R, P]` derivative of each statistic by the weight of each problem, of mean 0; for a mean, the
            value minus the mean. The standard error and the acceleration follow from it.
        resampling: settings that the draws were made with.
    """
    influence_RP = _by_unit(influence_RP, resampling)
    value_R, sorted_RB = _without_noise(value_R), np.sort(_without_noise(draws_RB), axis=1)
    stderr_R = _without_noise(influence_RP.std(axis=1, ddof=1) / np.sqrt(influence_RP.shape[1]))
    tail = (1 - resampling.level) / 2
    tails_R2 = np.tile([tail, 1 - tail], (len(value_R), 1))
    if resampling.method != "percentile":
        tails_R2 = _bca(tails_R2, value_R, sorted_RB, influence_RP)
    bounds_R2 = _quantiles(sorted_RB, tails_R2)
    return [
        Estimate(value, stderr, (low, high))
        for value, stderr, (low, high) in zip(value_R.tolist(), stderr_R.tolist(), bounds_R2.tolist(), strict=True)
    ]


def coverage_on_fixed_benchmark(
    num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike, level: float = 0.95
) -> Estimate:
    """Estimate the mean coverage of an allocation on these very problems, with the uncertainty of the samples alone.

    For pass@k, give one policy and k. The interval is normal, and clipped to [0, 1].

    Raises:
        UndefinedError: some 2·k_j > n_j, so no unbiased estimator of the sampling variance exists.
        ValueError: there are no problems.
    """
    covered_P = coverage(num_samples_MP, num_correct_MP, allocation_M)
    if covered_P.size == 0:
        raise ValueError("a mean over no problems is undefined: grade at least one problem")
    variance_P = sampling_variance(num_samples_MP, num_correct_MP, allocation_M)
    value = float(_without_noise(covered_P.mean()))
    variance = float(variance_P.mean()) / covered_P.size
    if variance <= 10.0 ** (-2 * _DECIMALS):
        return Estimate(value, None, None, "fixed benchmark")
    stderr = float(np.sqrt(variance))
    return Estimate(value, stderr, _around(value, float(ndtri((1 + level) / 2)) * stderr, 0.0), "fixed benchmark")


def _by_unit(influence_RP: Floats, resampling: Resampling) -> Floats:
    """Return the influence of each unit that is drawn, a problem or a group, `[R, P]` or `[R, G]`."""
    if resampling.groups is None:
        return influence_RP
    num_groups = resampling.num_units(influence_RP.shape[1])
    member_PG = np.eye(num_groups)[np.array(resampling.groups)]
    return influence_RP @ member_PG * (num_groups / influence_RP.shape[1])


def student_interval(values_P: Floats, draws_B: Floats, resampling: Resampling, lowest: float) -> Estimate:
    """Estimate a mean whose draws do not centre on it, since each repeats a choice that all problems share.

    The interval is a score interval to which the variance that the draws have beyond independent values is added, by
    Student's t with one degree of freedom less than there are problems or groups.

    Args:
        values_P: `[P]` one value per problem.
        draws_B: `[B]` their mean in each draw (`draw_weights`), with everything that depends on chance repeated.
        resampling: settings that the draws were made with.
        lowest: values lie in [lowest, 1].
    """
    values_P = _without_noise(values_P)
    value, num_units = float(_without_noise(values_P.mean())), resampling.num_units(len(values_P))
    if num_units == 1:
        return Estimate(value, None, None)
    # A bootstrap of P problems divides their sum of squares by P, not by P - 1, so its spread is scaled up.
    stderr = float(_without_noise(draws_B.std(ddof=1) * np.sqrt(num_units / (num_units - 1))))
    plain = float(values_P.var() / len(values_P))
    if plain <= 10.0 ** (-2 * _DECIMALS) < stderr**2:
        reach = float(stdtrit(num_units - 1, (1 + resampling.level) / 2)) * stderr
        return Estimate(value, stderr, _around(value, reach, lowest))
    inflation = grouping_inflation(values_P, resampling)
    shared = max(0.0, stderr**2 - inflation * plain)
    test = ScoreTest(values_P, *_bounds(values_P, lowest), inflation, shared, num_units - 1.0)
    return Estimate(value, stderr, _clean(test.interval(resampling.level)))


def _bounds(values_P: Floats, lowest: float) -> tuple[float, float]:
    """Return the bounds that a score interval lets unseen values have.

    Shares may be anything from 0 to 1, and so may differences where all are equal, which says nothing. Other
    differences may be as large as the largest that was seen, in both directions, and at least a quarter of a solve: if
    every unseen problem might differ by a whole solve, no small gain that all problems share could be told from 0.
    """
    if lowest >= 0 or np.ptp(values_P) == 0:
        return lowest, 1.0
    largest = max(_LEAST_BOUND, float(np.abs(values_P).max()))
    return -largest, largest


@lru_cache(maxsize=1)
def draw_weights(num_problems: int, resampling: Resampling) -> Floats:
    """Return the share of each problem in each draw with replacement, `[B, P]`; rows sum to 1.

    All draws of all means are then one matrix product. The same seed gives the same draws, and since an analysis needs
    the same draws many times, the last ones are cached and read-only.
    """
    rng = np.random.default_rng(resampling.seed)
    num_units = resampling.num_units(num_problems)
    weights_BU = np.empty((resampling.resamples, num_units))
    step = max(1, _CELLS // num_units)
    for start in range(0, resampling.resamples, step):
        size = min(step, resampling.resamples - start)
        picked_BU = rng.integers(0, num_units, (size, num_units))
        picked_BU += num_units * np.arange(size)[:, None]
        times_BU = np.bincount(picked_BU.ravel(), minlength=picked_BU.size).reshape(size, num_units)
        weights_BU[start : start + size] = times_BU / num_units
    weights_BP = weights_BU
    if resampling.groups is not None:
        weights_BP = weights_BU[:, np.array(resampling.groups)]
        weights_BP /= weights_BP.sum(axis=1, keepdims=True)
    weights_BP.flags.writeable = False
    return weights_BP


def drawn_problems(num_problems: int, resampling: Resampling, num_draws: int) -> Iterator[Ints]:
    """Yield the indices of the problems of the first draws, each as often as it was drawn.

    For what is no function of weights, such as a fit or a strategy that is played again.
    """
    for weight_P in draw_weights(num_problems, resampling)[:num_draws]:
        times_P = np.rint(weight_P / weight_P[weight_P > 0].min()).astype(np.int64)
        yield np.repeat(np.arange(num_problems), times_P)


def _without_noise(values: ArrayLike) -> Floats:
    return np.round(np.asarray(values, np.float64), _DECIMALS) + 0.0  # never -0.0


def _bca(tails_R2: Floats, value_R: Floats, draws_RB: Floats, influence_RP: Floats) -> Floats:
    """Return tails shifted for bias and acceleration (Efron & Tibshirani 1993, eqs. 14.10, 14.14 and 14.15)."""
    resamples = draws_RB.shape[1]
    # Draws equal to the value count half, which matters for small benchmarks with few distinct means. The clip keeps
    # the bias finite where the value is beyond all draws.
    below_R = ((draws_RB < value_R[:, None]).sum(axis=1) + (draws_RB <= value_R[:, None]).sum(axis=1)) / (2 * resamples)
    bias_R1 = ndtri(np.clip(below_R, 0.5 / resamples, 1 - 0.5 / resamples))[:, None]
    squares_R = (influence_RP**2).sum(axis=1)
    # Where no problem has any influence all draws are equal and any tail is right, so only division by 0 is avoided.
    acceleration_R = (influence_RP**3).sum(axis=1) / (6 * np.where(squares_R > 0, squares_R, 1.0) ** 1.5)
    shifted_R2 = bias_R1 + ndtri(tails_R2)
    return ndtr(bias_R1 + shifted_R2 / (1 - acceleration_R[:, None] * shifted_R2))


def _quantiles(sorted_RB: Floats, tails_R2: Floats) -> Floats:
    """Return quantiles of each row at its own tails, which `np.quantile` cannot do, interpolated linearly."""
    position_R2 = tails_R2 * (sorted_RB.shape[1] - 1)
    lower_R2 = np.floor(position_R2).astype(np.int64)
    upper_R2 = np.minimum(lower_R2 + 1, sorted_RB.shape[1] - 1)
    low_R2, high_R2 = (np.take_along_axis(sorted_RB, at_R2, axis=1) for at_R2 in (lower_R2, upper_R2))
    return low_R2 + (position_R2 - lower_R2) * (high_R2 - low_R2)


def _clean(interval: tuple[float, float]) -> tuple[float, float]:
    low, high = _without_noise(interval).tolist()
    return low, high


def _around(value: float, reach: float, lowest: float) -> tuple[float, float]:
    return max(value - reach, float(lowest)), min(value + reach, 1.0)
