"""A test of whether a rate rises or falls along α, and the slope that says by how much.

Policies on one line of weights are treatments whose order is known, and problems are blocks, so each problem is only
compared with itself. The rates may be of any kind. Axes: `M` policies, `A` values of α, `P` problems.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, grouping_inflation, mean_over_problems


@dataclass(frozen=True)
class TrendLine:
    """Positions of policies along α."""

    alpha_A: Floats
    """`[A]` distinct values in ascending order."""
    share_AM: Floats
    """`[A, M]` share of each policy in the rates at each α; rows sum to 1, since two policies may have the same α."""

    @classmethod
    def of(cls, outcomes: Outcomes, alphas: Mapping[str, float | None]) -> "TrendLine":
        """Order the policies that have an α."""
        alpha_M = np.array([alphas.get(name) for name in outcomes.policies], np.float64)  # None becomes nan
        alpha_A = np.unique(alpha_M[~np.isnan(alpha_M)])
        has_AM = (alpha_M == alpha_A[:, None]).astype(np.float64)
        return cls(alpha_A, has_AM / has_AM.sum(axis=1, keepdims=True))

    def rates(self, rate_MP: Floats) -> Floats:
        """Return the rates along α, `[A, P]`."""
        return self.share_AM @ rate_MP


@dataclass(frozen=True)
class Trend:
    """Trend of a rate along α."""

    page_l: float
    """Page's L, Σ_A rank of α · Σ_P rank of the rate within the problem."""
    z: float
    """L minus its mean without a trend, in standard deviations; above 0 where the rate rises."""
    p_value: float
    """Two-sided p-value if all orders within a problem were equally likely, by the normal approximation."""
    slope: Estimate
    """Change of the mean rate per unit of α, by least squares."""


def trend(rate_AP: Floats, alpha_A: Floats, resampling: Resampling) -> Trend:
    """Test rates at two or more different α for a trend, and estimate its slope."""
    page_l, z, part_P = page_test(rate_AP, _mid_ranks(alpha_A)[:, 0])
    z /= np.sqrt(grouping_inflation(part_P, resampling))
    centred_A = alpha_A - alpha_A.mean()
    slope_P = centred_A @ rate_AP / (centred_A @ centred_A)
    slope = mean_over_problems(slope_P, resampling, lowest=-np.inf)
    return Trend(page_l, z, float(2 * ndtr(-abs(z))), slope)


def page_test(values_AP: Floats, score_A: Floats) -> tuple[float, float, Floats]:
    """Apply Page's test for ordered alternatives, with ties (Page 1963, JASA 58, 216-230).

    L = Σ_P Σ_A score_A · R_AP, where R are the mid-ranks within each problem. If all orders of a problem's values are
    equally likely, its part of L has the mean A · mean(score) · (A + 1)/2 and the variance
    Σ_A (score - mean)² · Σ_A (R - mean)² / (A - 1), whatever ties there are. Problems are independent.

    Args:
        values_AP: `[A, P]` values to rank within each problem.
        score_A: `[A]` ranks of the treatments, or other scores such as α itself.

    Returns:
        L, z = (L - mean) / standard deviation, which is 0 where all values are tied, and the part of each problem in
        L - mean, `[P]`.
    """
    # Rates of equal counts must tie, in whatever way they were computed, so floating-point noise is rounded off.
    rank_AP = _mid_ranks(np.round(values_AP, 12))
    num_alphas = len(score_A)
    score_A = np.asarray(score_A, np.float64)
    centred_A, centred_AP = score_A - score_A.mean(), rank_AP - (num_alphas + 1) / 2
    variance = (centred_A @ centred_A) * (centred_AP**2).sum() / (num_alphas - 1)
    part_P = centred_A @ centred_AP
    z = float(part_P.sum() / np.sqrt(variance)) if variance > 0 else 0.0
    return float((score_A @ rank_AP).sum()), z, part_P


def _mid_ranks(values: Floats) -> Floats:
    """Return ranks within each column, from 1; tied values share their mean rank."""
    return pd.DataFrame(values).rank().to_numpy(np.float64)
