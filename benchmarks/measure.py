"""What all benchmarks share: CPU seconds of this process and its ended children, and rows of ratios."""

import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is how many times less CPU ours takes than the other side."""

    what: str
    ours: str
    other: str
    ratio: float


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds, user and system, of `work` and of the children that it waited for."""
    before = _used()
    work()
    return _used() - before


def compare(what: str, unit: str, per: int, ours: Callable[[], object], other: Callable[[], object]) -> Row:
    """Run both sides in turn, three times, and take the median of the paired ratios.

    Args:
        what: The comparison, in words.
        unit: What one piece of work is.
        per: Pieces of work in each call.
        ours: Our side.
        other: The named peer or limit.
    """
    pairs = [(cpu_s(ours) / per, cpu_s(other) / per) for _ in range(3)]
    our_s, other_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(other / our for our, other in pairs)
    return Row(what, f"{1000 * our_s:.3g} ms / {unit}", f"{1000 * other_s:.3g} ms / {unit}", ratio)


def _used() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
