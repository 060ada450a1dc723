"""Rounding of weights to allocations: whole numbers of samples per policy whose sum is the budget.

Which weights are best is decided in `mixture`.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import floor, isfinite

GOLDEN_RATIO = Fraction(6180339887498949, 10**16)
"""The golden ratio less 1. Its multiples modulo 1 fill the unit interval more evenly than those of any other number."""


def largest_remainder(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Split `total` samples in proportion to `weights`, rounding down and giving the rest to the largest remainders.

    Ties go to the policy named first.

    Raises:
        ValueError: a weight is negative or not finite, all weights are 0, or `total` is negative.
    """
    shares = _shares(weights, total)
    counts = {name: floor(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def rotated(weights: Mapping[str, float], total: int, turn: int) -> dict[str, int]:
    """Split `total` samples so that, over turns 0, 1, 2, …, the mean count of each policy is its exact share.

    Each turn gives a policy the floor or the ceiling of its share. This is systematic sampling: the shares are laid end
    to end and cut at whole numbers, from an offset that advances with the turn.

    Raises:
        ValueError: as `largest_remainder`.
    """
    offset = turn * GOLDEN_RATIO % 1
    counts: dict[str, int] = {}
    end = offset
    for name, share in _shares(weights, total).items():
        counts[name] = floor(end + share) - floor(end)
        end += share
    return counts


def _shares(weights: Mapping[str, float], total: int) -> dict[str, Fraction]:
    if total < 0:
        raise ValueError(f"cannot split {total} samples: give a budget of 0 or more")
    if any(not isfinite(weight) or weight < 0 for weight in weights.values()) or not any(weights.values()):
        raise ValueError(f"weights are {dict(weights)}: give finite numbers of 0 or more, not all 0")
    # Fractions, because rounding noise in a float share could turn a floor, and with it the sum of the counts.
    exact = {name: Fraction(weight) for name, weight in weights.items()}
    scale = Fraction(total) / sum(exact.values(), Fraction(0))
    return {name: weight * scale for name, weight in exact.items()}
