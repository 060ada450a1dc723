"""Sampling from a URL, compared with a bare asyncio loop that sends the same requests: `python sampling.py`.

Writes `docs/benchmarks_sampling.md`.

The server answers at once, in its own process on its own core; the client has another core. Both sides request one
sample at a time with the official client on aiohttp. Rates are compared in pairs, ours and the bare loop alternately.
The cost of a sample and the memory are those of a whole run (engine, store, grading by a judge that accepts everything)
with n = 50.
"""

import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
from measure import Row, write_page

from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.run.executor import Executor
from alphamix.ensemble.run.slots import plan_slots
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.grading.types import Judgement, Verdict
from alphamix.policies.engines.openai import fake_server
from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import Completion, Request, SamplingParameters

_PAIRS = 5
_TEXT = "```python\n# {seed}\n" + "\n".join(f"value_{i} = sum(range({i * 7919 % 1009}))" for i in range(40)) + "\n```"
"""Each choice: a program of about 1,500 characters with its seed."""
_MESSAGES: Any = [{"role": "user", "content": "Print the sum. " * 20}]
_SIZES = 10_000, 50_000, 200_000
"""Number of samples of the runs whose memory is compared."""
_PROBLEMS = 20
_ROUNDS = 3
_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks_sampling.md"
_HEAD = """# Benchmarks of sampling from a URL

Made by `python benchmarks/sampling.py` on {day}: {cores} cores, {machine}, Python {python}. The server answers at once,
on its own core; the client has another. Samples per second: median ratio of {pairs} pairs, ours and the bare loop
alternately, one sample per request; the best of each side is shown. CPU and memory are those of whole runs (engine,
store, a judge that accepts everything) with n = 50, each in a separate process; CPU is the best of {rounds}. The load
average was {load:.0f} at the end: above two, other work shares the machine; rates are then noise, and only CPU can be
compared.

| what | ours | bare loop | result | target |
|---|---|---|---|---|
"""


@contextmanager
def server() -> Generator[str]:
    """Run the server on the last core and yield its URL; this process stays on the first core."""
    *_, last = cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    command = [sys.executable, "-m", fake_server.__name__, "--text", _TEXT]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    os.sched_setaffinity(process.pid, {last})
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def bare(url: str, samples: int, in_flight: int) -> None:
    """Send the requests with a fixed number of workers, the simplest loop that one would write."""

    async def main() -> None:
        client = openai.AsyncOpenAI(base_url=url, api_key="none", http_client=openai.DefaultAioHttpClient())
        seeds = iter(range(samples))

        async def worker() -> None:
            for seed in seeds:
                reply = await client.chat.completions.create(
                    model="m", messages=_MESSAGES, seed=seed, temperature=1.0, top_p=1.0, max_tokens=512
                )
                assert reply.choices[0].message.content

        await asyncio.gather(*(worker() for _ in range(in_flight)))
        await client.close()

    asyncio.run(main())


def ours(url: str, samples: int, in_flight: int) -> None:
    """Send the same requests through the engine."""
    engine = OpenAIEngine(url, "m", None, EngineOptions(concurrency=in_flight, choices=1))
    parameters = SamplingParameters(1.0, 1.0, 512)
    requests = [Request(_MESSAGES, seed, parameters) for seed in range(samples)]
    assert all(isinstance(reply.outcome, Completion) for reply in engine.sample(requests))
    engine.close()


def rate(ask: Any, *arguments: Any) -> float:
    """Return the samples per second."""
    begun = time.perf_counter()
    ask(*arguments)
    return arguments[1] / (time.perf_counter() - begun)


def used(url: str) -> Row:
    """Compare the CPU per sample of both sides, which does not depend on other work of the machine."""
    samples, in_flight = 1000, 32
    sides = [[_cpu_ms(ask, url, samples, in_flight) for _ in range(_ROUNDS)] for ask in (ours, bare)]
    mine, other = map(min, sides)
    what = f"CPU per sample, {in_flight} in flight, one per request"
    return Row(what, f"{mine:.2f} ms", f"{other:.2f} ms", f"{other / mine:.2f}")


