"""Settings that run code: what a call, an attempt and many open attempts cost. Writes `docs/benchmarks_settings.md`.

    python benchmarks/settings.py

CPU is that of this process and everything that it starts. A call's is the slope between few calls and many.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from measure import Row, alternate, cpu_s, median_difference, milliseconds, write_page

from alphamix.ensemble.settings.agent import AgenticCoding, TerminalAgent
from alphamix.ensemble.settings.interleave import interleave
from alphamix.ensemble.settings.loop import Ask, Steps
from alphamix.ensemble.settings.task import Agent, AgentLimits, Task
from alphamix.ensemble.store import Sample, Slot
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallLimits, CallResult, Workspace, WorkspacePool
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.types import Completion, Request, SamplingParameters, ToolCall

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks_settings.md"
_HEAD = """# Benchmarks of tools and agents

Made by `python benchmarks/settings.py` on {day}: {cores} cores, {machine}, Python {python}. CPU seconds are user and
system time of the trusted side, the broker and everything in the workspaces, medians of three paired runs. The load
average was {load:.1f} at the end: above {cores}, other work shares the machine, which slows all down and makes wall
times upper bounds. What is measured: [workspaces](workspace.md) and the setting
[`agent`](settings.md#agents).

| what | ours | other | result | target |
|---|---|---|---|---|
"""
_FEW, _MANY = 10, 60
_ATTEMPTS = 64
_OPEN = 1000
_PATIENT = CallLimits(cpu_s=60.0, wall_s=6000.0)
_NUMBER = "print(7)"
_SHELL = f"python3 -c '{_NUMBER}'"
_SHELL_OUTSIDE = f"{Path(sys.executable).resolve()} -c '{_NUMBER}'"


def main() -> None:
    """Print and write the table."""
    kernel = ("Slab", "KernelStack", "PageTables", "Shmem")
    lines = [
        _call("a Python call that prints a number, variables kept", lambda w: w.run_python(_NUMBER, _PATIENT).result()),
        _call(
            "a Python call that prints a number, in a new interpreter",
            lambda w: w.run_python(_NUMBER, _PATIENT).result(),
            keeps_variables=False,
        ),
        _call(f"`{_SHELL}`, against bash without walls", lambda w: w.run(_SHELL, _PATIENT).result(), _SHELL_OUTSIDE),
        _call("`true`, against bash without walls", lambda w: w.run("true", _PATIENT).result(), "true"),
        _call("the same after a rest", _after_rest, "true", target="≤ 20 ms"),
        *_open_and_close(),
        _many_at_once(),
        _many_open(kernel),
    ]
    write_page(_PAGE, _HEAD, lines, load=os.getloadavg()[0])


def _call(
    what: str,
    call: Callable[[Workspace], CallResult],
    plain: str | None = None,
    *,
    keeps_variables: bool = True,
    target: str = "≤ 5 ms",
) -> Row:
    """Compare a call with bash alone, or with the code in an interpreter that runs already, which takes no time."""

    def ours(count: int) -> None:
        with WorkspacePool() as pool, pool.open(keeps_variables=keeps_variables) as workspace:
            for _ in range(count):
                assert call(workspace).ended == "ok"

    def other(count: int) -> None:
        for _ in range(count if plain is not None else 0):
            subprocess.run(["bash", "-c", plain or ""], stdout=subprocess.PIPE, check=True)

    def slope(side: Callable[[int], None]) -> float:
        return cpu_s(lambda: side(_MANY)) - cpu_s(lambda: side(_FEW))

    pairs = alternate(lambda: slope(ours), lambda: slope(other))
    result = f"{1000 * median_difference(pairs) / (_MANY - _FEW):.2f} ms more"
    ours_each, other_each = milliseconds(pairs, _MANY - _FEW, "call")
    return Row(what, ours_each, other_each if plain is not None else "an interpreter that runs", result, target)


def _after_rest(workspace: Workspace) -> CallResult:
    result = workspace.run("true", _PATIENT).result()
    workspace.rest()
    return result


def _open_and_close() -> Iterator[Row]:
    """Measure a workspace from opening to closing, with a file written, so that its walls are up."""
    with WorkspacePool() as pool:
        pool.check()

        def once() -> float:
            start_s = time.perf_counter()
            with pool.open() as workspace:
                workspace.write("a", b"").result()
            return time.perf_counter() - start_s

        walls_s = [once() for _ in range(_MANY)]
    what = "open a workspace, write a file, close it: wall time, the median and the fastest"
    shown = f"{1000 * statistics.median(walls_s):.1f} ms, {1000 * min(walls_s):.1f} ms"
    yield Row(what, shown, "", shown.partition(",")[0], "≤ 20 ms")

    def several(count: int) -> None:
        with WorkspacePool() as pool:
            for _ in range(count):
                with pool.open() as workspace:
                    workspace.write("a", b"").result()

    costs_s = [cpu_s(lambda: several(_MANY)) - cpu_s(lambda: several(_FEW)) for _ in range(3)]
    each = f"{1000 * statistics.median(costs_s) / (_MANY - _FEW):.2f} ms"
    yield Row("the same: CPU", each, "", each, "")


def _many_at_once() -> Row:
    """Let agents with a scripted model work side by side: each writes a program, tests it, mends it, and submits."""
    own_s: list[float] = []

    class Metered(WorkspacePool):
        """Notes the CPU time of the programs themselves."""

        def open(self, *args: Any, **kwargs: Any) -> Workspace:
            workspace = super().open(*args, **kwargs)
            run = workspace.run

            def run_and_note(*args: Any, **kwargs: Any) -> "Future[CallResult]":
                running = run(*args, **kwargs)
                running.add_done_callback(lambda done: own_s.append(done.result().cpu_s))
                return running

            workspace.run = run_and_note  # pyright: ignore[reportAttributeAccessIssue]
            return workspace

    def answer(request: Request) -> Completion:
        turn = sum(message["role"] == "assistant" for message in request.prompt)  # pyright: ignore
        return Completion("", "tool_calls", 0, 1, 0.0, "empty", tool_calls=(_SCRIPT[turn],))

    def work() -> None:
        with Metered() as pool:
            _attempt_all(AgenticCoding(pool, TerminalAgent, _LIMITS), answer, _ATTEMPTS)

    total_s = cpu_s(work)
    share = 1 - sum(own_s) / total_s
    what = f"{_ATTEMPTS} agents with a scripted model at once, {len(_SCRIPT)} turns each: CPU of all, of programs alone"
    per = 1000 / _ATTEMPTS
    ours, other = f"{per * total_s:.0f} ms / attempt", f"{per * sum(own_s):.0f} ms / attempt"
    return Row(what, ours, other, f"the sandbox and the loop take {share:.0%}")


def _call_of(name: str, **arguments: str) -> ToolCall:
    return {"id": "call", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


_SCRIPT = [
    _call_of("write", path="a.py", text="print(max(map(int, input().split())))"),
    _call_of("test", path="a.py"),
    _call_of("bash", command="ls -l; cat a.py"),
    _call_of("edit", path="a.py", old="max", new="sum"),
    _call_of("test", path="a.py"),
    _call_of("submit", path="a.py"),
]
_TESTS = [{"input": f"{n} {n + 1}", "output": str(2 * n + 1)} for n in range(3)]
_PROBLEM = Problem(id="sum", statement="Add two numbers.", tests=_TESTS, public_tests=3, time_limit_s=60)
_LIMITS = AgentLimits(call=_PATIENT)


def _attempt_all(setting: AgenticCoding, answer: Callable[[Request], Completion], count: int) -> None:
    """Make all attempts at once. Each has to submit something."""
    slots = [Slot(number, "scripted", "sum", number, number) for number in range(count)]
    with closing(ScriptedEngine(answer).open_session()) as session:
        parameters = SamplingParameters()
        for sample in interleave(session, setting, slots, {"sum": _PROBLEM}, parameters, most_requests=2 * count):
            assert isinstance(sample, Sample), sample
            assert sample.transcript is not None
            assert sample.transcript.ending == "submitted"


def _many_open(kernel: tuple[str, ...]) -> Row:
    """Measure the memory of attempts that have run a command and wait, as they wait for an answer."""
    go_on: Future[None] = Future()
    mb: list[float] = []
    num_waiting = 0

    class Waiting:
        """Agent that waits until all have run their command."""

        def run(self, task: Task) -> Steps[str]:
            nonlocal num_waiting
            yield Ask([{"role": "user", "content": task.prompt}])
            yield from task.bash("echo 1 > a")
            num_waiting += 1
            if num_waiting == _OPEN:
                mb.append((_meminfo_kb(kernel) + _processes_kb() - before_kb) / 1000)
                go_on.set_result(None)
            yield go_on
            return "a"

    def make() -> Agent:
        return Waiting()

    with WorkspacePool() as pool:
        pool.check()
        before_kb = _meminfo_kb(kernel) + _processes_kb()
        _attempt_all(AgenticCoding(pool, make, _LIMITS), lambda _: Completion("", "stop", 0, 1, 0.0), _OPEN)
    what = f"{_OPEN:,} open attempts, each after a command: memory of processes, of the kernel and of files"
    return Row(what, f"{mb[0]:.0f} MB", "", f"{mb[0]:.0f} MB", "≤ 1,000 MB")


def _meminfo_kb(names: tuple[str, ...]) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.partition(":")[0] in names)


def _processes_kb() -> int:
    """Return the memory of this process and all below it, with shared pages divided among those that share them."""
    total_kb, pending = 0, [os.getpid()]
    while pending:
        process = pending.pop()
        with suppress(OSError):  # it has ended
            for task in Path(f"/proc/{process}/task").iterdir():
                pending += map(int, (task / "children").read_text().split())
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total_kb += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total_kb


if __name__ == "__main__":
    main()
