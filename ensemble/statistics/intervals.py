"""Means over problems with their uncertainty. Two kinds, which answer two questions and are never mixed:

*new problems*: how the mean would be on other problems of the same kind. Bootstrap over problems. A problem is drawn
together with all its samples, so this covers both kinds of chance: which problems were picked, and which completions
were drawn. Samples inside a problem are never resampled (that would centre on the biased plug-in estimate).

*fixed benchmark*: how the mean would be on these very problems with other samples. Normal interval from the unbiased
sampling variance; narrower, and says nothing about other problems.

Axes: `B` draws of the bootstrap, `M` policies, `P` problems, `R` rows, each with an interval of its own.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtrit

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.statistics.pass_at_k import coverage, sampling_covariance

Kind = Literal["new problems", "fixed benchmark"]
Method = Literal["percentile", "bca"]

_DECIMALS = 12
"""Differences below this are floating-point noise, and must not decide a sign."""
_CELLS = 2**22
"""Picks of problems that are held at once."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems, with its standard error and interval.

    `stderr` and `interval` are None where they are unknown: with a single problem, where all problems have the same
    value and nothing bounds it, or where the sampling variance of a fixed benchmark is estimated as 0 or less.

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
        """1 where the whole interval lies above 0, -1 where it lies below, else 0: chance could explain it."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return (low > 0) - (high < 0)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals for new problems are made: bootstrap over problems."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    method: Method = "bca"
    """`bca`: bias-corrected and accelerated (Efron 1987), better where values are skewed, as with rare solves."""


def mean_over_problems(values_P: Floats, resampling: Resampling, lowest: float = -1.0) -> Estimate:
    """Estimate the mean of a value per problem, for new problems of the same kind.

    For a difference of two arms, give the differences per problem: the interval is then a paired one.

    Args:
        values_P: `[P]` one value per problem.
        resampling: level, number of resamples, seed and method.
        lowest: values lie in [lowest, 1]: 0 for shares, -1 for their differences, -inf for all else.

    Raises:
        ValueError: no problems.
    """
    return means_over_problems(values_P[None], resampling, lowest)[0]


def means_over_problems(values_RP: Floats, resampling: Resampling, lowest: float = -1.0) -> list[Estimate]:
    """Estimate many means over the same problems, all on the same resamples: one matrix product.

    Args:
        values_RP: `[R, P]` one value per problem, in each row.
        resampling: as for `mean_over_problems`, which each row agrees with.
        lowest: as for `mean_over_problems`.

    Raises:
        ValueError: no problems.
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
    return [
        replace(one, interval=_unseen(one.value, num_problems, resampling.level, lowest)) if one.stderr == 0 else one
        for one in estimates
    ]


