"""The clock of idle seconds, on a CPU that more processes want than it can serve."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack

from alphamix.grading.sandbox.meters import CpuClock, IdleClock


def start(stack: ExitStack, program: str, nice: int) -> int:
    code = f"import os, time\nos.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])\nos.nice({nice})\n{program}"
    process = stack.enter_context(subprocess.Popen([sys.executable, "-S", "-c", code], stdout=subprocess.PIPE))
    stack.callback(process.kill)
    assert process.stdout is not None
    process.stdout.readline()
    return process.pid


def test_a_process_that_waits_for_a_cpu_is_not_idle() -> None:
    spin = "print(flush=True)\nwhile True: pass"
    with ExitStack() as stack:
        pid = start(stack, spin, 19)
        for _ in range(4):
            start(stack, spin, 0)
        idle, until = IdleClock(pid, CpuClock(pid)), time.monotonic() + 1
        while time.monotonic() < until:
            assert idle.read() < 0.05
            time.sleep(0.02)


def test_a_process_that_sleeps_is_idle() -> None:
    with ExitStack() as stack:
        pid = start(stack, "print(flush=True)\ntime.sleep(1000)", 0)
        idle, began = IdleClock(pid, CpuClock(pid)), time.monotonic()
        while idle.read() < 0.3:
            time.sleep(0.02)
        assert time.monotonic() - began >= 0.3
