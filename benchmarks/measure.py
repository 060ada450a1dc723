"""What all benchmarks share: CPU seconds of this process and everything below it, and rows of results."""

import ctypes
import os
import statistics
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from side import used_cpu_s

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """One result: of a comparison, how many times less CPU ours takes than the other side; else as its unit says."""

    what: str
    ours: str
    other: str
    """The other side, or the limit."""
    result: str
    target: str = ""


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds, user and system, of `work` and of all processes that it started, which must end with it."""
    # A sandbox leaves an orphan when it is killed. Only processes that are waited for are counted, so adopt them.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before_s = used_cpu_s()
    work()
    while _has_child():
        pass
    return used_cpu_s() - before_s


def _has_child() -> bool:
    try:
        os.wait()
    except ChildProcessError:
        return False
    return True


@contextmanager
def one_core() -> Generator[None]:
    """Keep this thread, and the threads and processes that it starts meanwhile, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def alternate(ours: Callable[[], float], other: Callable[[], float]) -> list[tuple[float, float]]:
    """Run both sides in turn, three times, and return what they measured, in pairs."""
    return [(ours(), other()) for _ in range(_ROUNDS)]


def median_ratio(pairs: list[tuple[float, float]]) -> float:
    """Return the median of other / ours over the pairs."""
    return statistics.median(other / our for our, other in pairs)


def median_difference(pairs: list[tuple[float, float]]) -> float:
    """Return the median of ours - other over the pairs."""
    return statistics.median(our - other for our, other in pairs)


def milliseconds(pairs: list[tuple[float, float]], per: int, unit: str) -> tuple[str, str]:
    """Write the medians of both sides, in seconds for `per` pieces of work, as milliseconds for one."""
    ours, other = (f"{1000 * statistics.median(side) / per:.3g} ms / {unit}" for side in zip(*pairs, strict=True))
    return ours, other


def compare(what: str, unit: str, per: int, ours: Callable[[], object], other: Callable[[], object]) -> Row:
    """Compare the CPU seconds of two pieces of work, by the median of the paired ratios.

    Args:
        what: The comparison, in words.
        unit: What one piece of work is.
        per: Pieces of work in each call.
        ours: Our side.
        other: The named peer or limit.
    """
    pairs = alternate(lambda: cpu_s(ours), lambda: cpu_s(other))
    return Row(what, *milliseconds(pairs, per, unit), f"{median_ratio(pairs):.1f} ×")
