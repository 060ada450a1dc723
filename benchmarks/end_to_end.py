"""A run from end to end: a real vLLM server samples on one core while the judge grades on another.

`python end_to_end.py` writes `docs/benchmarks_end_to_end.md`. vLLM is in a separate environment, `.venv-vllm`, which
`make test-vllm` creates.

A run is as fast as the slower side, provided that this side is never idle. One side is the server with its descendants,
the other is this process (client, store, judge) with its sandboxes; each has its own core. CPU times are read from
/proc. On a machine with other work a side does not get its whole core, so a watcher also checks every 20 ms whether any
thread of the side runs or waits for a core; if one does, the side is busy.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import busy
import httpx
from busy import processes, tree
from measure import write_page

from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.run.executor import Executor
from alphamix.ensemble.run.slots import plan_slots
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.grading.judge.judge import Judge
from alphamix.policies.engines.vllm.server import VllmOptions, VllmServer

_ROOT = Path(__file__).parents[1]
_LADDER = _ROOT / "examples" / "ladder"
_PAGE = _ROOT / "docs" / "benchmarks_end_to_end.md"
_HEAD = """# A run from end to end

Made by `python benchmarks/end_to_end.py` on {day}: {cores} cores, {machine}, Python {python}, vLLM {vllm} on a CPU. The
ladder's {problems} problems × {samples} samples of one policy; the server has one core, and alphamix with the programs
under judgement has another. *CPU* is that of the server, or of alphamix with its sandboxes, as a share of the wall
time. *Busy* is the share of checks, every 20 ms, at which one of its threads ran or waited for its core (other work on
the machine takes CPU time from a side, but does not make it idle). The last samples are graded after sampling has
ended, so neither can reach 100 %. The load average was {load:.0f} at the end, so the rates are those of a shared
machine.

| run | samples | wall | samples / s | tokens / s | server: CPU, busy | ours: CPU, busy | the slower is busy | target |
|---|---|---|---|---|---|---|---|---|
"""
_INTERPRETER = _ROOT / ".venv-vllm" / "bin" / "python"
_IDLE_S = 5.0


def _ignore(*_: object) -> None:
    """Do nothing."""


class _Silent:
    def __getattr__(self, name: str) -> Any:
        return _ignore


@dataclass(frozen=True)
class Run:
    """What is sampled, and how often each test is repeated to make grading more expensive."""

    name: str
    samples: int
    temperature: float
    each_test: int = 1


@dataclass(frozen=True)
class Side:
    """What one side of a run used, as shares of the wall time."""

    cpu: float
    busy: float

    def __str__(self) -> str:
        return f"{self.cpu:.0%}, {self.busy:.0%}"


@contextmanager
def server(core: int) -> Generator[tuple[VllmServer, int]]:
    """Run a server of the ladder's `high` on one core; yield it with the root of its process tree."""
    allowed = os.sched_getaffinity(0)
    before = {one for one, (parent, *_) in processes().items() if parent == os.getpid()}
    os.sched_setaffinity(0, {core})
    options = VllmOptions(
        interpreter=str(_INTERPRETER),
        arguments=("--enforce-eager", "--max-num-batched-tokens", "16384"),  # no prompt in pieces: see docs/policies.md
        environment={"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1"},
    )
    started = VllmServer(_LADDER / "checkpoints" / "high", "high", options)
    os.sched_setaffinity(0, allowed - {core} or allowed)
    (guard,) = {one for one, (parent, *_) in processes().items() if parent == os.getpid()} - before
    try:
        yield started, guard
    except AssertionError:
        print(started.log.read_text(errors="replace")[-10_000:])
        raise
    finally:
        started.close()


