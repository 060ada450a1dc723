"""Allocations: whole numbers of samples per policy whose sum is the budget.

Here weights become whole numbers. Which weights are best is the business of `mixture`.
"""

from collections.abc import Mapping
from fractions import Fraction


def apportion(weights: Mapping[str, float], total: int, turn: int = 0) -> dict[str, int]:
    """Split `total` samples over policies in proportion to `weights`, by largest remainder.

    Each policy gets the floor of its share; what is left goes, one each, to the largest remainders. `turn` starts at 0
    and counts calls: the totals handed out after turns 0..t are themselves the largest-remainder split of
    (t + 1)·total, up to one sample, so that long-run shares equal the weights although each answer is whole.

    Raises ValueError when a weight is negative or not finite, when all are zero, or when `total` is negative.
    """
    if total < 0:
        raise ValueError(f"cannot split {total} samples: a budget is 0 or more")
    if not weights or any(not 0 <= w < float("inf") for w in weights.values()) or sum(weights.values()) == 0:
        raise ValueError(f"weights must be finite, 0 or more, and not all 0; got {dict(weights)}")
    after = _cumulative(weights, (turn + 1) * total)
    before = _cumulative(weights, turn * total)
    return {name: after[name] - before[name] for name in weights}


def _cumulative(weights: Mapping[str, float], total: int) -> dict[str, int]:
    exact = {name: Fraction(w) for name, w in weights.items()}
    scale = total / sum(exact.values(), Fraction(0))
    shares = {name: w * scale for name, w in exact.items()}
    counts = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(weights, key=lambda name: counts[name] - shares[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts
