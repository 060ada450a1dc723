"""How precisely the judge enforces limits, and how well its workers run in parallel.

Parallel workers are measured by the wall clock, so these two rows are meaningful on idle cores only.
"""

import os
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from measure import Row, one_core
from sides import check
from workload import Sample, mixed

from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Problem, Program, Test, Verdict

_SPINNERS_LIMITS_S = (0.1, 0.2, 0.5, 1.0)
_SLEEPERS, _SLEEP_S = 8, 3
_ROUNDS = 3


def rows() -> list[Row]:
    """Measure all rows; two workers need two cores."""
    return [_spinners(), _sleepers(), *([_two_workers()] if len(os.sched_getaffinity(0)) > 1 else [])]


def _problem(name: str, time_limit_s: float = 2.0) -> Problem:
    return Problem(id=name, statement="", tests=(Test(input="", output=""),), time_limit_s=time_limit_s)


def _spinners() -> Row:
    """Measure the maximum CPU time beyond its limit that a spinning program gets."""
    with one_core(), Judge() as judge:
        over_s = [
            judge.submit(_problem("spin", limit_s), Program("while True: pass\n")).result().cpu_s - limit_s
            for limit_s in _SPINNERS_LIMITS_S
        ]
    limits = ", ".join(f"{limit_s:g}" for limit_s in _SPINNERS_LIMITS_S)
    most = f"{1000 * max(over_s):.0f} ms"
    return Row(f"judge: CPU beyond its limit ({limits} s) of a spinning program, the most", most, "", most, "≤ 20 ms")


def _sleepers() -> Row:
    """Let programs sleep on one worker: if the wall time is below twice their time, they all overlap."""
    samples = [
        Sample(_problem("sleep", 10), Program(f"import time\ntime.sleep({_SLEEP_S})  # {serial}\n"), Verdict.AC)
        for serial in range(_SLEEPERS)
    ]
    with one_core(), Judge(workers=1) as judge:
        wall_s = _wall_s(judge, samples)
    one_by_one_s = _SLEEPERS * _SLEEP_S
    what = f"judge: {_SLEEPERS} programs that sleep {_SLEEP_S} s, one worker on one core, by wall clock"
    result, target = f"{one_by_one_s / wall_s:.1f} ×", f"> {_SLEEPERS // 2} ×"
    return Row(what, f"{wall_s:.2f} s", f"{one_by_one_s} s one by one", result, target)


def _two_workers() -> Row:
    """Compare two processes, as in `alphamix grade --workers 2`, with one; each judges the whole mix."""
    pairs = [(max(_side_by_side(2)), max(_side_by_side(1))) for _ in range(_ROUNDS)]
    num_programs = len(mixed())
    two_s, one_s = (statistics.median(side) for side in zip(*pairs, strict=True))
    two, one = (f"{number * num_programs / wall_s:.0f} programs / s" for number, wall_s in ((2, two_s), (1, one_s)))
    ratio = statistics.median(2 * one_s / two_s for two_s, one_s in pairs)
    return Row("judge: the mix, two workers against one, by wall clock", two, one, f"{ratio:.2f} ×", "≥ 1.9 ×")


def _side_by_side(workers: int) -> list[float]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_judge_mix, range(workers)))


def _judge_mix(_worker: int) -> float:
    with Judge() as judge:
        return _wall_s(judge, mixed())


def _wall_s(judge: Judge, samples: Sequence[Sample]) -> float:
    start_s = time.perf_counter()
    check(judge, samples)
    return time.perf_counter() - start_s
