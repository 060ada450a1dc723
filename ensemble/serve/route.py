"""Who answers which choice, and with which seed. Pure: weights, n and a turn in; no clock, no I/O.

A single policy is a mixture of one. Health, retries and failover are no business of this module.
"""

import hashlib
from collections.abc import Mapping

from ensemble.allocation import rotated


def split_choices(weights: Mapping[str, float], n: int, turn: int) -> list[str]:
    """Name the policy of each of n choices, in blocks that follow the order of the mixture.

    Each turn gives a policy the floor or the ceiling of its share; over all turns its mean is the share.

    Raises:
        ValueError: as `ensemble.allocation.rotated`.
    """
    return [policy for policy, count in rotated(weights, n, turn).items() for _ in range(count)]


def seed_of_choice(seed: int, choice: int) -> int:
    """Give each choice a seed of its own, below 2⁶³.

    The first keeps the seed of its request, so n = 1 and choice 0 of n = 8 agree. The others are hashed:
    counting up would make requests with neighbouring seeds share samples.
    """
    if choice == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{choice}".encode()).digest()[:8]) >> 1