def watched(guard: int, work: Callable[[], object]) -> tuple[float, list[Side]]:
    """Return the wall seconds of some work, and what the server and this process used during it."""
    command = [sys.executable, "-I", busy.__file__, str(guard), str(os.getpid())]
    watcher = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    watcher.stdout.readline()  # it looks
    before_s, begun = _cpu_s(guard, watcher.pid), time.monotonic()
    try:
        work()
        wall_s, after_s = time.monotonic() - begun, _cpu_s(guard, watcher.pid)
    finally:
        looks, *looks_busy = map(int, watcher.communicate()[0].split())
    sides = zip(before_s, after_s, looks_busy, strict=True)
    return wall_s, [Side((after - before) / wall_s, share / looks) for before, after, share in sides]


def measure(served: VllmServer, guard: int, run: Run) -> list[str]:
    """Fill one run while watching both sides; return the cells of its row."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["END_TO_END_KEY"] = served.api_key
        lines = map(json.loads, (_LADDER / "problems.jsonl").read_text().splitlines())
        problems = [one | {"tests": [test for test in one["tests"] for _ in range(run.each_test)]} for one in lines]
        (root / "problems.jsonl").write_text("".join(json.dumps(one) + "\n" for one in problems))
        (root / "policies.toml").write_text(
            f'[policies.high]\nurl = "{served.url}"\nmodel = "high"\napi_key_env = "END_TO_END_KEY"\n'
        )
        (root / "trial.toml").write_text(
            'name = "trial"\n[problems]\nfile = "problems.jsonl"\n[policies]\nfile = "policies.toml"\n'
            f'[sampling]\nprompt = "{{statement}}"\ntemperature = {run.temperature}\nmax_tokens = 192\n'
            f"[budget]\nsamples = {run.samples}\n"
        )
        inputs = read_inputs(load(root / "trial.toml"))
        with inputs.sampling.registry, Judge(workers=1) as judge, Store(root / STORE_NAME) as store:
            store.plan(plan_slots(["high"], inputs.design.problems, run.samples, 0), {"made": "here"})
            monitor: Any = _Silent()
            filling = Executor(store, inputs.sampling, {}, judge, monitor)
            wall_s, sides = watched(guard, filling.fill)
            progress = store.progress()
            count, tokens = int(progress["graded"].sum()), int(progress["tokens"].sum())
            assert count == progress["planned"].sum(), "something is owed"
    rates = [f"{count:,}", f"{wall_s:.0f} s", f"{count / wall_s:.0f}", f"{tokens / wall_s:,.0f}"]
    row = [run.name, *rates, *map(str, sides), f"{max(one.busy for one in sides):.0%}", "≥ 90 %"]
    print(*row, sep=" | ", flush=True)
    return row


def _cpu_s(guard: int, watcher: int) -> list[float]:
    known = processes()
    servers = tree(guard, known, set())
    ours = tree(os.getpid(), known, servers | {watcher})
    return [sum(known[one][2] for one in family if one in known) for family in (servers, ours)]


def main() -> None:
    """Print and write the table."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    runs = [
        Run("temperature 1", samples, 1.0),
        Run("temperature 2", samples, 2.0),
        Run("temperature 1, every test eight times", samples, 1.0, 8),
    ]
    first, *_ = sorted(os.sched_getaffinity(0))
    with server(first) as (served, guard):
        measure(served, guard, Run("warm up", 8, 1.0))
        idle_s, idle = watched(guard, lambda: time.sleep(_IDLE_S))
        rows = [["nothing, as a control", "0", f"{idle_s:.0f} s", "", "", *map(str, idle), "", ""]]
        print(*rows[0], sep=" | ", flush=True)
        rows += [measure(served, guard, run) for run in runs]
        version = httpx.get(f"{served.address}/version").json()["version"]
    write_page(
        _PAGE,
        _HEAD,
        (f"| {' | '.join(row)} |" for row in rows),
        vllm=version,
        problems=sum(1 for _ in (_LADDER / "problems.jsonl").open()),
        samples=samples,
        load=os.getloadavg()[0],
    )


if __name__ == "__main__":
    main()
