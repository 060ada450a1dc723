"""Means over problems, with their uncertainty of two kinds. These answer different questions and are never mixed.

*New problems*: what would the mean be on other problems of the same kind? The interval is a bootstrap over problems.
A problem is drawn together with all its samples, so it covers both which problems were picked and which completions
were drawn. Samples inside a problem are never resampled, since that would centre on the biased plug-in estimate.

*Fixed benchmark*: what would the mean be on these very problems, with other samples? The interval is normal, from the
unbiased sampling variance. It is narrower, and says nothing about other problems.

Axes: `B` draws of the bootstrap, `M` policies, `P` problems, `R` rows, each with its own interval.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.statistics.pass_at_k import coverage, sampling_variance

Kind = Literal["new problems", "fixed benchmark"]
Method = Literal["percentile", "bca"]

_DECIMALS = 12
"""Decimals that are kept: smaller differences are floating-point noise, and must not decide a sign."""
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


@dataclass(frozen=True, slots=True)
class Resampling:
    """Settings of the bootstrap over problems, which makes intervals for new problems."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    method: Method = "bca"
    """`bca` is bias-corrected and accelerated (Efron 1987), which is better for skewed values such as rare solves."""


def mean_over_problems(values_P: Floats, resampling: Resampling, lowest: float = -1.0) -> Estimate:
    """Estimate one mean, with arguments and errors as in `means_over_problems`."""
    return means_over_problems(values_P[None], resampling, lowest)[0]


def means_over_problems(values_RP: Floats, resampling: Resampling, lowest: float = -1.0) -> list[Estimate]:
    """Estimate the mean of each row for new problems of the same kind, with all rows on the same resamples.

    For the difference of two arms, give the differences per problem, which makes the interval a paired one.

    Args:
        values_RP: `[R, P]` one value per problem in each row.
        resampling: settings of the bootstrap.
        lowest: values lie in [lowest, 1]: 0 for shares, -1 for differences of shares, -inf for everything else.

    Raises:
        ValueError: there are no problems.
    """
    num_problems = values_RP.shape[1]
    if num_problems == 0:
        raise ValueError("a mean over no problems is undefined: grade at least one problem")
    values_RP = _without_noise(values_RP)
    mean_R = _without_noise(values_RP.mean(axis=1))
    if num_problems == 1:
        return [Estimate(value, None, None) for value in mean_R.tolist()]
    draws_RB = values_RP @ draw_weights(num_problems, resampling).T
    estimates = from_draws(mean_R, draws_RB, values_RP - mean_R[:, None], resampling)
    for row, estimate in enumerate(estimates):
        if estimate.stderr == 0:
            bounds = _unseen(estimate.value, num_problems, resampling.level, lowest)
            estimates[row] = replace(estimate, interval=bounds)
    return estimates


def from_draws(value_R: Floats, draws_RB: Floats, influence_RP: Floats, resampling: Resampling) -> list[Estimate]:
    """Estimate statistics that are smooth functions of the weights of problems, such as means.

    Args:
        value_R: `[R]` each statistic on all problems.
        draws_RB: `[R, B]` each statistic with the weights of each draw (`draw_weights`).
        influence_RP: `[R, P]` derivative of each statistic by the weight of each problem, of mean 0; for a mean, the
            value minus the mean. The standard error and the acceleration follow from it.
        resampling: settings that the draws were made with.
    """
    value_R, sorted_RB = _without_noise(value_R), np.sort(_without_noise(draws_RB), axis=1)
    stderr_R = _without_noise(influence_RP.std(axis=1, ddof=1) / np.sqrt(influence_RP.shape[1]))
    tail = (1 - resampling.level) / 2
    tails_R2 = np.tile([tail, 1 - tail], (len(value_R), 1))
    if resampling.method == "bca":
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


def student_interval(values_P: Floats, draws_B: Floats, resampling: Resampling, lowest: float) -> Estimate:
    """Estimate a mean whose draws do not centre on it, by Student's t with P - 1 degrees of freedom.

    Args:
        values_P: `[P]` one value per problem.
        draws_B: `[B]` their mean in each draw (`draw_weights`), with everything that depends on chance repeated.
        resampling: settings that the draws were made with.
        lowest: lower end that the interval is clipped to; the upper one is 1.
    """
    num_problems = len(values_P)
    value = float(_without_noise(values_P.mean()))
    if num_problems == 1:
        return Estimate(value, None, None)
    # A bootstrap of P problems divides their sum of squares by P, not by P - 1, so its spread is scaled up.
    stderr = float(_without_noise(draws_B.std(ddof=1) * np.sqrt(num_problems / (num_problems - 1))))
    if stderr == 0:
        alike = np.ptp(_without_noise(values_P)) == 0
        return Estimate(value, 0.0, _unseen(value, num_problems, resampling.level, lowest) if alike else None)
    reach = float(stdtrit(num_problems - 1, (1 + resampling.level) / 2)) * stderr
    return Estimate(value, stderr, _around(value, reach, lowest))


@lru_cache(maxsize=1)
def draw_weights(num_problems: int, resampling: Resampling) -> Floats:
    """Return the share of each problem in each draw with replacement, `[B, P]`; rows sum to 1.

    All draws of all means are then one matrix product. The same seed gives the same draws, and since an analysis needs
    the same draws many times, the last ones are cached and read-only.
    """
    rng = np.random.default_rng(resampling.seed)
    weights_BP = np.empty((resampling.resamples, num_problems))
    step = max(1, _CELLS // num_problems)
    for start in range(0, resampling.resamples, step):
        size = min(step, resampling.resamples - start)
        picked_BP = rng.integers(0, num_problems, (size, num_problems))
        picked_BP += num_problems * np.arange(size)[:, None]
        times_BP = np.bincount(picked_BP.ravel(), minlength=picked_BP.size).reshape(size, num_problems)
        weights_BP[start : start + size] = times_BP / num_problems
    weights_BP.flags.writeable = False
    return weights_BP


def _without_noise(values: ArrayLike) -> Floats:
    return np.round(np.asarray(values, np.float64), _DECIMALS) + 0.0  # never -0.0


def _unseen(value: float, num_problems: int, level: float, lowest: float) -> tuple[float, float] | None:
    """Bound a mean where all problems have the same value, so that their spread says nothing about its uncertainty.

    If problems with another value had a share above q = 1 - (1 - level)^(1/P), all P problems would miss them with a
    chance below 1 - level (the "rule of three": at 95 %, q is about 3/P). At worst, such problems have the lowest or
    the highest value. Return None where values have no lower bound. A difference of 0 keeps an interval of width 0,
    since two arms that do the same differ by 0 on every problem.
    """
    if not np.isfinite(lowest):
        return None
    if value == 0 and lowest < 0:
        return 0.0, 0.0
    share = 1 - (1 - level) ** (1 / num_problems)
    return (1 - share) * value + share * lowest, (1 - share) * value + share


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


def _around(value: float, reach: float, lowest: float) -> tuple[float, float]:
    return max(value - reach, float(lowest)), min(value + reach, 1.0)
