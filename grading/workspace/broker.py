"""The broker's handle: its process, and a thread that starts it, reads from all workspaces, and ends with it."""

import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from alphamix.grading.sandbox.launch import start_inside
from alphamix.grading.sandbox.machine import fix_landlock, fix_namespaces
from alphamix.grading.sandbox.packages import NO_PACKAGES, Packages
from alphamix.grading.workspace.connection import Connection, wait_for_end
from alphamix.grading.workspace.types import DIRECTORY, WorkspaceError, WorkspaceLimits, WorkspaceUnavailableError

_ANSWER_WAIT_S = 60.0
_OPEN_FILES = 1 << 16
_READABLE = ("/usr", "/bin", "/sbin", "/etc/alternatives", "/etc/ld.so.cache")
"""What shells and compilers consist of, beside the interpreter's own directories."""
_ENDED = WorkspaceError("the broker of the workspaces ended unexpectedly: try again")


class Broker:
    """A process that forks workspaces. When it ends, or this process does, everything in them has ended."""

    def __init__(self, packages: Packages | None = None) -> None:
        """Start it, without any workspace. Raises WorkspaceUnavailableError."""
        self._setup = _setup(packages or NO_PACKAGES)
        _allow_many_files()
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._lock = threading.Lock()
        self.is_alive = True
        started: Future[None] = Future()
        # The kernel kills the process when the thread that started it ends, so that thread must live as long.
        self._thread = threading.Thread(target=self._live, args=(started,), name="alphamix workspaces", daemon=True)
        self._thread.start()
        started.result()

    def open(self, limits: WorkspaceLimits, cwd: str = DIRECTORY, mounts: int = -1) -> Connection:
        """Start the first process of a new workspace, or of that with the mount namespace `mounts`.

        The connection reports if that fails. Raises WorkspaceError if the broker has ended.
        """
        order = asdict(limits) | {"cwd": cwd}
        ours, theirs = socket.socketpair()
        connection = Connection(ours)
        with theirs, self._lock:
            if not self.is_alive:
                ours.close()
                raise _ENDED
            self._connections[ours.fileno()] = connection
            self._epoll.register(ours, select.EPOLLIN)
            with suppress(OSError):  # then the other end of the stream is closed
                given = [theirs.fileno(), *([mounts] if mounts >= 0 else [])]
                socket.send_fds(self._orders, [json.dumps(order).encode()], given)
        return connection

    def close(self) -> None:
        """End the process and all workspaces. Safe to call twice."""
        with self._lock:
            if self.is_alive:
                self._kill()
        self._thread.join()

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _live(self, started: "Future[None]") -> None:
        try:
            keeper = self._start()
        except Exception as error:
            self._epoll.close()
            started.set_exception(error)
            return
        started.set_result(None)
        try:
            while self._read_from_workspaces():
                pass
        finally:  # whatever ends this thread ends the workspaces, for nobody would read from them
            self._kill()
            self._end()
            keeper.wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        """Start the broker. Raises WorkspaceUnavailableError, or WorkspaceError if there are no resources for it."""
        try:
            self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                keeper = start_inside("broker", "namespaces", [theirs.fileno()], self._setup, room="workspace")
        except OSError as error:
            raise WorkspaceError(f"the broker of the workspaces cannot be started ({error}): try again") from None
        try:
            self._pidfd = self._receive_ready()
            self._epoll.register(self._pidfd, select.EPOLLIN)
        except BaseException:
            keeper.kill()
            keeper.wait()
            self._orders.close()
            raise
        return keeper

    def _receive_ready(self) -> int:
        """Return a descriptor of the broker's process. Raises WorkspaceUnavailableError."""
        self._orders.settimeout(_ANSWER_WAIT_S)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._orders, 1 << 16, 1, socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise WorkspaceError(f"the broker of the workspaces did not answer ({error}): try again") from None
        self._orders.settimeout(None)
        if not message:
            raise unavailable("its process ended")
        if not descriptors:
            raise unavailable(json.loads(message)["error"])
        return descriptors[0]

    def _read_from_workspaces(self) -> bool:
        """Wait for messages, and return False once the broker has ended."""
        for descriptor, _ in self._epoll.poll():
            if descriptor == self._pidfd:
                return False
            connection = self._connections[descriptor]
            if not connection.read():
                with self._lock:  # before another stream can get this descriptor
                    self._epoll.unregister(descriptor)
                    del self._connections[descriptor]
                connection.hang_up()
        return True

    def _end(self) -> None:
        wait_for_end(self._pidfd)
        with self._lock:
            self.is_alive = False
            connections = list(self._connections.values())
        for connection in connections:
            while connection.read():  # answers that were sent before the end
                pass
            connection.hang_up()
        self._orders.close()
        self._epoll.close()
        os.close(self._pidfd)


def unavailable(reason: str) -> WorkspaceUnavailableError:
    """Return the error that says why there can be no workspaces on this machine, and what to do."""
    if "landlock" in reason.lower():
        cure = fix_landlock()
    elif "mount /proc" in reason:
        cure = "start the container with: --security-opt systempaths=unconfined"
    else:
        cure = fix_namespaces()
    return WorkspaceUnavailableError(reason, cure)


def _allow_many_files() -> None:
    """Raise the soft limit on open files: a workspace takes up to three, and the default of 1,024 is for `select`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _setup(packages: Packages) -> str:
    """Return what the broker needs to know, as JSON. Raises WorkspaceUnavailableError if there is no shell."""
    bash = shutil.which("bash")
    if bash is None:
        raise WorkspaceUnavailableError("there is no bash", "install it with this system's packages")
    interpreters = Path(os.path.realpath(sys.executable)).parent
    environment = {
        "PATH": f"{interpreters}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": DIRECTORY,
        "PWD": DIRECTORY,
        "USER": "nobody",
        "SHELL": bash,
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PAGER": "cat",
    } | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return json.dumps(
        {
            "packages": json.loads(packages.to_json()),
            "readable": [*_READABLE, str(interpreters), str(Path(bash).resolve().parent)],
            "environment": environment,
            "bash": bash,
        }
    )
