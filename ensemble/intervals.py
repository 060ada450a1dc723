"""Means over problems with their uncertainty, for a benchmark seen as a sample of problems.

A problem is drawn together with all its samples, so resampling problems covers both kinds of chance: which problems
were picked, and which completions were drawn. Samples inside a problem are never resampled (that would centre on the
biased plug-in estimate).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

from ensemble.pass_at_k import Floats

_DECIMALS = 12
"""Differences below this are floating-point noise, and must not decide a sign."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems. `stderr` and `interval` are None where a single problem leaves them unknown."""

    value: float
    stderr: float | None
    interval: tuple[float, float] | None

    @property
    def sign(self) -> int:
        """1 where the whole interval lies above 0, -1 where it lies below, else 0: chance could explain it."""
        if self.interval is None:
            return 0
        low, high = self.interval
        return (low > 0) - (high < 0)


@dataclass(frozen=True, slots=True)
class Resampling:
    """How intervals are made: percentile bootstrap over problems."""

    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


def mean_over_problems(values_P: Floats, resampling: Resampling) -> Estimate:
    """Estimate the mean of a value per problem, for new problems of the same kind.

    For a difference of two arms, give the differences per problem: the interval is then a paired one.

    Args:
        values_P: `[P]` one value per problem.
        resampling: level, number of resamples and seed.

    Raises:
        ValueError: no problems.
    """
    if values_P.size == 0:
        raise ValueError("a mean over no problems is undefined: grade at least one problem")
    values_P = np.round(values_P, _DECIMALS)
    value = float(values_P.mean())
    if values_P.size == 1:
        return Estimate(value, None, None)
    result = bootstrap(
        (values_P,),
        np.mean,
        n_resamples=resampling.resamples,
        confidence_level=resampling.level,
        method="percentile",
        rng=np.random.default_rng(resampling.seed),
    )
    low, high = result.confidence_interval
    return Estimate(value, float(values_P.std(ddof=1) / np.sqrt(values_P.size)), (float(low), float(high)))
