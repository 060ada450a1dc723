"""Does a rate rise or fall along α? A rank test for ordered alternatives, and the slope that says by how much.

Policies on one line of weights are treatments whose order is known, problems are blocks: each problem is compared with
itself only. Nothing here knows what the rates mean. Axes: `A` values of α, `P` problems.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, means_over_problems


@dataclass(frozen=True)
class TrendLine:
    """Where policies stand along α."""

    alpha_A: Floats
    """`[A]` rising, each value once."""
    share_AM: Floats
    """`[A, M]` which policies have this α; rows sum to 1 (an end of the line may be there under two names)."""

    @classmethod
    def of(cls, outcomes: Outcomes, alphas: Mapping[str, float | None]) -> "TrendLine":
        """Order the policies that have an α by it."""
        alpha_M = np.array([alphas.get(name) for name in outcomes.policies], np.float64)  # None becomes nan
        alpha_A = np.unique(alpha_M[~np.isnan(alpha_M)])
        has_AM = (alpha_M == alpha_A[:, None]).astype(np.float64)
        return cls(alpha_A, has_AM / has_AM.sum(axis=1, keepdims=True))

    def rates(self, rate_MP: Floats) -> Floats:
        """`[A, P]` rates along α."""
        return self.share_AM @ rate_MP


@dataclass(frozen=True)
class Trend:
    """A rate along α."""

    page_l: float
    """Page's L: Σ_A rank of α · Σ_P rank of the rate within the problem."""
    z: float
    """L less its mean under no trend, in standard deviations: above 0 where the rate rises."""
    p_value: float
    """Two-sided, for rates that any order within a problem could have given; normal approximation."""
    slope: Estimate
    """Change of the mean rate per unit of α (least squares)."""


def trend(rate_AP: Floats, alpha_A: Floats, resampling: Resampling) -> Trend:
    """Test for a trend and estimate its slope.

    Args:
        rate_AP: `[A, P]` a rate per α and problem.
        alpha_A: `[A]` at least two different values.
        resampling: for the slope's interval.
    """
    page_l, z = page_test(rate_AP, rankdata(alpha_A))
    centred_A = alpha_A - alpha_A.mean()
    slope_P = centred_A @ rate_AP / (centred_A @ centred_A)
    return Trend(
        page_l, z, float(2 * norm.sf(abs(z))), means_over_problems(slope_P[None], resampling, lowest=-np.inf)[0]
    )


def page_test(values_AP: Floats, score_A: Floats) -> tuple[float, float]:
    """Page's test for ordered alternatives (Page 1963, JASA 58, 216-230), with ties.

    L = Σ_P Σ_A score_A · R_AP, R the mid-ranks within each problem. Where every order of a problem's values is equally
    likely, its part of L has mean A · mean(score) · (A + 1)/2 and variance
    Σ_A (score - mean)² · Σ_A (R - mean)² / (A - 1), whatever is tied; problems are independent.

    Args:
        values_AP: `[A, P]`.
        score_A: `[A]` ranks of the treatments (Page), or other scores such as α itself.

    Returns:
        L, and z = (L - mean) / standard deviation; 0 where all values are tied.
    """
    # Rates of equal counts must tie whichever way they were computed.
    rank_AP = rankdata(np.round(values_AP, 12), axis=0)
    num_alphas = len(score_A)
    score_A = np.asarray(score_A, np.float64)
    centred_A, centred_AP = score_A - score_A.mean(), rank_AP - (num_alphas + 1) / 2
    variance = (centred_A @ centred_A) * (centred_AP**2).sum() / (num_alphas - 1)
    excess = float((centred_A @ centred_AP).sum())
    return float((score_A @ rank_AP).sum()), excess / float(np.sqrt(variance)) if variance > 0 else 0.0
