"""Score intervals for means of bounded values, which hold for few problems and for rare events.

A bootstrap can resample only what was seen: where two policies disagree on 2 of 20 problems, most resamples hear of one
disagreement or none, and its intervals are far too narrow. A score interval asks instead which means are compatible
with the values. For each mean, it takes the likeliest distribution on [lowest, highest] that has this mean (empirical
likelihood, Owen 2001, with mass allowed where no value was seen), and compares the distance between the two means with
the standard error under *that* distribution. For shares of 0 and 1 this is Wilson's interval (1927), and for paired
differences of -1, 0 and 1 it is Tango's (1998, Statistics in Medicine 17, 891-908). Values in between, such as
differences of pass@k, have no closed form, and get the same treatment. Axes: `P` problems, `U` distinct values.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from alphamix.ensemble.arrays import Floats

_NOISE = 1e-12
"""Differences below this are rounding noise."""
_EDGE = 1e-9
"""Distance from the ends of a search, as a share of its length."""


@dataclass(frozen=True)
class ScoreTest:
    """Which means of a bounded variable are compatible with independent values of it.

    Args:
        values_P: `[P]` one value per problem, in [lowest, highest].
        lowest: least possible value.
        highest: greatest possible value.
        inflation: factor by which the variance of the mean exceeds that of independent values, above 1 where problems
            come in groups.
        shared: variance of the mean beyond that, from a choice that all values share.
        freedom: degrees of freedom of an estimated variance; infinite for the normal distribution.
    """

    values_P: Floats
    lowest: float = -1.0
    highest: float = 1.0
    inflation: float = 1.0
    shared: float = 0.0
    freedom: float = np.inf

    def interval(self, level: float) -> tuple[float, float]:
        """Return the means that a test at 1 - level does not reject. It has no width only where no other is possible.

        Raises:
            ValueError: there are no values, or one lies outside the bounds.
        """
        reach = float(stdtrit(self.freedom, (1 + level) / 2)) ** 2
        return self._end(self.lowest, reach), self._end(self.highest, reach)

    def p_value(self, mean: float = 0.0) -> float:
        """Return the two-sided p-value of a mean strictly within the bounds.

        It is below 1 - level exactly where the interval of that level excludes the mean.
        """
        distance = abs(self._mean - mean)
        if distance < _NOISE:
            return 1.0
        return float(2 * stdtr(self.freedom, -distance / np.sqrt(self._error_squared(mean))))

    @cached_property
    def _distinct(self) -> tuple[Floats, Floats]:
        value_U, times_U = np.unique(self.values_P, return_counts=True)
        if len(value_U) == 0 or value_U[0] < self.lowest or value_U[-1] > self.highest:
            raise ValueError(f"values must lie in [{self.lowest:g}, {self.highest:g}], and there must be at least one")
        return value_U, times_U.astype(np.float64)

    @property
    def _size(self) -> int:
        return len(self.values_P)

    @cached_property
    def _mean(self) -> float:
        value_U, times_U = self._distinct
        return float(value_U @ times_U / self._size)

    def _end(self, bound: float, reach: float) -> float:
        """Return the compatible mean that is nearest to a bound."""
        if abs(bound - self._mean) < _NOISE:
            return bound

        def excess(mean: float) -> float:
            return (self._mean - mean) ** 2 - reach * self._error_squared(mean)

        near, far = (self._mean + share * (bound - self._mean) for share in (_EDGE, 1 - _EDGE))
        return bound if excess(far) <= 0 else float(brentq(excess, near, far))

    def _error_squared(self, mean: float) -> float:
        return self.inflation * self._variance(mean) / self._size + self.shared

    def _variance(self, mean: float) -> float:
        """Return the variance of the likeliest distribution with this mean.

        The likelihood is the product of the masses of the values seen. Its maximum has masses proportional to
        1 / (1 + t·(value - mean)); mass where no value was seen costs likelihood, and only the bound on the far side
        can be worth it, in which case the masses have a closed form.
        """
        value_U, times_U = self._distinct
        share_U = times_U / self._size
        bound = self.highest if mean > self._mean else self.lowest
        if np.all(value_U != bound):
            mass_U = share_U * (bound - mean) / (bound - value_U)
            beyond = 1 - mass_U.sum()
            if beyond >= 0:
                return float(mass_U @ (value_U - mean) ** 2 + beyond * (bound - mean) ** 2)
        off_U = value_U - mean
        farthest = float(off_U[-1] if mean > self._mean else off_U[0])

        def imbalance(t: float) -> float:
            return float(share_U @ (off_U / (1 + t * off_U)))

        t = 0.0 if abs(imbalance(0.0)) < _NOISE else brentq(imbalance, 0.0, (_NOISE - 1) / farthest)
        return float(share_U / (1 + t * off_U) @ off_U**2)