def from_draws(value_R: Floats, draws_RB: Floats, influence_RP: Floats, resampling: Resampling) -> list[Estimate]:
    """Estimate statistics that are no means over problems, but smooth in the weights of the problems.

    Args:
        value_R: `[R]` each statistic on all problems.
        draws_RB: `[R, B]` the same with the weights of each draw (`draw_weights`); shared draws pair statistics.
        influence_RP: `[R, P]` how a statistic changes with the weight of a problem, of mean 0: for a mean, the value
            less the mean. Standard error and acceleration come from it.
        resampling: how draws were made.
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
    """Mean coverage of an allocation on these very problems, with the uncertainty of the samples alone.

    Args:
        num_samples_MP: `[M, P]` graded samples.
        num_correct_MP: `[M, P]` accepted samples.
        allocation_M: `[M]` samples given to each policy; for pass@k one policy and k.
        level: of the normal interval, which is clipped to [0, 1].

    Raises:
        UndefinedError: some 2·k_j > n_j: no unbiased estimator of the sampling variance exists.
    """
    covered_P = coverage(num_samples_MP, num_correct_MP, allocation_M)
    variance_P = sampling_covariance(num_samples_MP, num_correct_MP, allocation_M, allocation_M)
    return _normal(covered_P, variance_P, level, lowest=0.0)


def difference_on_fixed_benchmark(
    num_samples_MP: Ints, num_correct_MP: Ints, allocation_M: ArrayLike, other_M: ArrayLike, level: float = 0.95
) -> Estimate:
    """Mean coverage of one allocation less that of another, on these very problems.

    Both are estimated from the same samples: var(a - b) = var(a) - 2 cov(a, b) + var(b), each term unbiased.
    Arguments and errors as `coverage_on_fixed_benchmark`, the error for either allocation; clipped to [-1, 1].
    """
    counts = num_samples_MP, num_correct_MP
    difference_P = coverage(*counts, allocation_M) - coverage(*counts, other_M)
    variance_P = (
        sampling_covariance(*counts, allocation_M, allocation_M)
        - 2 * sampling_covariance(*counts, allocation_M, other_M)
        + sampling_covariance(*counts, other_M, other_M)
    )
    return _normal(difference_P, variance_P, level, lowest=-1.0)


def student_interval(values_P: Floats, draws_B: Floats, resampling: Resampling, lowest: float) -> Estimate:
    """Estimate a mean whose draws do not centre on it, so that only their spread is of use.

    Student's t with a degree of freedom for each problem but one. The spread of draws of P problems is that of a sum of
    squares over P, not P - 1, and is scaled up.

    Args:
        values_P: `[P]` one value per problem.
        draws_B: `[B]` their mean in each draw (`draw_weights`), with everything else that chance would change.
        resampling: how draws were made.
        lowest: the interval is clipped to [lowest, 1].
    """
    num_problems = len(values_P)
    value = float(_without_noise(values_P.mean()))
    if num_problems == 1:
        return Estimate(value, None, None)
    stderr = float(_without_noise(draws_B.std(ddof=1) * np.sqrt(num_problems / (num_problems - 1))))
    if stderr == 0:
        alike = np.ptp(_without_noise(values_P)) == 0
        return Estimate(value, 0.0, _unseen(value, num_problems, resampling.level, lowest) if alike else None)
    reach = float(stdtrit(num_problems - 1, (1 + resampling.level) / 2)) * stderr
    return Estimate(value, stderr, _around(value, reach, lowest))


@lru_cache(maxsize=1)
def draw_weights(num_problems: int, resampling: Resampling) -> Floats:
    """`[B, P]` share of each problem in each draw with replacement; rows sum to 1, the same seed gives the same draws.

    The mean of a draw is then a product with its row, and all draws of all means are one matrix product. An analysis
    asks for the same draws again and again, so the last are kept, read-only.
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
    """Bound a mean where all problems have one value, and no spread tells how sure it is.

    Had problems with another value a share above q = 1 - (1 - level)^(1/P), all P would miss them with a chance below
    1 - level (the "rule of three": q is about 3/P); at worst theirs is the lowest, or the highest. None where values
    have no lower bound. Differences of 0 are left alone: two arms that do the same have them by construction.
    """
    if not np.isfinite(lowest):
        return None
    if value == 0 and lowest < 0:
        return 0.0, 0.0
    share = 1 - (1 - level) ** (1 / num_problems)
    return (1 - share) * value + share * lowest, (1 - share) * value + share


def _bca(tails_R2: Floats, value_R: Floats, draws_RB: Floats, influence_RP: Floats) -> Floats:
    """Tails shifted for bias and acceleration (Efron & Tibshirani 1993, eq. 14.10, 14.14, 14.15)."""
    resamples = draws_RB.shape[1]
    below_R = ((draws_RB < value_R[:, None]).sum(axis=1) + (draws_RB <= value_R[:, None]).sum(axis=1)) / (2 * resamples)
    bias_R1 = ndtri(np.clip(below_R, 0.5 / resamples, 1 - 0.5 / resamples))[:, None]
    squares_R = (influence_RP**2).sum(axis=1)
    # Where no problem has any influence, all draws are equal, and any tail will do.
    acceleration_R = (influence_RP**3).sum(axis=1) / (6 * np.where(squares_R > 0, squares_R, 1.0) ** 1.5)
    shifted_R2 = bias_R1 + ndtri(tails_R2)
    return ndtr(bias_R1 + shifted_R2 / (1 - acceleration_R[:, None] * shifted_R2))


def _quantiles(sorted_RB: Floats, tails_R2: Floats) -> Floats:
    """Quantiles of each row, interpolated linearly, at tails of its own (`np.quantile` takes the same for all)."""
    position_R2 = tails_R2 * (sorted_RB.shape[1] - 1)
    lower_R2 = np.floor(position_R2).astype(np.int64)
    upper_R2 = np.minimum(lower_R2 + 1, sorted_RB.shape[1] - 1)
    low_R2, high_R2 = (np.take_along_axis(sorted_RB, at_R2, axis=1) for at_R2 in (lower_R2, upper_R2))
    return low_R2 + (position_R2 - lower_R2) * (high_R2 - low_R2)


def _normal(values_P: Floats, variance_P: Floats, level: float, lowest: float) -> Estimate:
    if values_P.size == 0:
        raise ValueError("a mean over no problems is undefined: grade at least one problem")
    value = float(_without_noise(values_P.mean()))
    variance = float(variance_P.mean()) / values_P.size
    if variance <= 10.0 ** (-2 * _DECIMALS):
        return Estimate(value, None, None, "fixed benchmark")
    stderr = float(np.sqrt(variance))
    return Estimate(value, stderr, _around(value, float(ndtri((1 + level) / 2)) * stderr, lowest), "fixed benchmark")


def _around(value: float, reach: float, lowest: float) -> tuple[float, float]:
    return max(value - reach, float(lowest)), min(value + reach, 1.0)
