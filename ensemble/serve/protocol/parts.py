"""Parts of a request: the choices that one policy answers, and the seed of each choice."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """Choices `first`, …, `first + n - 1` of each prompt, which one policy answers."""

    policy: str
    first: int
    n: int

    def client_index(self, index: int, choices_per_prompt: int) -> int:
        """Give the index in the client's answer of choice `index` of this part, over all prompts."""
        prompt, choice = divmod(index, self.n)
        return prompt * choices_per_prompt + self.first + choice


def group_draws(policies: Sequence[str], first: int) -> list[Part]:
    """Gather draws, of which the first has the index `first`, in one part for each policy."""
    parts: list[Part] = []
    for policy, count in Counter(policies).items():
        parts.append(Part(policy, first, count))
        first += count
    return parts


def seed_of_choice(seed: int, choice: int) -> int:
    """Give each choice a seed of its own, below 2⁶³.

    The first keeps the seed of its request, so n = 1 and choice 0 of n = 8 agree. The others are hashed:
    counting up would make requests with neighbouring seeds share samples.
    """
    if choice == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{choice}".encode()).digest()[:8]) >> 1
