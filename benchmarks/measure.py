"""What all benchmarks share: CPU seconds of this process and everything below it, and rows of ratios."""

import ctypes
import os
import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Row:
    """One comparison. `ratio` is how many times less CPU ours takes than the other side."""

    what: str
    ours: str
    other: str
    ratio: float


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds, user and system, of `work` and of all processes that it started, which must end with it."""
    # A sandbox leaves an orphan when it is killed. Only processes that are waited for are counted, so adopt them.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before = _used()
    work()
    while _has_child():
        pass
    return _used() - before


def _has_child() -> bool:
    try:
        os.wait()
    except ChildProcessError:
        return False
    return True


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
