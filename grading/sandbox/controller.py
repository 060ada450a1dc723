"""The trusted side of a program's run: it sends inputs to the program one by one, and measures it from outside.

CPU time is read from the process's own clock, so a busy machine never makes a program too slow. Idle time is wall time
that the process spent neither on a CPU nor waiting for one. Nothing that a program reports about itself can improve its
outcome.
"""

import fcntl
import os
import signal
import socket
import struct
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from alphamix.grading.sandbox.meters import CpuClock, IdleClock, resident_kb
from alphamix.grading.sandbox.zygote_handle import ANSWER_WAIT_S, OUTPUT_BYTES, Ended, Zygote, ZygoteDiedError
from alphamix.grading.types import Verdict

COMPILE_CPU_S = 5.0
MIN_IDLE_S = 2.0
_TOUCHED_BY_COPY_KB = 2048
"""More memory than a fork of the zygote touches after its hello, before it executes the program."""
_GIVES_WAY_S = 0.1
"""Idle wall seconds of a program after which another one may start to run."""
_ERRORS_BYTES = 1 << 16
_POLL_S = 0.02
"""Wall seconds between two measurements of CPU time, memory and idleness."""


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """Resources that one test may use."""

    cpu_s: float
    memory_bytes: int

    @property
    def idle_s(self) -> float:
        """Wall seconds that a program may spend neither on a CPU nor waiting for one."""
        return max(MIN_IDLE_S, self.cpu_s)


@dataclass(slots=True)
class Outcome:
    """Result of one test or of the compilation. If `verdict` is None it succeeded, and `answer` can be compared."""

    verdict: Verdict | None
    answer: bytes = b""
    cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    message: str = ""
    exit_code: int | None = None
    """Exit code, if the program exited by itself and that counts as a failure."""
    reusable: bool = False
    """Whether the process can run another test."""
    refuted: bool = False
    """Whether the program did what its proof excludes, so that this test says nothing about it."""


