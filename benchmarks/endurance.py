"""Endurance of the judge: many programs leave nothing behind, and load changes no verdict."""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

from measure import Row
from workload import Sample, mixed

from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Program, Test, Verdict

_AT_ONCE = 500
"""Number of programs that wait in the judge's queue in a soak."""
_MARKS = (0.1, 0.7)
_LOOPS_PER_CORE = 4
_PLAIN_SHARE = 20
_LIMIT_S, _LIMIT_MB = 0.2, 64
_TESTS = tuple(Test(input=f"{n}\n", output=f"{n}\n") for n in (1, 2, 3))
_EXTREMES = {
    "while n > 1: pass": Verdict.TLE,
    "if n > 1: held = bytearray(512 << 20)": Verdict.MLE,
    "held = [[i] * 100 for i in range(10**6 * (n - 1))]": Verdict.MLE,
    "if n > 1: import time; time.sleep(60)": Verdict.ILE,
    "if n > 1: raise ValueError": Verdict.RE,
}
"""Programs that exceed a limit by far from the second test on."""


@dataclass(frozen=True)
class _Held:
    """Resources held by this process and its descendants."""

    own_mb: float
    sandbox_mb: float
    descriptors: int
    processes: int

    def __str__(self) -> str:
        return (
            f"{self.own_mb:.1f} + {self.sandbox_mb:.1f} MB, descriptors: {self.descriptors}, "
            f"processes: {self.processes}"
        )


def soak(num_programs: int) -> list[Row]:
    """Judge many programs, and compare the resources held during the run with those held at the end.

    The judge remembers the verdicts of up to 16,384 programs, some 350 bytes for each. This process grows by that, and
    a last time when the full table makes room for changes; anything else is a leak.
    """
    problem = Problem(id="double", statement="", tests=_TESTS)
    sources = (f"print(int(input()))  # {serial}\n" for serial in range(num_programs))
    marks = [round(share * num_programs) for share in (*_MARKS, 1)]
    held: list[_Held] = []
    with Judge() as judge:
        for done, mark in pairwise([0, *marks]):
            _accept(judge, problem, islice(sources, mark - done))
            held.append(_held())
    return [_growth(num_programs, mark, early, held[-1]) for mark, early in zip(marks, held[:-1], strict=False)]


def _growth(num_programs: int, mark: int, early: _Held, late: _Held) -> Row:
    what = f"judge: {num_programs:,} programs, held at the end and after {mark:,} (this process + sandbox)"
    growth = (
        f"{late.own_mb - early.own_mb:+.1f} and {late.sandbox_mb - early.sandbox_mb:+.1f} MB, "
        f"descriptors: {late.descriptors - early.descriptors:+d}, processes: {late.processes - early.processes:+d}"
    )
    return Row(what, str(late), str(early), growth, "none but verdicts remembered")


def _accept(judge: Judge, problem: Problem, sources: Iterator[str]) -> None:
    while some := list(islice(sources, _AT_ONCE)):
        futures = [judge.submit(problem, Program(source)) for source in some]
        if any(future.result().verdict is not Verdict.AC for future in futures):
            raise SystemExit("the judge rejected a right program: the benchmark means nothing")


def _held() -> _Held:
    own, below = os.getpid(), _descendants(os.getpid())
    descriptors = sum(map(_count_descriptors, [own, *below]))
    return _Held(_resident_mb(own), sum(map(_resident_mb, below)), descriptors, 1 + len(below))


def _descendants(pid: int) -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has just ended
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for parent in found:  # which grows meanwhile
        found += [child for child, its_parent in parents.items() if its_parent == parent]
    return found[1:]


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _count_descriptors(pid: int) -> int:
    try:
        return len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except PermissionError:  # a sandbox hides its own from all but root
        return 0


def steady(num_runs: int) -> Row:
    """Judge the same programs repeatedly while every core is overloaded, and count the verdicts that change."""
    samples = [*mixed()[::_PLAIN_SHARE], *_extremes()]
    with _load():
        runs = [_verdicts(samples) for _ in range(num_runs)]
    intended = [sample.verdict for sample in samples]
    changed = sum(verdict is not right for run in runs for verdict, right in zip(run, intended, strict=True))
    what = (
        f"judge: other verdicts than intended, {len(samples)} programs, {num_runs} runs, load {_LOOPS_PER_CORE} × cores"
    )
    return Row(what, f"{changed} of {num_runs * len(samples)}", "", str(changed), "0")


def _extremes() -> list[Sample]:
    limits = {"time_limit_s": _LIMIT_S, "memory_limit_mb": _LIMIT_MB}
    problem = Problem.model_validate({"id": "extremes", "statement": "", "tests": _TESTS, **limits})
    source = "n = int(input())\n{line}\nprint(n)\n"
    return [Sample(problem, Program(source.format(line=line)), verdict) for line, verdict in _EXTREMES.items()]


def _verdicts(samples: list[Sample]) -> list[Verdict]:
    with Judge(workers=os.cpu_count() or 1) as judge:
        return [future.result().verdict for future in [judge.submit(s.problem, s.program) for s in samples]]


@contextmanager
def _load() -> Generator[None]:
    command = [sys.executable, "-c", "while True: pass"]
    loops = [subprocess.Popen(command) for _ in range(_LOOPS_PER_CORE * (os.cpu_count() or 1))]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
