"""The warm interpreter inside the sandbox: it confines itself once, then forks one process per program.

It holds no test and no expected output, so a program that breaks out of its process finds nothing here.
Orders come as JSON over the control socket; for each the zygote forks, waits, and reports how the process
ended.

Runs inside the sandbox as `python -I -S`: standard library only, and little of it, since every page that the
zygote holds makes every fork dearer.
"""

import _socket
import contextlib
import fcntl
import gc
import importlib
import json
import os
import resource
import sys
from typing import Any

from grading.sandbox import confinement, native, program
from grading.sandbox.seccomp import Filter

PRELOADED = (
    "array", "bisect", "cmath", "collections", "copy", "decimal", "enum", "fractions", "functools", "heapq",
    "io", "itertools", "math", "operator", "re", "string", "time", "typing",
)  # fmt: skip
"""What contest programs import most. Left out by measurement: `random` and `threading` each do work in every
forked child (0.15 and 0.3 ms), `dataclasses` brings `inspect`; they are imported late where a program asks
for them."""


def main(tier: str, *numbers: str) -> None:
    """Confine, say `ready` (or why not), and serve orders until the controller closes the socket."""
    parent, control, channel, inputs, answers, output_bytes = map(int, numbers)
    confinement.die_with_parent()
    if os.getppid() != parent:
        return
    try:
        channels = program.Channels(channel, inputs, answers, null=os.open("/dev/null", os.O_RDWR))
        for descriptor in (control, *channels):
            os.set_inheritable(descriptor, False)
        flags = {descriptor: fcntl.fcntl(descriptor, fcntl.F_GETFL) for descriptor in channels}
        program_filter, native_filter = (None, None) if tier == "weak" else (Filter(), Filter("native"))
        for name in PRELOADED:
            importlib.import_module(name)
        address_space = confinement.own_address_space()
        _confine(tier, output_bytes)
        program.rehearse(channels)
    except Exception as error:
        os.write(control, json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    for name in [name for name in sys.modules if name.partition(".")[0] == "grading"]:
        del sys.modules[name]  # a program that imports `grading` is to find nothing
    os.write(control, json.dumps({"ready": True}).encode())
    gc.collect()
    gc.freeze()
    orders = _socket.socket(fileno=control)
    while received := _receive(orders):
        order, executable = received
        for descriptor, value in flags.items():  # shared by all programs, and any program may change them
            fcntl.fcntl(descriptor, fcntl.F_SETFL, value)
        child = os.fork()
        if child == 0:
            os.close(control)
            if executable is not None:
                native.run(order, channels, native_filter, executable)
            order["address_space"] += address_space
            program.run(order, channels, program_filter)
        if executable is not None:
            os.close(executable)
        status, usage = _wait_for_end(child)
        report = {
            "exit_code": os.waitstatus_to_exitcode(status),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "peak_rss_kb": usage.ru_maxrss,
        }
        os.write(control, json.dumps(report).encode())


def _receive(orders: "_socket.socket") -> tuple[dict[str, Any], int | None] | None:
    """Return the next order, with the executable that came with it, if any; None when there are no more."""
    message, ancillary, _, _ = orders.recvmsg(1 << 16, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    executable = int.from_bytes(ancillary[0][2], sys.byteorder) if ancillary else None
    return (json.loads(message), executable) if message else None


def _wait_for_end(child: int) -> tuple[int, resource.struct_rusage]:
    while True:
        _, status, usage = os.wait4(child, 0)
        if not os.WIFSTOPPED(status):  # a traced child shows its stops, too; only `weak` lets it be traced
            return status, usage


def _confine(tier: str, output_bytes: int) -> None:
    sys.path[:] = [os.path.realpath(path) for path in sys.path]
    readable = confinement.readable_directories()
    if tier == "namespaces":
        confinement.enter_namespaces(readable)
        confinement.drop_privileges(become_nobody=True)
        with contextlib.suppress(OSError):  # the read-only root holds without it; older kernels have none
            confinement.restrict_files(readable)
    elif tier == "landlock":
        confinement.drop_privileges(become_nobody=confinement.reachable_by_nobody(readable))
        confinement.restrict_files(readable)
    confinement.limit_resources(file_bytes=output_bytes, limit_threads=tier == "namespaces")
    confinement.die_with_parent()
