"""Handle of a zygote on the trusted side: its process, its sockets, and the two memory files shared with programs.

It belongs to the thread that made it: when that thread ends, the kernel kills the zygote and all that runs in it.
"""

import json
import marshal
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alphamix.grading.sandbox import cgroup
from alphamix.grading.sandbox.launch import Tier, start_inside
from alphamix.grading.sandbox.meters import count_oom_kills
from alphamix.grading.sandbox.packages import NO_PACKAGES, Packages

OUTPUT_BYTES = 16 << 20
"""Limit on what a program may write for one test."""
_SHORT_BYTES = 1 << 16
"""Size of an answer that is read without asking for its size first."""
_KEPT_BYTES = 1 << 20
"""Size of a process's answers up to which they stay in their file. To empty it takes as long as to read ten answers."""
ANSWER_WAIT_S = 60.0
"""Wall seconds that trusted code may take to answer, far above what any load causes; it only prevents a deadlock."""


class TierUnavailableError(RuntimeError):
    """This tier of confinement is unavailable on this machine; the message says which step failed."""


class ZygoteDiedError(RuntimeError):
    """The sandbox itself failed: the current program must be judged again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended, as reported by the zygote."""

    exit_code: int
    cpu_s: float
    peak_rss_kb: int
    at_memory_wall: bool = False
    """Whether the kernel killed it for exceeding its cgroup's limit."""


