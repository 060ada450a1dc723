"""Measurements of a process from outside, by the kernel: CPU time, idle time, memory, out-of-memory kills.

The controller reads them while a program runs. None of them relies on the program.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from alphamix.grading.sandbox import cgroup

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") >> 10


class CpuClock:
    """Clock of the CPU seconds that a process has used, over all its threads (clock_getcpuclockid(3))."""

    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | 2
        self._latest_s = 0.0

    def read(self) -> float:
        """Return the CPU seconds so far, or the latest reading if the process has ended."""
        try:
            now_s = time.clock_gettime(self._clock)
        except OSError:
            return self._latest_s
        if now_s > self._latest_s:
            self._latest_s = now_s
        return self._latest_s


class IdleClock:
    """Clock of the wall seconds, since its creation, that a process neither ran nor waited for a CPU."""

    def __init__(self, pid: int, cpu_s: float) -> None:
        self._pid = pid
        self._waited_s: dict[str, float] = {}  # by thread, so that the waiting time of ended threads still counts
        self._start_s = time.monotonic() - cpu_s - self._read_waited()

    def read(self, cpu_s: float) -> float:
        """Return the idle seconds, given the CPU seconds on the same scale as at the creation."""
        return time.monotonic() - cpu_s - self._read_waited() - self._start_s

    def _read_waited(self) -> float:
        with suppress(OSError, IndexError):  # a thread may end while its file is read
            for task in Path(f"/proc/{self._pid}/task").iterdir():
                self._waited_s[task.name] = int((task / "schedstat").read_text().split()[1]) * 1e-9
        return sum(self._waited_s.values())


def resident_kb(pid: int) -> int:
    """Return the current resident memory of a process in KiB; 0 if it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB
    return 0


def count_oom_kills() -> int:
    """Return the number of out-of-memory kills of this kernel outside sandboxes; 0 if it does not report them."""
    in_sandboxes = cgroup.count_kills()
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count) - in_sandboxes
    return 0
