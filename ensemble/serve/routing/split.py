"""Splits the choices of a request over policies by their weights. Pure.

A single policy is a mixture with one member. `ensemble_dispatcher` handles health, retries and failover.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction

from alphamix.ensemble.allocation import GOLDEN_RATIO, rotated
from alphamix.ensemble.serve.protocol.raw_request import Part


def split(weights: Mapping[str, float], n: int, turn: int, first: int = 0) -> list[Part]:
    """Split n choices, the first of which has the index `first`, into one block per policy in the order of the mixture.

    Each turn gives a policy the floor or the ceiling of its share; its mean over the turns is the share.

    Raises:
        ValueError: as in `ensemble.allocation.rotated`.
    """
    return _blocks(rotated(weights, n, turn), first)


def assign_draws(weights: Mapping[str, float], budget: int, turn: int) -> list[str]:
    """Return the policy of each of `budget` draws.

    Each policy makes as many draws as `split` would give it, spread so evenly that any first few draws are near the
    shares as well. The turn decides which policy comes first.

    Raises:
        ValueError: as in `ensemble.allocation.rotated`.
    """
    counts = {policy: count for policy, count in rotated(weights, budget, turn).items() if count}
    phases = {policy: (turn * GOLDEN_RATIO + Fraction(place, len(counts))) % 1 for place, policy in enumerate(counts)}
    draws = [(((index + phases[policy]) / count), policy) for policy, count in counts.items() for index in range(count)]
    return [policy for _, policy in sorted(draws, key=lambda draw: draw[0])]


def group_draws(policies: Sequence[str], first: int) -> list[Part]:
    """Group draws into one part per policy; the first draw has the index `first`."""
    return _blocks(Counter(policies), first)


def _blocks(counts: Mapping[str, int], first: int) -> list[Part]:
    parts: list[Part] = []
    for policy, count in counts.items():
        if count:
            parts.append(Part(policy, first, count))
            first += count
    return parts
