"""Handle of a zygote on the trusted side: its process, its sockets, and the two memory files shared with programs.

It belongs to the thread that made it: when that thread ends, the kernel kills the zygote and all that runs in it.
"""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from alphamix.grading.sandbox import cgroup
from alphamix.grading.sandbox.launch import Tier, start_inside
from alphamix.grading.sandbox.meters import count_oom_kills
from alphamix.grading.sandbox.packages import NO_PACKAGES, Packages

OUTPUT_BYTES = 16 << 20
"""Limit on what a program may write for one test."""
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
        self._input_bytes = 0
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
        with suppress(BlockingIOError):  # discard messages that the previous program left in the channel
            while True:
                self.channel.recv(1, socket.MSG_DONTWAIT)
        try:
            socket.send_fds(self.control, [json.dumps(order).encode()], descriptors)
        except OSError as error:
            raise ZygoteDiedError(f"cannot reach the zygote: {error.strerror}") from None

    def put_input(self, data: bytes) -> None:
        """Make `data` the program's next input, and empty the answer."""
        os.pwrite(self.inputs, data, 0)
        if len(data) < self._input_bytes:  # truncating anew each time would make the kernel free and clear the memory
            os.ftruncate(self.inputs, len(data))
        self._input_bytes = len(data)
        os.ftruncate(self.answers, 0)

    def take_answer(self) -> bytes | None:
        """Return what the program wrote; None if it reached the limit."""
        size = os.fstat(self.answers).st_size
        return None if size >= OUTPUT_BYTES else os.pread(self.answers, size, 0)

    def receive_end(self) -> Ended:
        """Wait for the report that the program's process ended. Raises ZygoteDiedError."""
        end = Ended(**self._receive_report(ANSWER_WAIT_S))
        was_killed = end.exit_code == -signal.SIGKILL
        return replace(end, at_memory_wall=True) if was_killed and self._group.has_killed() else end

    def _receive_report(self, timeout_s: float) -> dict[str, Any]:
        self.control.settimeout(timeout_s)
        try:
            message = self.control.recv(1 << 16)
        except TimeoutError:
            raise ZygoteDiedError(f"the zygote said nothing for {timeout_s:.0f} s") from None
        except OSError as error:
            raise ZygoteDiedError(f"cannot reach the zygote: {error.strerror}") from None
        if not message:
            raise ZygoteDiedError("the zygote ended")
        return json.loads(message)

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