class Process:
    """One process of a program in a zygote. It waits until the controller knows its pid and lets it continue."""

    is_stateless = False
    """Whether the program is proven to carry nothing from one test to the next."""

    def __init__(self, zygote: Zygote, limits: ProcessLimits, order: dict[str, Any], *descriptors: int) -> None:
        self._zygote = zygote
        self._limits = limits
        self._may_exit = True
        self._has_run = False
        self._ended: Ended | None = None
        # Only a backstop, because measured memory is what counts: reserving memory without touching it is free.
        address_space = max(2 * limits.memory_bytes, limits.memory_bytes + (1 << 30))
        zygote.start_program(order | {"address_space": address_space}, limits.memory_bytes, descriptors)
        self.pid, self._baseline_kb = self._receive_hello()
        zygote.program_pidfd = os.pidfd_open(self.pid)
        self._clock = CpuClock(self.pid)
        self._cpu_s = self._clock.read()

    def run_test(self, data: bytes) -> Outcome:
        """Run the program on one input, which it cannot have seen before. Raises ZygoteDiedError."""
        self._has_run = True
        self._zygote.put_input(data)
        self._continue()
        return self._await(self._limits.cpu_s)

    def end(self) -> int:
        """Kill the process, and return its peak memory in bytes. Raises ZygoteDiedError."""
        end = self._ended or self._kill()
        os.close(self._zygote.program_pidfd)
        self._zygote.program_pidfd = -1
        return self._above_baseline(end.peak_rss_kb)

    def _continue(self) -> None:
        with suppress(OSError):  # the program is gone or does not listen; the next wait shows which
            self._zygote.channel.send(b"N", socket.MSG_DONTWAIT)

    def _receive_hello(self) -> tuple[int, int]:
        """Return the pid of the process, which the kernel attests, and its memory before it loads the program."""
        event = self._zygote.next_event(ANSWER_WAIT_S)
        if event is None:
            raise ZygoteDiedError(f"no program process within {ANSWER_WAIT_S:.0f} s")
        if event == "end":
            end = self._zygote.receive_end()
            raise ZygoteDiedError(f"the program process ended at its start with exit code {end.exit_code}")
        message, ancillary, _, _ = self._zygote.channel.recvmsg(512, 64)
        status, peak_rss_kb, text = _parse(message)
        if status != "H" or not ancillary:
            raise ZygoteDiedError(f"the program process could not start: {text}")
        pid, _, _ = struct.unpack("iii", ancillary[0][2][:12])
        return pid, peak_rss_kb

    def _await(self, cpu_limit_s: float) -> Outcome:
        """Wait for the program's status message, its end, or the first limit that it exceeds.

        CPU time counts from the previous reading, so that threads cannot compute for free between two tests.
        """
        start_cpu_s, idle = self._cpu_s, None
        while True:
            remaining_s = max(start_cpu_s + cpu_limit_s - self._cpu_s, 0.0)
            event = self._zygote.next_event(min(remaining_s, _POLL_S))
            self._cpu_s = self._clock.read()
            cpu_s = self._cpu_s - start_cpu_s
            if event == "message":
                status, peak_rss_kb, text = _parse(self._zygote.channel.recv(512))
                if status == "X" and not self._has_run:  # later, the program itself could have caused or forged this
                    raise ZygoteDiedError(f"the sandbox failed before the program ran: {text}")
                return self._conclude(status, text, cpu_s, cpu_limit_s, self._above_baseline(peak_rss_kb))
            if event == "end":
                return self._on_end(start_cpu_s, cpu_limit_s)
            if cpu_s > cpu_limit_s:
                return self._stop(Verdict.TLE, start_cpu_s, _cpu_message(cpu_s, cpu_limit_s))
            rss_bytes = self._above_baseline(resident_kb(self.pid))
            if rss_bytes > self._limits.memory_bytes:
                return self._stop(Verdict.MLE, start_cpu_s, self._memory_message(rss_bytes))
            idle = idle or IdleClock(self.pid, self._clock)
            idle_s = idle.read()
            if idle_s > self._limits.idle_s:
                message = f"idle for {idle_s:.1f} s, limit {self._limits.idle_s:g} s"
                return self._stop(Verdict.ILE, start_cpu_s, message)
            if idle_s > _GIVES_WAY_S:
                self._zygote.on_idle()

    def _on_end(self, start_cpu_s: float, cpu_limit_s: float) -> Outcome:
        """Return the outcome of a process that ended without a message: by os._exit, a signal, or a crash."""
        self._ended = end = self._zygote.receive_end()
        cpu_s, peak = end.cpu_s - start_cpu_s, self._above_baseline(end.peak_rss_kb)
        if end.at_memory_wall or self._says_bad_alloc(end):
            return self._conclude("M", "", cpu_s, cpu_limit_s, peak)
        if end.exit_code == -signal.SIGKILL and self._zygote.host_ran_out_of_memory():
            raise ZygoteDiedError("the host ran out of memory and killed the program: use fewer workers")
        if end.exit_code == 0 and self._may_exit:
            return self._conclude("L", "", cpu_s, cpu_limit_s, peak)
        if end.exit_code > 0:
            return self._conclude("Q", str(end.exit_code), cpu_s, cpu_limit_s, peak)
        return self._conclude("E", _describe_end(end.exit_code), cpu_s, cpu_limit_s, peak)

    def _conclude(self, status: str, text: str, cpu_s: float, cpu_limit_s: float, peak: int) -> Outcome:
        answer = self._zygote.take_answer()
        verdict: Verdict | None
        if cpu_s > cpu_limit_s:
            verdict, text = Verdict.TLE, _cpu_message(cpu_s, cpu_limit_s)
        elif status == "M" or peak > self._limits.memory_bytes:
            verdict, text = Verdict.MLE, self._memory_message(peak)
        elif answer is None:
            verdict, text = Verdict.OLE, f"wrote {OUTPUT_BYTES} bytes or more"
        else:
            verdict = _VERDICT_OF_STATUS.get(status, Verdict.RE)
            text = text if status in _STATUSES else "wrote to the descriptor for status messages"
        exit_code = int(text) if verdict is Verdict.RE and status == "Q" and text in _EXIT_CODES else None
        if exit_code is not None:
            text = f"exit code {exit_code}"
        reusable = verdict is None and status == "0"
        refuted = self.is_stateless and status == "U"
        return Outcome(verdict, answer or b"", max(cpu_s, 0.0), peak, text, exit_code, reusable, refuted)

    def _stop(self, verdict: Verdict, start_cpu_s: float, message: str) -> Outcome:
        end = self._kill()
        peak = self._above_baseline(end.peak_rss_kb)
        return Outcome(verdict, cpu_s=end.cpu_s - start_cpu_s, peak_rss_bytes=peak, message=message)

    def _kill(self) -> Ended:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._zygote.program_pidfd, signal.SIGKILL)
        self._ended = self._zygote.receive_end()
        return self._ended

    def _says_bad_alloc(self, end: Ended) -> bool:
        return False

    def _above_baseline(self, rss_kb: int) -> int:
        return max(rss_kb - self._baseline_kb, 0) << 10

    def _memory_message(self, peak: int) -> str:
        limit = self._limits.memory_bytes
        if peak <= limit:
            return f"MemoryError: requested too much memory, limit {limit >> 20} MB"
        return f"used {peak >> 20} MB of memory, limit {limit >> 20} MB"


