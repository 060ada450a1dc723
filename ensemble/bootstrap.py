"""The bootstrap over problems for many statistics at once: one set of draws, shared by all of them.

A draw takes P problems with replacement; what it needs to know is how often each was taken, so a draw is a row of
weights and all draws of all means are one matrix product. Shared draws keep statistics paired: the difference of two
draws is a draw of the difference. Means of single rows are in `intervals`. Axes: `R` draws, `P` problems, `V`
statistics.
"""

import numpy as np

from ensemble.intervals import Estimate, Resampling
from ensemble.pass_at_k import Floats

_DECIMALS = 12
"""Differences below this are floating-point noise, and must not decide a sign."""


def draw_weights(num_problems: int, resampling: Resampling) -> Floats:
    """`[R, P]` share of each problem in each draw; rows sum to 1. The same seed gives the same draws."""
    rng = np.random.default_rng(resampling.seed)
    counts_RP = rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), size=resampling.resamples)
    return counts_RP / num_problems


def means_over_problems(values_VP: Floats, resampling: Resampling) -> list[Estimate]:
    """Estimate many means over problems, each as `intervals.mean_over_problems` (percentile) would.

    Args:
        values_VP: `[V, P]` one value per statistic and problem.
        resampling: level, number of draws and seed.
    """
    num_problems = values_VP.shape[1]
    value_V = values_VP.mean(axis=1)
    if num_problems == 1:
        return [Estimate(value, None, None) for value in np.round(value_V, _DECIMALS).tolist()]
    stderr_V = values_VP.std(axis=1, ddof=1) / np.sqrt(num_problems)
    return from_draws(value_V, draw_weights(num_problems, resampling) @ values_VP.T, resampling.level, stderr_V)


def from_draws(value_V: Floats, draws_RV: Floats, level: float, stderr_V: Floats | None = None) -> list[Estimate]:
    """Estimates of statistics from their bootstrap draws, with percentile intervals.

    Args:
        value_V: `[V]` each statistic on all problems.
        draws_RV: `[R, V]` each statistic in each draw.
        level: of the intervals.
        stderr_V: `[V]` standard errors; None for the standard deviations of the draws.
    """
    spread_V: Floats = draws_RV.std(axis=0, ddof=1) if stderr_V is None else stderr_V
    tails = np.array([1 - level, 1 + level]) / 2
    low_V, high_V = np.quantile(draws_RV, tails, axis=0)
    columns_4V = np.round([value_V, spread_V, low_V, high_V], _DECIMALS) + 0.0  # never -0.0
    return [Estimate(value, stderr, (low, high)) for value, stderr, low, high in columns_4V.T.tolist()]