def _cpu_ms(ask: Any, url: str, samples: int, in_flight: int) -> float:
    begun_s = time.process_time()
    ask(url, samples, in_flight)
    return 1000 * (time.process_time() - begun_s) / samples


class _Judge:
    def submit(self, problem: Any, program: Any) -> "Future[Judgement]":
        future: Future[Judgement] = Future()
        future.set_result(Judgement(Verdict.AC, 1, 1, None, 0.0, 0.0, ""))
        return future

    def describe(self) -> dict[str, Any]:
        return {}


def _ignore(*_: object) -> None:
    """Do nothing."""


class _Silent:
    def __getattr__(self, name: str) -> Any:
        return _ignore


def whole_run(url: str, samples: int, choices: int) -> tuple[float, float]:
    """Return the CPU milliseconds per sample and the peak memory in MB of a run of one policy on 20 problems."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        problems = (
            {"id": f"p{i}", "statement": "Print the sum. " * 20, "tests": [{"input": "", "output": ""}]}
            for i in range(_PROBLEMS)
        )
        (root / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        (root / "policies.toml").write_text(f'[policies.m]\nurl = "{url}"\nmodel = "m"\n')
        (root / "trial.toml").write_text(
            'name = "trial"\n[problems]\nfile = "problems.jsonl"\n[policies]\nfile = "policies.toml"\n'
            f"[sampling]\nchoices = {choices}\n[budget]\nsamples = {samples // _PROBLEMS}\n"
        )
        inputs = read_inputs(load(root / "trial.toml"))
        with Store(root / STORE_NAME) as store:
            store.plan(plan_slots(["m"], inputs.design.problems, samples // _PROBLEMS, 0), {"made": "here"})
            judge: Any = _Judge()
            monitor: Any = _Silent()
            begun_s = time.process_time()
            assert not Executor(store, inputs.sampling, {}, judge, monitor).fill().is_anything
            cpu_s = time.process_time() - begun_s
    return 1000 * cpu_s / samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _apart(url: str, samples: int, choices: int) -> tuple[float, float]:
    """Call `whole_run` in a separate process, so that its memory can be measured."""
    command = [sys.executable, __file__, url, str(samples), str(choices)]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(told[0]), float(told[1])


def rows() -> Iterator[Row]:
    """Measure all rows."""
    with server() as url:
        for in_flight, samples in ((1, 1000), (32, 3000), (256, 3000)):
            pairs = [(rate(ours, url, samples, in_flight), rate(bare, url, samples, in_flight)) for _ in range(_PAIRS)]
            ratio = statistics.median(mine / other for mine, other in pairs)
            mine, bare_one = (f"{max(column):,.0f}" for column in zip(*pairs, strict=True))
            yield Row(f"samples per second, {in_flight} in flight", mine, bare_one, f"{ratio:.2f}", "≥ 0.95")
        yield used(url)
        cost = min(_apart(url, _SIZES[1], 50)[0] for _ in range(_ROUNDS))
        peaks = {size: _apart(url, size, 50)[1] for size in _SIZES}
    yield Row(f"own CPU per sample, {_SIZES[1]:,} samples", f"{cost:.3f} ms", "", "", "≤ 0.3 ms")
    shown = ", ".join(f"{peak:.0f} MB" for peak in peaks.values())
    growth = 2**20 * (peaks[_SIZES[-1]] - peaks[_SIZES[1]]) / (_SIZES[-1] - _SIZES[1])
    sizes = ", ".join(f"{size:,}" for size in _SIZES)
    yield Row(f"peak memory, {sizes} samples", shown, "", f"{growth:+.0f} bytes for each further sample", "flat")


def main() -> None:
    """Print and write the table."""
    lines = [*rows()]  # before the head, whose load average is that of the end
    write_page(_PAGE, _HEAD, lines, pairs=_PAIRS, rounds=_ROUNDS, load=os.getloadavg()[0])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(*whole_run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    else:
        main()
