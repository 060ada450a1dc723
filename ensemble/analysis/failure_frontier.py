"""The failure frontier: how samples fail, which policies are dominated, and where along α answers break down.

Rates are means over problems of the share of samples, so that every problem counts the same. They hold for the coverage
level at which outcomes were counted (`interchange.count_outcomes`). Axes: `M` policies, `A` values of α, `P` problems,
`R` bootstrap draws, `L` losses.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, draw_weights, means_over_problems
from alphamix.ensemble.statistics.trend_test import Trend, TrendLine, trend

_SIDE = {"optimisation": -1, "correctness": -1, "format": 1, "exhausted": 1}
"""Failures of real programs (-1), and failures of answers that broke down (1)."""


@dataclass(frozen=True)
class FrontPoint:
    """Comparison of a policy with all others."""

    dominated_by: tuple[str, ...]
    """Policies with no more correctness failures, no more optimisation failures and no fewer solves, which are better
    in one of the three. A policy without any is on the front."""
    share_on_front: float
    """Share of bootstrap draws over problems in which no policy dominates it."""


@dataclass(frozen=True)
class Takeover:
    """The α from which more samples fail by format or exhaustion than by correctness or optimisation."""

    alpha: float | None
    """Interpolated linearly between measured α; None where it does not happen within the measured range."""
    interval: tuple[float | None, float | None] | None
    """Interval of `alpha`; an end is None where it lies beyond the measured range."""
    share: float
    """Share of bootstrap draws over problems in which it happens."""


@dataclass(frozen=True)
class ModerateRange:
    """How far α can go below 0 and above 1 before answers break down."""

    below: Takeover
    above: Takeover

    def holds(self, alpha: float) -> bool:
        """Check that α lies between both ends; an end that was not found sets no limit."""
        low, high = self.below.alpha, self.above.alpha
        return (low is None or alpha > low) and (high is None or alpha < high)


def failure_rates(outcomes: Outcomes) -> dict[str, Floats]:
    """Return the share of failed samples by failure class, `[M, P]` each."""
    return {name: failed_MP / outcomes.num_samples_MP for name, failed_MP in outcomes.num_failures_MP.items()}


def frontier(outcomes: Outcomes, resampling: Resampling) -> dict[str, dict[str, Estimate]]:
    """Estimate failure rates by policy and failure class."""
    by_class = {
        name: means_over_problems(rate_MP, resampling, lowest=0) for name, rate_MP in failure_rates(outcomes).items()
    }
    return {
        policy: {name: estimates[m] for name, estimates in by_class.items()}
        for m, policy in enumerate(outcomes.policies)
    }


def pareto(outcomes: Outcomes, resampling: Resampling) -> dict[str, FrontPoint]:
    """Compare each policy with all others; empty where failure classes are unknown.

    Solves count beside the two kinds of failure, since a policy that never gives a program would otherwise dominate all
    others.
    """
    if not {"correctness", "optimisation"} <= outcomes.num_failures_MP.keys():
        return {}
    rates_MP = failure_rates(outcomes)
    losses_LMP = np.stack([rates_MP["correctness"], rates_MP["optimisation"], 1 - outcomes.solve_rate_MP])
    weights_RP = draw_weights(len(outcomes.problems), resampling)
    draws_RLM = np.einsum("rp,lmp->rlm", weights_RP, losses_LMP, optimize=True)
    dominated_RM = np.asarray(_dominates(draws_RLM).any(axis=1))
    dominates_MM = _dominates(losses_LMP.mean(axis=2)[None])[0]
    return {
        policy: FrontPoint(
            dominated_by=tuple(outcomes.policies[other] for other in np.flatnonzero(dominates_MM[:, m])),
            share_on_front=float(1 - dominated_RM[:, m].mean()),
        )
        for m, policy in enumerate(outcomes.policies)
    }


def trends(outcomes: Outcomes, alphas: Mapping[str, float | None], resampling: Resampling) -> dict[str, Trend]:
    """Estimate trends of the solve rate (`solved`) and of each failure class along α; empty with fewer than two α."""
    line = TrendLine.of(outcomes, alphas)
    if len(line.alpha_A) < 2:
        return {}
    rates_MP = {"solved": outcomes.solve_rate_MP, **failure_rates(outcomes)}
    return {name: trend(line.rates(rate_MP), line.alpha_A, resampling) for name, rate_MP in rates_MP.items()}


def moderate_range(
    outcomes: Outcomes, alphas: Mapping[str, float | None], resampling: Resampling
) -> ModerateRange | None:
    """Find where format and exhausted failures take over on either side of [0, 1].

    Return None where failure classes are unknown or no policy has an α.
    """
    rates_MP, line = failure_rates(outcomes), TrendLine.of(outcomes, alphas)
    if not rates_MP or not len(line.alpha_A):
        return None
    excess_MP = np.sum([_SIDE[name] * rate_MP for name, rate_MP in rates_MP.items()], axis=0)
    excess_AP = line.rates(excess_MP)
    draws_RA = draw_weights(len(outcomes.problems), resampling) @ excess_AP.T

    def takeover(sign: int, start: float) -> Takeover:
        """Search upward from `start`, with the sign -1 along mirrored α."""
        outward = np.flatnonzero(sign * line.alpha_A >= start)[::sign]
        alpha_A = sign * line.alpha_A[outward]
        crossing = sign * _first_crossing(alpha_A, excess_AP[outward].mean(axis=1)[None]).item()
        crossings_R = sign * _first_crossing(alpha_A, draws_RA[:, outward])
        tails = np.array([1 - resampling.level, 1 + resampling.level]) / 2
        # A draw in which it never happens is infinitely far out, and infinity cannot be interpolated.
        low, high = np.quantile(crossings_R, tails, method="inverted_cdf").tolist()
        interval = None if len(outcomes.problems) == 1 else (_finite(low), _finite(high))
        return Takeover(_finite(crossing), interval, float(np.isfinite(crossings_R).mean()))

    return ModerateRange(below=takeover(-1, 0.0), above=takeover(1, 1.0))


def _dominates(losses_RLM: Floats) -> Bools:
    """Return whether the first policy dominates the second, `[R, M, M]`, given losses `[R, L, M]`."""
    # Rounding keeps floating-point noise from deciding between equal losses.
    less_RLMM = np.round(losses_RLM[:, :, None, :] - losses_RLM[:, :, :, None], 12)
    return np.asarray(np.all(less_RLMM >= 0, axis=1) & np.any(less_RLMM > 0, axis=1))


def _first_crossing(alpha_A: Floats, excess_RA: Floats) -> Floats:
    """Return the first α in ascending order where the excess rises above 0, `[R]`; inf where it does not."""
    if not len(alpha_A):
        return np.full(len(excess_RA), np.inf)
    above_RA = np.round(excess_RA, 12) > 0
    happens_R = above_RA.any(axis=1)
    after_R = above_RA.argmax(axis=1)
    before_R = np.maximum(after_R - 1, 0)
    rows = np.arange(len(excess_RA))
    start_R, end_R = excess_RA[rows, before_R], excess_RA[rows, after_R]
    rises_R = happens_R & (after_R > 0)
    step_R = np.divide(-start_R, end_R - start_R, out=np.zeros(len(rows)), where=rises_R)
    crossing_R = alpha_A[before_R] + step_R * (alpha_A[after_R] - alpha_A[before_R])
    return np.where(happens_R, crossing_R, np.inf)


def _finite(alpha: float) -> float | None:
    return alpha if np.isfinite(alpha) else None
