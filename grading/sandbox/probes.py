"""Proof that a sandbox holds: a program that tries to break out, which is run at the start of every zygote.

Each way out is tried, because a kernel version alone proves nothing. This is a smoke test of the machine; the hostile
corpus under tests/ is the test of the design.
"""

import json
from contextlib import suppress
from pathlib import Path

from alphamix.grading.sandbox.controller import ProcessLimits, PythonProcess
from alphamix.grading.sandbox.zygote_handle import Tier, Zygote

LIMITS = ProcessLimits(cpu_s=10.0, memory_bytes=256 << 20)

PROGRAM = """
import contextlib, ctypes, errno, json, os, socket

def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False

def filtered(attempt):
    try:
        attempt()
    except OSError as error:
        return error.errno == errno.EPERM
    return False

def write(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    with contextlib.suppress(OSError):
        os.unlink(path)

def fork():
    if os.fork() == 0:
        os._exit(0)

def raw(number, *arguments):
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), "refused")

libc = ctypes.CDLL(None, use_errno=True)
own_file, is_arm = input(), os.uname().machine == "aarch64"
results = {
    "reading a file of the host": refused(lambda: open(own_file).read()),
    "reading /etc/passwd": refused(lambda: open("/etc/passwd").read()),
    "reading /proc": refused(lambda: open("/proc/self/maps").read()),
    "writing a file": all(refused(lambda: write(f"{place}/alphamix-probe")) for place in ("", "/dev/shm", "/var/tmp")),
    "writing its input": refused(lambda: os.write(0, b"x")),
    "changing a file mode": refused(lambda: os.chmod(os.__file__, os.stat(os.__file__).st_mode)),
    "opening a socket": all(refused(lambda: socket.socket(family)) for family in (socket.AF_INET, socket.AF_UNIX)),
    "forking": refused(fork),
    "executing": filtered(lambda: os.execv("/", ["a directory"])),
    "signalling": refused(lambda: os.kill(os.getppid(), 0)) and refused(lambda: os.kill(-1, 0)),
    "tracing": filtered(lambda: raw(117 if is_arm else 101, 0x9999, os.getpid(), 0, 0)),
    "making a memory file": refused(lambda: os.memfd_create("x")),
}
refused(lambda: open("/tmp/alphamix-probe", "w"))  # which this program may do, and must not show on the host
import mmap, subprocess, zoneinfo
try:
    bytearray(8 << 30)
    results["reserving memory without end"] = False
except MemoryError:
    results["reserving memory without end"] = True
os.write(2, b"x" * (1 << 20))
print(json.dumps(results))
"""
"""Reports for each attempt that must fail whether it failed. The imports near its end prove that late imports work.

An attempt that succeeds, which only happens where nothing confines the program, leaves the machine as it was.
"""


_IN_TEMPORARY_DIRECTORY = Path("/tmp/alphamix-probe")
"""File that the program tries to write. In its own /tmp it may, but then there is none on this side."""


class ProbeError(RuntimeError):
    """The probe program itself did not run properly; the message says how it ended."""


def unproven(zygote: Zygote, tier: Tier) -> list[str]:
    """Return what the sandbox fails to forbid; empty if it holds. The tier `weak` promises nothing."""
    if tier == "weak":
        return []
    try:
        return [f"{name} is possible" for name, holds in probe(zygote).items() if not holds]
    except ProbeError as error:
        return [str(error)]


def probe(zygote: Zygote) -> dict[str, bool]:
    """Try to break out, and return whether each way out is closed. Raises ProbeError, ZygoteDiedError."""
    process = PythonProcess(zygote, PROGRAM.encode(), None, LIMITS)
    try:
        compiled = process.compile()
        outcome = process.run_test(__file__.encode()) if compiled.verdict is None else compiled
    finally:
        process.end()
    if outcome.verdict is not None:
        raise ProbeError(f"the probe program ended with {outcome.verdict}: {outcome.message}")
    if outcome.cpu_s <= 0:
        raise ProbeError("the CPU clock of a program cannot be read")
    try:
        results = json.loads(outcome.answer)
    except ValueError:
        raise ProbeError(f"the probe program reported {outcome.answer[:80]!r}") from None
    if _IN_TEMPORARY_DIRECTORY.exists():
        results["writing a file"] = False
        with suppress(OSError):
            _IN_TEMPORARY_DIRECTORY.unlink()
    return results
