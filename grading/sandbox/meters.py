"""What the kernel tells about a process from outside: CPU time, idleness, memory, out-of-memory kills.

Read by the controller while a program runs; nothing here trusts the program.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from alphamix.grading.sandbox import cgroup

_PAGE_KB = os.sysconf("SC_PAGE_SIZE") >> 10


class CpuClock:
    """CPU seconds that a process has used, over all its threads (clock_getcpuclockid(3))."""

    def __init__(self, pid: int) -> None:
        self._clock = (~pid << 3) | 2
        self._latest_s = 0.0

    def read(self) -> float:
        """Return the seconds so far; the latest known ones when the process has ended."""
        with suppress(OSError):
            self._latest_s = max(self._latest_s, time.clock_gettime(self._clock))
        return self._latest_s


class IdleClock:
    """Wall time since it was made that a process neither ran nor waited for a CPU."""

    def __init__(self, pid: int, cpu_s: float) -> None:
        self._pid = pid
        self._waited_s: dict[str, float] = {}  # by thread: those that end must not take their waiting along
        self._start_s = time.monotonic() - cpu_s - self._read_waited()

    def read(self, cpu_s: float) -> float:
        """Return the idle seconds, given the CPU seconds on the scale of the first reading."""
        return time.monotonic() - cpu_s - self._read_waited() - self._start_s

    def _read_waited(self) -> float:
        with suppress(OSError, IndexError):  # threads end while we look
            for task in Path(f"/proc/{self._pid}/task").iterdir():
                self._waited_s[task.name] = int((task / "schedstat").read_text().split()[1]) * 1e-9
        return sum(self._waited_s.values())


def resident_kb(pid: int) -> int:
    """Return the memory that a process holds now, in KiB; 0 when it has ended."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_KB
    return 0


def count_oom_kills() -> int:
    """Return how often this kernel has killed for want of memory, in sandboxes aside; 0 where it does not say."""
    wanted = cgroup.count_kills()
    with suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count) - wanted
    return 0
