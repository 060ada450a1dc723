"""The frontier: how the samples of each policy fail, who is dominated, and where along α answers fall apart.

Rates are means over problems of the share of samples, so that every problem counts the same. They hold for whatever
coverage level the outcomes were counted at (`exchange.count_outcomes`). Axes: `M` policies, `A` values of α, `P`
problems, `R` bootstrap draws.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, draw_weights, means_over_problems
from alphamix.ensemble.statistics.trend_test import Trend, TrendLine, trend

_SIDE = {"optimisation": -1, "correctness": -1, "format": 1, "exhausted": 1}
"""Which failures are of programs that were tried (-1), and which of answers that fell apart (1)."""


@dataclass(frozen=True)
class FrontPoint:
    """How a policy stands against the others."""

    dominated_by: tuple[str, ...]
    """Policies that have no more correctness failures, no more optimisation failures and no fewer solves, and are
    better in one of the three. None: it is on the front."""
    share_on_front: float
    """Share of bootstrap draws over problems in which nothing dominates it."""


@dataclass(frozen=True)
class Takeover:
    """The α where more samples fail by format or exhaustion than by correctness or optimisation."""

    alpha: float | None
    """Linear between the measured α; None where it does not happen as far as was measured."""
    interval: tuple[float | None, float | None] | None
    """In rising order; a None inside means that the interval ends beyond what was measured."""
    share: float
    """Share of bootstrap draws over problems in which it happens."""


@dataclass(frozen=True)
class ModerateRange:
    """How far α can leave [0, 1] before answers fall apart, on either side."""

    below: Takeover
    above: Takeover

    def holds(self, alpha: float) -> bool:
        """Whether α lies short of both ends; an end that was not found sets no limit."""
        low, high = self.below.alpha, self.above.alpha
        return (low is None or alpha > low) and (high is None or alpha < high)


def failure_rates(outcomes: Outcomes) -> dict[str, Floats]:
    """`[M, P]` share of samples that failed, by failure class."""
    return {name: failed_MP / outcomes.num_samples_MP for name, failed_MP in outcomes.num_failures_MP.items()}


def frontier(outcomes: Outcomes, resampling: Resampling) -> dict[str, dict[str, Estimate]]:
    """Failure rates with intervals, by policy and failure class."""
    by_class = {
        name: means_over_problems(rate_MP, resampling, lowest=0) for name, rate_MP in failure_rates(outcomes).items()
    }
    return {
        policy: {name: estimates[m] for name, estimates in by_class.items()}
        for m, policy in enumerate(outcomes.policies)
    }


def pareto(outcomes: Outcomes, resampling: Resampling) -> dict[str, FrontPoint]:
    """Say who is dominated, and how surely, by policy; empty where failure classes are unknown.

    Solves count as well as the two failures: a policy that answers nothing would otherwise dominate all others.
    """
    if not {"correctness", "optimisation"} <= outcomes.num_failures_MP.keys():
        return {}
    losses_LMP = _losses(outcomes)
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
    """Trend of the solve rate (`solved`) and of each failure class along all α; empty with fewer than two."""
    line = TrendLine.of(outcomes, alphas)
    if len(line.alpha_A) < 2:
        return {}
    rates_MP = {"solved": outcomes.solve_rate_MP, **failure_rates(outcomes)}
    return {name: trend(line.rates(rate_MP), line.alpha_A, resampling) for name, rate_MP in rates_MP.items()}


def moderate_range(
    outcomes: Outcomes, alphas: Mapping[str, float | None], resampling: Resampling
) -> ModerateRange | None:
    """Find where format and exhausted failures take over, going out from [0, 1].

    None where failure classes are unknown or no policy has an α.
    """
    rates_MP, line = failure_rates(outcomes), TrendLine.of(outcomes, alphas)
    if not rates_MP or not len(line.alpha_A):
        return None
    excess_MP = np.sum([_SIDE[name] * rate_MP for name, rate_MP in rates_MP.items()], axis=0)
    excess_AP = line.rates(excess_MP)
    draws_RA = draw_weights(len(outcomes.problems), resampling) @ excess_AP.T

    def takeover(sign: int, start: float) -> Takeover:
        """Search upward from `start`, or with the sign -1 in the mirrored α."""
        outward = np.flatnonzero(sign * line.alpha_A >= start)[::sign]
        alpha_A = sign * line.alpha_A[outward]
        crossing = sign * _first_crossing(alpha_A, excess_AP[outward].mean(axis=1)[None]).item()
        crossings_R = sign * _first_crossing(alpha_A, draws_RA[:, outward])
        tails = np.array([1 - resampling.level, 1 + resampling.level]) / 2
        # No interpolation: a draw in which it never happens is infinitely far out.
        low, high = np.quantile(crossings_R, tails, method="inverted_cdf").tolist()
        interval = None if len(outcomes.problems) == 1 else (_finite(low), _finite(high))
        return Takeover(_finite(crossing), interval, float(np.isfinite(crossings_R).mean()))

    return ModerateRange(below=takeover(-1, 0.0), above=takeover(1, 1.0))


def _losses(outcomes: Outcomes) -> Floats:
    """`[3, M, P]` correctness failures, optimisation failures, samples not solved: less is better."""
    rates_MP = failure_rates(outcomes)
    return np.stack([rates_MP["correctness"], rates_MP["optimisation"], 1 - outcomes.solve_rate_MP])


def _dominates(losses_RLM: Floats) -> Bools:
    """`[R, M, M]` whether the first policy dominates the second, by points `[R, L, M]`."""
    less_RLMM = np.round(losses_RLM[:, :, None, :] - losses_RLM[:, :, :, None], 12)
    return np.asarray(np.all(less_RLMM >= 0, axis=1) & np.any(less_RLMM > 0, axis=1))


def _first_crossing(alpha_A: Floats, excess_RA: Floats) -> Floats:
    """`[R]` the first α, going right, where the excess rises above 0; inf where it does not."""
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
