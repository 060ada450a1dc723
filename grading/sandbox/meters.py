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
    """Clock of the wall seconds, since its creation, that a process neither ran nor waited for a CPU.

    The clock stands still while a thread is runnable: the kernel tells how long a wait took once it has ended.
    """

    def __init__(self, pid: int, cpu_clock: CpuClock) -> None:
        self._pid = pid
        self._cpu_clock = cpu_clock
        self._waited_s: dict[str, float] = {}  # by thread, so that the waiting time of ended threads still counts
        self._start_s = time.monotonic() - cpu_clock.read() - self._read_waited()
        self._idle_s = 0.0

    def read(self) -> float:
        """Return the idle seconds."""
        now_s = time.monotonic()  # read first: what the process does while the rest is read only shortens the result
        if not self._is_runnable():
            self._idle_s = now_s - self._cpu_clock.read() - self._read_waited() - self._start_s
        return self._idle_s

    def _is_runnable(self) -> bool:
        with suppress(OSError, IndexError):
            for task in Path(f"/proc/{self._pid}/task").iterdir():
                if (task / "stat").read_text().rsplit(") ", 1)[1][0] == "R":
                    return True
        return False

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
