"""The processes of a workspace, seen from its first one: starting, measuring and killing them.

Everything is read from /proc, which shows this pid namespace only. What a process reports about itself is not used.
"""

# ruff: noqa: PTH123, PTH208

import contextlib
import os
import resource
import signal
import time
from collections.abc import Iterator
from typing import NamedTuple

_FIRST_TO_KILL = b"1000"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.0005


class ResourceUse(NamedTuple):
    """What all living processes have used so far."""

    cpu_s: float
    """CPU seconds, with those of the children that each has waited for."""
    waited_s: float
    """Wall seconds that their main threads have waited for a CPU."""
    memory_bytes: int
    """Memory that is not a file's: what processes share by a fork counts for each of them."""


class Processes:
    """All processes of a workspace but the first."""

    def __init__(self, oom_score: int, max_processes: int) -> None:
        self._oom_score = oom_score
        self._own_oom_score = os.pread(oom_score, 16, 0).strip()
        self._max_processes = max_processes

    def fork(self) -> int:
        """Fork as `os.fork` does. The child is limited, and the first that the kernel kills when memory runs out."""
        os.pwrite(self._oom_score, _FIRST_TO_KILL, 0)
        pid = os.fork()
        if pid == 0:
            num_processes = self._max_processes + 1  # with this process's parent
            resource.setrlimit(resource.RLIMIT_NPROC, (num_processes, num_processes))
        else:
            os.pwrite(self._oom_score, self._own_oom_score, 0)
        return pid

    def measure(self) -> ResourceUse:
        """Measure the living processes."""
        cpu_s, waited_ns, memory_kb = 0.0, 0, 0
        for pid in _living():
            with contextlib.suppress(OSError, IndexError):  # it may end meanwhile
                cpu_s += time.clock_gettime((~pid << 3) | 2)  # see clock_getcpuclockid(3)
                cpu_s += sum(map(int, _stat(pid)[13:15])) / _TICKS_PER_S
                waited_ns += int(_read(pid, "schedstat").split()[1])
                memory_kb += sum(_kilobytes(_read(pid, "status"), b"RssAnon:", b"RssShmem:"))
        return ResourceUse(cpu_s, waited_ns * 1e-9, memory_kb << 10)

    def measure_memory(self) -> int:
        """Return the memory in bytes, with what processes share counted once. This takes longer than `measure`."""
        total_kb = 0
        for pid in _living():
            with contextlib.suppress(OSError):
                try:
                    total_kb += sum(_kilobytes(_read(pid, "smaps_rollup"), b"Pss_Anon:", b"Pss_Shmem:"))
                except PermissionError:  # it has made itself unreadable
                    total_kb += sum(_kilobytes(_read(pid, "status"), b"RssAnon:", b"RssShmem:"))
        return total_kb << 10

    def clear(self, kept: int | None = None) -> dict[int, int]:
        """Kill all processes, and return the wait statuses of this one's children. `kept` is only stopped.

        A signal to all reaches a process that is forking before its child, so none can escape by forks.
        """
        if kept is not None:
            return self._clear_around(kept)
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
        statuses: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.wait()
                statuses[pid] = status
        return statuses

    def _clear_around(self, kept: int) -> dict[int, int]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGSTOP)
        statuses: dict[int, int] = {}
        while True:
            others = [pid for pid in _living() if pid != kept]
            for pid in others:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    statuses[ended[0]] = ended[1]
            if not others:
                return statuses
            time.sleep(_POLL_S)


def children_cpu_s() -> float:
    """Return the CPU seconds of the children that this process has waited for, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _living() -> Iterator[int]:
    """Yield the pids of all processes that can run; the first one and those that only wait to be reaped cannot."""
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            with contextlib.suppress(OSError):
                if _stat(int(name))[0] not in (b"Z", b"X"):
                    yield int(name)


def _read(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.read(1 << 14)


def _stat(pid: int) -> list[bytes]:
    """Return the fields of `stat` from the third on, which is the state."""
    return _read(pid, "stat").rpartition(b") ")[2].split()


def _kilobytes(text: bytes, *keys: bytes) -> list[int]:
    return [int(line.split()[1]) for line in text.splitlines() if line.startswith(keys)]
