"""The broker of all workspaces: an interpreter inside namespaces that forks first processes of workspaces.

Nothing untrusted runs in its process. It is process 1 of its namespaces, so whatever a workspace leaves behind is its
child, and nothing outlives it. It waits for orders on a socket and keeps no state: a workspace speaks with the trusted
side itself.
"""

import _sitebuiltins
import _socket
import array
import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import sys
from typing import Any

from alphamix.grading.sandbox.confined import confinement
from alphamix.grading.sandbox.confined.seccomp import Filter
from alphamix.grading.sandbox.confined.zygote import PRELOADED
from alphamix.grading.workspace.confined import first, python

_NAME = b"workspace"
_SCRATCH_BYTES = 1 << 16
_MAX_ORDER = 1 << 14


def main(tier: str, *words: str) -> None:
    """Confine this process, report that it is ready or the error, and open workspaces until the socket is closed."""
    parent, inherited = map(int, words[:2])
    setup: dict[str, Any] = json.loads(words[2])
    confinement.die_with_parent()
    if os.getppid() != parent:
        return
    orders = _socket.socket(fileno=confinement.move_down([inherited])[0])
    try:
        readable = _confine(setup)
        syscall_filter = Filter("workspace")
        environment: dict[str, str] = setup["environment"]
        _become_what_programs_see(environment)
        python.rehearse()
        first.rehearse(environment, setup["bash"])
    except Exception as error:
        orders.send(json.dumps({"error": f"{type(error).__name__}: {error}"}).encode())
        return
    signal.signal(signal.SIGCHLD, _reap)
    own_pidfd = os.pidfd_open(os.getpid())
    carried = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [own_pidfd]))]
    orders.sendmsg([json.dumps({"ready": True}).encode()], carried)
    os.close(own_pidfd)
    gc.collect()
    gc.freeze()
    while received := _receive(orders):
        order, descriptors = received
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(orders.fileno())
            first.run(order, descriptors, readable, environment, setup["bash"], syscall_filter)
        for descriptor in descriptors:
            os.close(descriptor)


def _confine(setup: dict[str, Any]) -> list[str]:
    """Enter the namespaces, and return what workspaces may read."""
    sys.path[:] = [os.path.realpath(path) for path in sys.path]
    names, location_of_name, package_files = setup["packages"]
    for name in (*PRELOADED, *python.PRELOADED):
        importlib.import_module(name)
    if names:
        importlib.import_module("alphamix.grading.sandbox.confined.packages").provide(names, location_of_name)
    readable = confinement.readable_paths([*package_files, *setup["readable"]])
    confinement.enter_namespaces(readable, _SCRATCH_BYTES, can_nest=True)
    confinement.drop_privileges(become_nobody=True)
    if os.geteuid() != confinement.NOBODY:
        raise OSError("processes cannot be limited, because this process may not give up being root")
    confinement.die_with_parent()
    return [*readable, "/etc"]


def _become_what_programs_see(environment: dict[str, str]) -> None:
    """Replace the environment and the command line, and hide our own modules."""
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [""]
    sys.path.insert(0, confinement.PRIVATE_DIRECTORIES[0])
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        start, end = map(int, file.read().rpartition(b")")[2].split()[45:47])
    if end - start > len(_NAME):  # `ps` would show the paths of the host in it
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, _NAME, len(_NAME))
    for name in ("exit", "quit"):  # the site module, which -S disables, would add these
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "alphamix"]:
        del sys.modules[name]


def _reap(*_: object) -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _receive(orders: "_socket.socket") -> tuple[dict[str, Any], list[int]] | None:
    """Return the next order and its descriptors, as `first.run` expects them, or None if there are no more."""
    message, ancillary, _, _ = orders.recvmsg(_MAX_ORDER, _socket.CMSG_SPACE(8), _socket.MSG_CMSG_CLOEXEC)
    return (json.loads(message), first.wire.descriptors_in(ancillary)) if message else None
