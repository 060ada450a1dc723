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
        """Return the index, in the client's answer to all prompts, of choice `index` of this part."""
        prompt, choice = divmod(index, self.n)
        return prompt * choices_per_prompt + self.first + choice


def group_draws(policies: Sequence[str], first: int) -> list[Part]:
    """Group draws into one part per policy; the first draw has the index `first`."""
    parts: list[Part] = []
    for policy, count in Counter(policies).items():
        parts.append(Part(policy, first, count))
        first += count
    return parts


def seed_of_choice(seed: int, choice: int) -> int:
    """Return the seed of a choice, below 2⁶³.

    The first choice keeps the seed of its request, so that n = 1 and choice 0 of n = 8 agree. The others are hashed:
    counting up would make requests with neighbouring seeds share samples.
    """
    if choice == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{choice}".encode()).digest()[:8]) >> 1
