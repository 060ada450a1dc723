"""What all benchmarks share: CPU seconds of this process and its descendants, rows of results, and pages of rows."""

import ctypes
import os
import platform
import statistics
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from side import used_cpu_s

_PR_SET_CHILD_SUBREAPER = 36
_ROUNDS = 3


@dataclass(frozen=True)
class Row:
    """One line of a table of results. In a comparison the result is CPU of the other side / CPU of ours."""

    what: str
    ours: str
    other: str
    """The other side, or the limit."""
    result: str
    target: str = ""

    def __str__(self) -> str:
        """Return the line as Markdown."""
        return f"| {self.what} | {self.ours} | {self.other} | {self.result} | {self.target} |"


def write_page(page: Path, head: str, lines: Iterable[object], **values: object) -> None:
    """Print a page of results and write it to a file.

    Args:
        page: The file.
        head: Everything above the lines of the table. Its fields are {day}, {cores}, {machine}, {python} and `values`.
        lines: The lines of the table, as Markdown.
        values: Values for further fields of the head.
    """
    filled = head.format(
        day=date.today().isoformat(),
        cores=os.cpu_count(),
        machine=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        **values,
    )
    text = filled + "".join(f"{line}\n" for line in lines)
    page.write_text(text, encoding="utf-8")
    print(text)


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds (user and system) of `work` and the processes that it starts, which must end with it."""
    # A killed sandbox leaves an orphan. The kernel counts only processes that were waited for, so adopt orphans.
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
    """Keep this thread, and the threads and processes that it starts in the block, on one core."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def alternate(ours: Callable[[], float], other: Callable[[], float]) -> list[tuple[float, float]]:
    """Run both sides alternately, three times, and return the pairs of what they measured."""
    return [(ours(), other()) for _ in range(_ROUNDS)]


def median_ratio(pairs: list[tuple[float, float]]) -> float:
    """Return the median of other / ours over the pairs."""
    return statistics.median(other / our for our, other in pairs)


def median_difference(pairs: list[tuple[float, float]]) -> float:
    """Return the median of ours - other over the pairs."""
    return statistics.median(our - other for our, other in pairs)


def milliseconds(pairs: list[tuple[float, float]], per: int, unit: str) -> tuple[str, str]:
    """Format the medians of both sides, given in seconds for `per` pieces of work, as milliseconds per piece."""
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