class PythonProcess(Process):
    """Process of a Python program: call `compile` once, `run_test` as long as it is reusable, then `end`.

    Args:
        zygote: Its sandbox.
        source: The program.
        entry_point: Function to call, if any.
        limits: Limits for each test.
        num_tests: Number of tests that the process may run. If there are several, it first tries to prove that the
            program is stateless.
        has_floats: Whether a test calls the entry point with floats.
    """

    def __init__(
        self,
        zygote: Zygote,
        source: bytes,
        entry_point: str | None,
        limits: ProcessLimits,
        num_tests: int = 1,
        has_floats: bool = True,
    ) -> None:
        zygote.put_input(source)
        cpu_s = int(COMPILE_CPU_S + num_tests * (limits.cpu_s + 1)) + 1
        proves = has_floats if num_tests > 1 else None
        super().__init__(zygote, limits, {"entry_point": entry_point, "cpu_s": cpu_s, "proves": proves})
        self._is_function = entry_point is not None

    def compile(self) -> Outcome:
        """Wait until the program is compiled. Any failure of the program here is CE. Raises ZygoteDiedError."""
        self._may_exit = False
        self._continue()
        outcome = self._await(COMPILE_CPU_S)
        self._may_exit = not self._is_function  # a script may call os._exit(0) once it has answered
        self.is_stateless = outcome.verdict is None and outcome.message == "stateless"
        if outcome.verdict is None or outcome.verdict is Verdict.CE:
            return outcome
        reason = outcome.message or f"compiling ended with {outcome.verdict}"
        return Outcome(Verdict.CE, cpu_s=outcome.cpu_s, message=reason)


class NativeProcess(Process):
    """Process of a compiled program, from a descriptor of its executable: call `run_test` once, then `end`."""

    def __init__(self, zygote: Zygote, executable: int, limits: ProcessLimits, out_of_memory: bytes) -> None:
        self._out_of_memory = out_of_memory
        self._errors = _new_errors_file()
        weakref.finalize(self, os.close, self._errors)
        super().__init__(zygote, limits, {"cpu_s": int(limits.cpu_s) + 2}, executable, self._errors)

    def _says_bad_alloc(self, end: Ended) -> bool:
        """Check whether an allocation failure ended the program. Its own message suffices: it fails either way."""
        said = os.pread(self._errors, _ERRORS_BYTES, 0).rstrip(b"\0\n")
        return end.exit_code == -signal.SIGABRT and said.endswith(self._out_of_memory)

    def _above_baseline(self, rss_kb: int) -> int:
        """Return the peak, or 0 if it is no more than a fork of the zygote has before it executes the program."""
        return rss_kb << 10 if rss_kb > self._baseline_kb + _TOUCHED_BY_COPY_KB else 0


_VERDICT_OF_STATUS: dict[str, Verdict | None] = {"0": None, "L": None, "C": None, "S": Verdict.CE, "F": Verdict.FE}
"""Verdicts of status messages (see `confined.program`). Any other message, known or not, is a run-time error."""
_STATUSES = {*_VERDICT_OF_STATUS, "E", "M", "Q"}
_EXIT_CODES = {str(code) for code in range(256)}


def _new_errors_file() -> int:
    """Return a memory file of fixed size for standard error. With a file-size limit, the kernel would kill instead."""
    errors = os.memfd_create("errors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(errors, _ERRORS_BYTES)
    fcntl.fcntl(errors, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return errors


def _parse(message: bytes) -> tuple[str, int, str]:
    """Split a status message. The program may have forged it, so every input must be accepted."""
    status, _, rest = message.decode(errors="replace").partition(" ")
    peak_rss_kb, _, text = rest.partition(" ")
    return status, int(peak_rss_kb) if peak_rss_kb.isdecimal() and len(peak_rss_kb) < 12 else 0, text


def _describe_end(exit_code: int) -> str:
    if exit_code == 0:
        return "ended before it returned a result"
    return f"ended by {signal.strsignal(-exit_code) or f'signal {-exit_code}'}"


def _cpu_message(cpu_s: float, limit_s: float) -> str:
    return f"used {cpu_s:.3f} s of CPU, limit {limit_s:g} s"
