"""Who answers which choice, and with which seed. Pure: weights, n and a turn in; no clock, no I/O.

A single policy is a mixture of one. Health, retries and failover are no business of this module.
"""

import hashlib
from collections.abc import Mapping
from fractions import Fraction

from alphamix.ensemble.allocation import GOLDEN_RATIO, rotated
from alphamix.ensemble.serve.protocol.parts import Part


def split(weights: Mapping[str, float], n: int, turn: int, first: int = 0) -> list[Part]:
    """Split n choices, of which the first has the index `first`, in blocks that follow the order of the mixture.

    Each turn gives a policy the floor or the ceiling of its share; over all turns its mean is the share.

    Raises:
        ValueError: as `ensemble.allocation.rotated`.
    """
    parts: list[Part] = []
    for policy, count in rotated(weights, n, turn).items():
        if count:
            parts.append(Part(policy, first, count))
            first += count
    return parts


def assign_draws(weights: Mapping[str, float], budget: int, turn: int) -> list[str]:
    """Say which policy makes which of `budget` draws: as many each as `split` gives, spread so evenly that those of any
    first few are near the shares as well. Who comes first moves on with the turn.

    Raises:
        ValueError: as `ensemble.allocation.rotated`.
    """
    counts = {policy: count for policy, count in rotated(weights, budget, turn).items() if count}
    phases = {policy: (turn * GOLDEN_RATIO + Fraction(place, len(counts))) % 1 for place, policy in enumerate(counts)}
    draws = [(((index + phases[policy]) / count), policy) for policy, count in counts.items() for index in range(count)]
    return [policy for _, policy in sorted(draws, key=lambda draw: draw[0])]


def turn_of_session(session: str) -> int:
    """Give a conversation the same turn every time: over many conversations, shares equal the weights."""
    return int.from_bytes(hashlib.sha256(session.encode(errors="surrogatepass")).digest()[:8])