class Zygote:
    """One sandbox: a confined interpreter that runs one program at a time."""

    def __init__(self, tier: Tier, closing: threading.Event | None = None, packages: Packages = NO_PACKAGES) -> None:
        """Start a sandbox whose programs may import `packages`. Raises TierUnavailableError."""
        self.closing = closing or threading.Event()
        self.on_idle: Callable[[], None] = lambda: None
        self._oom_kills = count_oom_kills()
        self.control, theirs_control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel, theirs_channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.inputs = os.memfd_create("input")
        os.fchmod(self.inputs, 0o444)  # where programs see /proc, they could otherwise open it for writing
        self.answers = os.memfd_create("answer")
        self._input_bytes = self._answered_bytes = 0
        self._poll = select.poll()
        self._poll.register(self.channel, select.POLLIN)
        self._poll.register(self.control, select.POLLIN)
        self._message_only = [(self.channel.fileno(), select.POLLIN)]
        self.program_pidfd = -1
        self._group = cgroup.new_group()
        entrance = self._group.open_entrance()
        read_only_inputs = os.open(f"/proc/self/fd/{self.inputs}", os.O_RDONLY | os.O_CLOEXEC)
        theirs = [theirs_control.fileno(), theirs_channel.fileno(), read_only_inputs, self.answers, entrance]
        self._process = start_inside("zygote", tier, theirs, OUTPUT_BYTES, packages.to_json())
        theirs_control.close()
        theirs_channel.close()
        os.close(read_only_inputs)
        os.close(entrance)
        try:
            ready = self._receive_ready()
        except ZygoteDiedError as error:
            self.close()
            raise TierUnavailableError(f"the sandbox did not start ({error})") from None
        if "error" in ready:
            self.close()
            raise TierUnavailableError(ready["error"])

    def _receive_ready(self) -> dict[str, Any]:
        """Return the zygote's first report. If programs see the input and the answer as files, use these files."""
        self.control.settimeout(ANSWER_WAIT_S)
        try:
            message, descriptors, _, _ = socket.recv_fds(self.control, 1 << 16, 2, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise ZygoteDiedError(f"the zygote did not answer: {error}") from None
        if not message:
            raise ZygoteDiedError("the zygote ended")
        if descriptors:
            for given, own in zip(descriptors, (self.inputs, self.answers), strict=True):
                os.dup2(given, own, inheritable=False)
                os.close(given)
        return json.loads(message)

    def start_program(self, order: dict[str, Any], memory_bytes: int, descriptors: Sequence[int] = ()) -> None:
        """Fork a process for an executable, or without descriptors for the source in the input file. Raises
        ZygoteDiedError.

        `order` and `descriptors` are the arguments of `native.run` or `program.run`.
        """
        self._group.limit(memory_bytes)
        self._empty_answers()
        while self._poll.poll(0) == self._message_only:
            self.channel.recv(1)  # discard messages that the previous program left in the channel
        try:
            self.control.sendmsg([marshal.dumps(order)], _as_ancillary(descriptors))
        except OSError as error:
            raise ZygoteDiedError(f"cannot reach the zygote: {error.strerror}") from None

    def put_input(self, data: bytes) -> None:
        """Make `data` the program's next input."""
        os.pwrite(self.inputs, data, 0)
        if len(data) < self._input_bytes:  # truncating anew each time would make the kernel free and clear the memory
            os.ftruncate(self.inputs, len(data))
        self._input_bytes = len(data)

    def take_answer(self) -> bytes | None:
        """Return what the program wrote since the last answer was taken; None if it reached the limit."""
        answer = os.pread(self.answers, _SHORT_BYTES, self._answered_bytes)
        if len(answer) == _SHORT_BYTES:
            size = os.fstat(self.answers).st_size
            if size >= OUTPUT_BYTES:
                return None
            answer = os.pread(self.answers, size - self._answered_bytes, self._answered_bytes)
        self._answered_bytes += len(answer)
        if self._answered_bytes > _KEPT_BYTES:
            self._empty_answers()
        return answer

    def _empty_answers(self) -> None:
        os.ftruncate(self.answers, 0)
        os.lseek(self.answers, 0, os.SEEK_SET)  # the program's standard output shares this offset
        self._answered_bytes = 0

    def next_event(self, timeout_s: float) -> Literal["message", "end"] | None:
        """Wait for a message or the end of the program. Raises ZygoteDiedError, also when the judge closes."""
        ready = self._poll.poll(timeout_s * 1000 + 1)
        if ready == self._message_only:
            return "message"
        events, control, channel = dict(ready), self.control.fileno(), self.channel.fileno()
        if events.get(control, 0) & select.POLLHUP:
            raise ZygoteDiedError("the zygote ended")
        if channel in events:  # checked first, because a program sends its last message before it ends
            return "message"
        if control in events:
            return "end"
        if self.closing.is_set():
            raise ZygoteDiedError("the judge was closed")
        return None

    def receive_end(self) -> Ended:
        """Wait for the report that the program's process ended. Raises ZygoteDiedError."""
        try:
            report = self.control.recv(1 << 10)
        except TimeoutError:
            raise ZygoteDiedError(f"the zygote said nothing for {ANSWER_WAIT_S:.0f} s") from None
        except OSError as error:
            raise ZygoteDiedError(f"cannot reach the zygote: {error.strerror}") from None
        if not report:
            raise ZygoteDiedError("the zygote ended")
        status, cpu_s, peak_rss_kb = report.split()
        exit_code = os.waitstatus_to_exitcode(int(status))
        at_memory_wall = exit_code == -signal.SIGKILL and self._group.has_killed()
        return Ended(exit_code, float(cpu_s), int(peak_rss_kb), at_memory_wall)

    def host_ran_out_of_memory(self) -> bool:
        """Check whether the kernel has killed a process for lack of memory since the last call."""
        before, self._oom_kills = self._oom_kills, count_oom_kills()
        return self._oom_kills > before

    def close(self) -> None:
        """Kill the sandbox with all of its processes, and wait for its end. Safe to call twice."""
        self.control.close()
        self.channel.close()
        self._process.kill()
        self._process.wait()
        self._group.close()
        for descriptor in (self.inputs, self.answers, self.program_pidfd):
            if descriptor >= 0:
                os.close(descriptor)
        self.inputs = self.answers = self.program_pidfd = -1


def _as_ancillary(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    packed = b"".join(descriptor.to_bytes(4, sys.byteorder) for descriptor in descriptors)
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if packed else []
