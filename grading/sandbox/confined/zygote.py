"""The warm interpreter inside the sandbox: it confines itself once, then forks one process per program.

It holds no test and no expected output, so a program that breaks out of its process finds nothing here. Orders arrive
on the control socket; for each one the zygote forks, waits, and reports how the process ended. It imports as little as
possible, because every page that it holds makes every fork more expensive. It also does as little as possible for an
order, because after a fork each page that either process writes to takes 1 to 3 µs.
"""

import _socket
import contextlib
import fcntl
import gc
import importlib
import json
import marshal
import os
import sys
from array import array
from collections.abc import Sequence
from typing import Any

from alphamix.grading.sandbox.confined import confinement, native, program
from alphamix.grading.sandbox.confined.seccomp import Filter

PRELOADED = (
    "array", "bisect", "cmath", "collections", "copy", "decimal", "enum", "fractions", "functools", "heapq",
    "io", "itertools", "math", "operator", "re", "string", "time", "typing",
)  # fmt: skip
"""Modules that contest programs import most. Measurements excluded `random` and `threading`, which each cost time in
every forked child (0.15 and 0.3 ms), and `dataclasses`, which imports `inspect`; programs import these when needed."""

_FIRST_TO_KILL = b"1000"
_SCRATCH_BYTES = 16 << 20
_MAX_ORDER_BYTES = 1 << 16
_SPACE_FOR_DESCRIPTORS = _socket.CMSG_SPACE(8)


def main(tier: str, *words: str) -> None:
    """Confine this process, report `ready` or the error, and serve orders until the controller closes the socket."""
    parent, *inherited, output_bytes = map(int, words[:-1])
    names, location_of_name, package_files = json.loads(words[-1])
    confinement.die_with_parent()
    if os.getppid() != parent:
        return
    control, channel, inputs, answers, cgroup_entrance = confinement.move_down(inherited)
    try:
        os.write(cgroup_entrance, b"0")
        os.close(cgroup_entrance)
        channels = program.Channels(channel, inputs, answers, null=os.open("/dev/null", os.O_RDWR))
        for descriptor in (control, *channels):
            os.set_inheritable(descriptor, False)
        flags = {descriptor: fcntl.fcntl(descriptor, fcntl.F_GETFL) for descriptor in channels}
        program_filter, native_filter = (None, None) if tier == "weak" else (Filter(), Filter("native"))
        for name in PRELOADED:
            importlib.import_module(name)
        if names:  # imported only here, because this module takes memory itself
            importlib.import_module("alphamix.grading.sandbox.confined.packages").provide(names, location_of_name)
        address_space = confinement.own_address_space()
        oom_score, standard_files = _confine(tier, output_bytes, package_files)
        if standard_files:
            readable_input = os.open(confinement.STDIN, os.O_RDONLY)
            os.dup2(readable_input, inputs, inheritable=False)
            os.close(readable_input)
            os.dup2(standard_files[1], answers, inheritable=False)
        program.rehearse(channels)
    except Exception as error:
        os.write(control, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "alphamix"]:
        del sys.modules[name]  # a program must not be able to import `alphamix`
    orders = _socket.socket(fileno=control)
    ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", standard_files))] if standard_files else []
    orders.sendmsg([json.dumps({"ready": True}).encode()], ancillary)
    for descriptor in standard_files:
        os.close(descriptor)
    gc.collect()
    gc.freeze()
    own_oom_score = os.pread(oom_score, 16, 0).strip()
    num_free_files = _count_free_files(tier)
    while received := _receive(orders):
        order, descriptors = received
        order["address_space"] += address_space
        for descriptor, value in flags.items():  # programs share these flags, and the previous one may have set them
            fcntl.fcntl(descriptor, fcntl.F_SETFL, value)
        # The program inherits this score, which makes it the first process that the kernel kills when memory runs out.
        # It is set before the fork, because no other process can set it later.
        os.pwrite(oom_score, _FIRST_TO_KILL, 0)
        child = os.fork()
        if child == 0:
            os.close(control)
            os.close(oom_score)
            if tier != "namespaces":  # there, the kernel kills every process when this one, process 1, ends
                confinement.die_with_parent()
            if descriptors:
                native.run(order, channels, native_filter, *descriptors)
            program.run(order, channels, program_filter)
        os.pwrite(oom_score, own_oom_score, 0)
        for descriptor in descriptors:
            os.close(descriptor)
        report = _wait_for_end(child)
        if _count_free_files(tier) != num_free_files:
            confinement.remove_contents(confinement.SCRATCH)
        os.write(control, report)


def _receive(orders: "_socket.socket") -> tuple[dict[str, Any], Sequence[int]] | None:
    """Return the next order with its descriptors, or None if there are no more."""
    message, ancillary, _, _ = orders.recvmsg(_MAX_ORDER_BYTES, _SPACE_FOR_DESCRIPTORS, _socket.MSG_CMSG_CLOEXEC)
    descriptors = array("i", ancillary[0][2]) if ancillary else ()
    return (marshal.loads(message), descriptors) if message else None


def _wait_for_end(child: int) -> bytes:
    """Wait until a process has ended, and return its wait status, its CPU seconds and its peak memory in KiB."""
    while True:
        _, status, usage = os.wait4(child, 0)
        if not os.WIFSTOPPED(status):  # a traced child also reports stops; only the tier `weak` permits tracing
            return b"%d %f %d" % (status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def _count_free_files(tier: str) -> int:
    """Return how many more files fit into SCRATCH. In tiers without one, programs cannot write files."""
    return os.statvfs(confinement.SCRATCH).f_ffree if tier == "namespaces" else 0


def _confine(tier: str, output_bytes: int, package_files: list[str]) -> tuple[int, Sequence[int]]:
    """Confine this process. Return a descriptor of its oom_score_adj, which ranks it for out-of-memory kills, and those
    of the standard files, if it has its own.
    """
    standard_files: Sequence[int] = ()
    proc = os.open("/proc", os.O_PATH | os.O_CLOEXEC)
    sys.path[:] = [os.path.realpath(path) for path in sys.path]
    readable = confinement.readable_paths(package_files)
    if tier == "namespaces":
        confinement.enter_namespaces(readable, _SCRATCH_BYTES)  # returns in a new process, whose score is opened next
        standard_files = confinement.make_standard_files()
    oom_score = os.open("self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC, dir_fd=proc)
    os.close(proc)
    if tier == "namespaces":
        confinement.drop_privileges(become_nobody=True)
        with contextlib.suppress(OSError):  # older kernels lack Landlock; the read-only root holds without it
            confinement.restrict_files(readable, writable=[confinement.SCRATCH])
    elif tier == "landlock":
        confinement.drop_privileges(become_nobody=confinement.reachable_by_nobody(readable))
        confinement.restrict_files(readable)
    confinement.limit_resources(file_bytes=output_bytes, limit_threads=tier == "namespaces")
    confinement.die_with_parent()
    return oom_score, standard_files
