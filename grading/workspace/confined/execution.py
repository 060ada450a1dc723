"""One run of a program in a workspace: its streams are read, and its time and memory limited, until it has ended."""

import os
import select
import signal
import time
from collections.abc import Mapping
from typing import Any

from alphamix.grading.workspace.confined.processes import Processes, ResourceUse, children_cpu_s

_FIRST_LOOK_S, _LOOK_S = 0.02, 0.1
"""Wall seconds to the first measurement, which are doubled for each further one up to the second figure."""
_CHUNK = 1 << 16
_NO_USAGE = ResourceUse(0.0, 0.0, 0)


class Capture:
    """What a program writes to a pipe: its first bytes and its last bytes, and how many there were."""

    def __init__(self, descriptor: int, keep_bytes: int) -> None:
        self.descriptor = descriptor
        self._keep_bytes = keep_bytes
        self.head = self.tail = b""
        self.total_bytes = 0
        os.set_blocking(descriptor, False)

    def pump(self) -> bool:
        """Read what is there, and return False if there is nothing or never will be more."""
        try:
            data = os.read(self.descriptor, _CHUNK)
        except BlockingIOError:
            return False
        size = len(data)
        self.total_bytes += size
        room = self._keep_bytes - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        if data:
            self.tail = (self.tail + data)[-self._keep_bytes :]
        return size > 0


class Streams:
    """Pipes for the output of a program. The ends that a program writes to close with it."""

    def __init__(self, *, merged: bool) -> None:
        self._pipes = [os.pipe() for _ in range(1 if merged else 2)]

    @property
    def to_read(self) -> list[int]:
        """Descriptors to read standard output and standard error from, or both from one."""
        return [read for read, _ in self._pipes]

    def become_standard(self, stdin: int, others: Mapping[int, int]) -> None:
        """Make these the standard streams of this process, and `others` descriptors of the given numbers.

        All others are closed.
        """
        os.dup2(stdin, 0)
        os.dup2(self._pipes[0][1], 1)
        os.dup2(self._pipes[-1][1], 2)
        free = 3
        for source, target in sorted(others.items(), key=lambda item: item[1]):
            os.dup2(source, target)
            os.closerange(free, target)
            free = target + 1
        os.closerange(free, os.sysconf("SC_OPEN_MAX"))

    def close_written(self) -> None:
        """Close the ends that only the program writes to."""
        for _, write in self._pipes:
            os.close(write)

    def close(self) -> None:
        """Close the ends that are read."""
        for descriptor in self.to_read:
            os.close(descriptor)


class Execution:
    """Limits and measures what runs from now on.

    Args:
        processes: The workspace's processes.
        control: Socket of the trusted side. If that closes it, this process ends, and with it all in its namespace.
        streams: The output.
        fields: The limits `cpu_s`, `wall_s` and `memory_bytes`, and `keep_bytes`, the number of bytes of each stream to
            keep from its start and again from its end.
        others_run: Whether a process lives already, whose earlier use does not count.
    """

    def __init__(
        self, processes: Processes, control: int, streams: Streams, fields: Mapping[str, Any], *, others_run: bool
    ) -> None:
        self._processes = processes
        self._control = control
        self._limits = fields
        self._captures = [Capture(descriptor, fields["keep_bytes"]) for descriptor in streams.to_read]
        self._before = processes.measure() if others_run else _NO_USAGE
        self._children_cpu_s = children_cpu_s()
        self._start_s = time.monotonic()
        self._most_cpu_s = 0.0

    def watch(self, *done: int) -> str | None:
        """Wait until one of the descriptors can be read or a limit is exceeded, and return the name of that limit."""
        poll = select.poll()
        poll.register(self._control, 0)  # reports only that the other side is gone
        for descriptor in done:
            poll.register(descriptor, select.POLLIN)
        captures = {capture.descriptor: capture for capture in self._captures}
        for descriptor in captures:
            poll.register(descriptor, select.POLLIN)
        look_s, now_s, waited_s, counted_s = _FIRST_LOOK_S, self._start_s, self._before.waited_s, 0.0
        while True:
            remaining_s = max(now_s + look_s - time.monotonic(), 0.0)
            for descriptor, _ in poll.poll(remaining_s * 1000 + 1):
                if descriptor == self._control:
                    os._exit(0)
                if descriptor in done:
                    return None
                if not captures[descriptor].pump():
                    poll.unregister(descriptor)
            before_s, current_s = now_s, time.monotonic()
            if current_s < before_s + look_s:
                continue
            now_s, look_s = current_s, min(2 * look_s, _LOOK_S)
            usage = self._processes.measure()
            # Time in which the program only waited for a busy machine's CPU is not its own.
            counted_s += max(now_s - before_s - max(usage.waited_s - waited_s, 0.0), 0.0)
            waited_s = usage.waited_s
            if excess := self._excess(usage, counted_s):
                return excess

    def _excess(self, usage: ResourceUse, wall_s: float) -> str | None:
        if self.cpu_s(usage) > self._limits["cpu_s"]:
            return "cpu_limit"
        if wall_s > self._limits["wall_s"]:
            return "wall_limit"
        limit = self._limits["memory_bytes"]
        if usage.memory_bytes > limit and self._processes.measure_memory() > limit:
            return "memory_limit"
        return None

    def cpu_s(self, usage: ResourceUse) -> float:
        """Return the CPU seconds of the living and the dead, given the usage of those that live."""
        cpu_s = children_cpu_s() - self._children_cpu_s + usage.cpu_s - self._before.cpu_s
        # Of children that nobody waits for, the dead do not count, but they did while they lived.
        self._most_cpu_s = max(self._most_cpu_s, cpu_s)
        return self._most_cpu_s

    def answer(
        self, ended: str, exit_code: int | None, usage: ResourceUse | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """Return what the trusted side needs to know, given the usage of a kept session, which must be stopped."""
        for capture in self._captures:
            while capture.pump():
                pass
        fields = {
            "ended": ended,
            "exit_code": exit_code,
            "cpu_s": self.cpu_s(usage or _NO_USAGE),
            "wall_s": time.monotonic() - self._start_s,
            "streams": [(len(each.head), len(each.tail), each.total_bytes) for each in self._captures],
        }
        return fields, b"".join(each.head + each.tail for each in self._captures)


def restore_signals() -> None:
    """Restore what Python ignores and programs do not expect to be ignored."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def how_it_ended(excess: str | None, status: int | None) -> tuple[str, int | None]:
    """Return how a program ended, and its exit code, given its wait status."""
    if excess is not None or status is None:
        return excess or "killed", None
    code = os.waitstatus_to_exitcode(status)
    return ("ok" if code == 0 else "error" if code > 0 else "killed"), code
