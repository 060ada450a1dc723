"""The record of a run: 1,000,000 samples are planned, stored, opened, and counted.

Writes `docs/benchmarks_store.md`. Each step on the full record runs in its own process, so that its peak memory can be
measured. Texts are pieces of the standard library's sources.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import Row, write_page

from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.store import STORE_NAME, Graded, Sample, Slot, Store
from alphamix.ensemble.store.rows import compress
from alphamix.grading.types import Failure, Judgement, Verdict
from alphamix.policies.types import Completion

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks_store.md"
_HEAD = """# Benchmarks of a run's record

Made by `python benchmarks/store.py` on {day}: {cores} cores, {machine}, Python {python}. A run of {samples:,} samples:
{policies} policies × {problems} problems × {draws} draws, 2 % still owed. The figures are CPU seconds, the best of
three for steps that write nothing. The peak is the resident memory of a whole process that does nothing else.

| what | ours | other | result | target |
|---|---|---|---|---|
"""
_POLICIES, _PROBLEMS, _DRAWS = 5, 800, 250
_NUM_SLOTS = _POLICIES * _PROBLEMS * _DRAWS
_TEXT_BYTES = 600
_BATCH = 500
_ABOUT = {"sampling.setting": '"reasoning"', **{f"policies.alpha@+{m}.00": "hash" for m in range(_POLICIES)}}
_STEPS: dict[str, tuple[str, Callable[[Store], object]]] = {
    "open": ("open it", lambda store: store.about()),
    "progress": ("count what is planned, sampled and graded", lambda store: store.progress()),
    "owed": ("list what it owes", lambda store: [store.owed(policy) for policy in store.progress().index]),
    "count": ("count its outcomes", lambda store: count_outcomes(store)),
    "level": ("count its outcomes at coverage level 0.5", lambda store: count_outcomes(store, 0.5)),
}


def rows(folder: Path) -> list[Row]:
    """Make a record in a folder, and measure every operation on it."""
    with Store(folder / STORE_NAME) as store:
        planned_s = _cpu_s(lambda: store.plan(_slots(), _ABOUT))
        sampled_s, graded_s = _fill(store)
    size = (folder / STORE_NAME).stat().st_size
    made = [
        Row("plan its slots", f"{planned_s:.1f} s", "", f"{1e6 * planned_s / _NUM_SLOTS:.1f} µs / slot", "seconds"),
        Row(f"store samples, {_BATCH} at once", f"{sampled_s:.1f} s", "", _per_sample(sampled_s)),
        Row(f"store verdicts, {_BATCH} at once", f"{graded_s:.1f} s", "", _per_sample(graded_s)),
        Row("its size", f"{size / 1e6:.0f} MB", f"{_NUM_SLOTS * _TEXT_BYTES / 1e6:.0f} MB of text", ""),
    ]
    return [*made, *(_step(folder, name) for name in _STEPS), *_compression()]


def _step(folder: Path, name: str) -> Row:
    measured = [
        subprocess.run([sys.executable, __file__, name, str(folder)], capture_output=True, text=True, check=True).stdout
        for _ in range(3)
    ]
    cpu_s = min(float(line.split()[0]) for line in measured)
    peak_mb = max(float(line.split()[1]) for line in measured)
    return Row(_STEPS[name][0], f"{cpu_s:.2f} s", "", f"peak {peak_mb:.0f} MB", "seconds, < 500 MB")


def _measure_step(name: str, folder: Path) -> None:
    """Print the CPU seconds of a step and the peak memory of this process in MB."""

    def work() -> None:
        with Store(folder / STORE_NAME) as store:
            _STEPS[name][1](store)

    cpu_s = _cpu_s(work)
    (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    print(cpu_s, int(peak.split()[1]) / 1024)


def _fill(store: Store) -> tuple[float, float]:
    """Store 98 % of the samples and verdicts; return the CPU seconds of storing each, without those of making them."""
    sampled_s = graded_s = 0.0
    texts = _texts(1000)
    for first in range(0, _NUM_SLOTS, _BATCH):
        slots = [slot for slot in _some_slots(first) if slot.number % 50]
        samples = [Sample(slot, Completion(texts[slot.number % 1000], "stop", 300, 200, 2.5), 1.0) for slot in slots]
        sampled_s += _cpu_s(lambda samples=samples: store.add_samples(samples))
        graded = [_graded(slot) for slot in slots]
        graded_s += _cpu_s(lambda graded=graded: store.add_verdicts(graded, '{"version": "3"}'))
    return sampled_s, graded_s


def _graded(slot: Slot) -> Graded:
    num_tests = 10 + slot.number % 90
    if slot.number % 3:
        judgement = Judgement(Verdict.WA, slot.number % 10, num_tests, slot.number % 10, 0.1, 20.0, "answered 3, not 4")
        return Graded(slot, judgement, Failure.CORRECTNESS)
    return Graded(slot, Judgement(Verdict.AC, num_tests, num_tests, None, 0.1, 20.0), None)


def _slots() -> Iterator[Slot]:
    for first in range(0, _NUM_SLOTS, _BATCH):
        yield from _some_slots(first)


def _some_slots(first: int) -> list[Slot]:
    return [
        Slot(
            number,
            f"alpha@+{number // (_PROBLEMS * _DRAWS)}.00",
            f"livecodebench/{number // _DRAWS % _PROBLEMS:04}",
            number % _DRAWS,
            number,
        )
        for number in range(first, first + _BATCH)
    ]


def _compression() -> Iterator[Row]:
    for size in (400, 2000, 50000):
        texts = _texts(200, size)
        (ours_s, ours), (other_s, other) = (_compressed(how, texts) for how in (compress, _zlib))
        yield Row(
            f"compress a text of {size:,} bytes, against zlib",
            f"{1000 * ours_s / len(texts):.3f} ms, to {ours:.0%}",
            f"{1000 * other_s / len(texts):.3f} ms, to {other:.0%}",
            f"{other_s / ours_s:.1f} ×",
        )


def _compressed(how: Callable[[str], bytes], texts: list[str]) -> tuple[float, float]:
    """Return the CPU seconds, and the compressed size as a share of the original."""
    cpu_s = min(_cpu_s(lambda: list(map(how, texts))) for _ in range(3))
    return cpu_s, sum(map(len, map(how, texts))) / sum(map(len, texts))


def _zlib(text: str) -> bytes:
    return zlib.compress(text.encode())


def _texts(count: int, size: int = _TEXT_BYTES) -> list[str]:
    sources = [path.read_text(encoding="utf-8") for path in sorted(Path(os.__file__).parent.glob("*.py"))]
    long_enough = [source for source in sources if source.isascii() and len(source) >= size]
    rng = random.Random(0)
    chosen = rng.choices(long_enough, k=count)
    return [source[start : start + size] for source in chosen for start in [rng.randrange(len(source) - size + 1)]]


def _cpu_s(work: Callable[[], object]) -> float:
    before_s = time.process_time()
    work()
    return time.process_time() - before_s


def _per_sample(cpu_s: float) -> str:
    return f"{1000 * cpu_s / (0.98 * _NUM_SLOTS):.3f} ms / sample"


def main() -> None:
    """Print and write the table."""
    if len(sys.argv) == 3:
        _measure_step(sys.argv[1], Path(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory() as folder:
        values = {"samples": _NUM_SLOTS, "policies": _POLICIES, "problems": _PROBLEMS, "draws": _DRAWS}
        write_page(_PAGE, _HEAD, rows(Path(folder)), **values)


if __name__ == "__main__":
    main()
