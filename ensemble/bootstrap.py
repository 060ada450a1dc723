"""The bootstrap over problems for many statistics at once: one set of draws, shared by all of them.

A draw takes P problems with replacement; what it needs to know is how often each was taken, so a draw is a row of
weights and all draws of all means are one matrix product. Shared draws keep statistics paired: the difference of two
draws is a draw of the difference. Means of single rows are in `intervals`. Axes: `R` draws, `P` problems, `V`
statistics.
"""

import numpy as np

from ensemble.intervals import Estimate
from ensemble.pass_at_k import Floats

_DECIMALS = 12
"""Differences below this are floating-point noise, and must not decide a sign."""


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
