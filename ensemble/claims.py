"""Claims of the paper (arXiv 2605.28751), each held against the outcomes of one run.

A claim is a paired difference per problem that is said to be positive. It is supported when the whole interval lies
above 0, refuted when the whole interval lies below, and undecided otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ensemble.frontier import failure_rates
from ensemble.intervals import Estimate, Resampling, mean_over_problems
from ensemble.mixture.search import Currency
from ensemble.outcomes import Outcomes
from ensemble.pass_at_k import Floats

_VERDICT_OF_SIGN = {1: "supported", 0: "undecided", -1: "refuted"}


@dataclass(frozen=True)
class Claim:
    """A statement, the difference that speaks to it, and the verdict."""

    statement: str
    difference: str
    """What is subtracted from what, in words."""
    estimate: Estimate
    verdict: str
    """`supported`, `refuted` or `undecided`."""


def examine(
    outcomes: Outcomes,
    alphas: Mapping[str, float | None],
    gains: Mapping[Currency, Estimate | None],
    resampling: Resampling,
) -> list[Claim]:
    """Hold each claim that these outcomes can speak to against them.

    Args:
        outcomes: counts with failure classes.
        alphas: α by policy, None where a policy has none.
        gains: honest gain of the equal split over the best single policy, by currency of the budget.
        resampling: how intervals are made.
    """
    by_alpha = {alpha: outcomes.row(name) for name, alpha in alphas.items() if alpha is not None}
    rates_MP = failure_rates(outcomes)
    claims = [
        Claim(
            f"At matched {currency} the ensemble covers more than the best single policy.",
            "coverage of the equal split - cross-fitted best single",
            gain,
            _VERDICT_OF_SIGN[gain.sign],
        )
        for currency, gain in gains.items()
        if gain is not None
    ]
    if not rates_MP:
        return claims
    if 0.0 in by_alpha and 1.0 in by_alpha:
        low, high = by_alpha[0.0], by_alpha[1.0]
        claims += [
            _claim(
                "Training under high coverage leaves fewer optimisation failures.",
                "optimisation failures at α = 0 - at α = 1",
                rates_MP["optimisation"][low] - rates_MP["optimisation"][high],
                resampling,
            ),
            _claim(
                "Training under high coverage leaves more correctness failures.",
                "correctness failures at α = 1 - at α = 0",
                rates_MP["correctness"][high] - rates_MP["correctness"][low],
                resampling,
            ),
        ]
    beyond = max((alpha for alpha in by_alpha if alpha > 1), default=None)
    if 1.0 in by_alpha and beyond is not None:
        high, furthest = by_alpha[1.0], by_alpha[beyond]
        claims.append(
            _claim(
                "Extrapolation beyond α = 1 goes on lowering optimisation failures.",
                f"optimisation failures at α = 1 - at α = {beyond:g}",
                rates_MP["optimisation"][high] - rates_MP["optimisation"][furthest],
                resampling,
            )
        )
    return claims


def _claim(statement: str, difference: str, difference_P: Floats, resampling: Resampling) -> Claim:
    estimate = mean_over_problems(difference_P, resampling)
    return Claim(statement, difference, estimate, _VERDICT_OF_SIGN[estimate.sign])
