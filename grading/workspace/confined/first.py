"""The first process of a workspace: it confines itself, then does what it is ordered to, one order at a time.

Programs run as its children, behind the same walls. It is process 1 of their pid namespace: they can neither signal nor
inspect it, it inherits whatever they leave running and kills that after each order, and when it ends the kernel ends
all of them.
"""

import _socket
import errno
import os
import resource
import time
from typing import Any, NoReturn

from alphamix.grading.sandbox.confined import confinement
from alphamix.grading.sandbox.confined.seccomp import Filter
from alphamix.grading.workspace.confined import files, wire
from alphamix.grading.workspace.confined.execution import Execution, Streams, how_it_ended, restore_signals
from alphamix.grading.workspace.confined.processes import Processes
from alphamix.grading.workspace.confined.session import Session

DIRECTORY = confinement.PRIVATE_DIRECTORIES[0]
MAX_OPEN_FILES = 256
CWD_DESCRIPTOR = MAX_OPEN_FILES - 2  # bash may use the last one itself
"""Where the shell writes its working directory when it ends."""
_MAX_PATH = 4096
_TRY_AGAIN_S = 0.01
_REHEARSALS, _REHEARSED_PROCESSES = 10, 1000
_RESERVED_PROCESSES = 4
"""Processes that this one can start even if programs have as many as they may."""

Answer = tuple[dict[str, Any], bytes]


def run(
    order: dict[str, Any],
    descriptors: list[int],
    readable: list[str],
    environment: dict[str, str],
    bash: str,
    syscall_filter: Filter,
) -> NoReturn:
    """Confine this process and serve orders until the trusted side closes the stream. Never returns.

    Args:
        order: The limits of the workspace, and `cwd`, where its shell is.
        descriptors: This end of the stream, and for a workspace that exists its mount namespace.
        readable: Paths of the root that may be read.
        environment: Environment of commands.
        bash: Path of the shell.
        syscall_filter: Filter for this process and its children.
    """
    stream = _socket.socket(fileno=descriptors[0])
    try:
        kept = descriptors[1:]
        if kept:
            confinement.enter_nested_namespaces(kept.pop())
        else:
            kept.append(confinement.make_nested_namespaces(order["disk_bytes"], order["max_files"]))
        oom_score = _confine(order, readable, syscall_filter)
        told = [os.pidfd_open(os.getpid()), *kept]
        _say_ready(stream, told)
        for descriptor in {*told, *descriptors[1:]}:
            os.close(descriptor)
        workspace = _Workspace(stream, Processes(oom_score, order["max_processes"]), order, environment, bash)
        while (message := wire.receive(stream)) is not None:
            wire.send(stream, wire.pack(*workspace.obey(message)))
    except Exception as error:
        wire.send(stream, wire.pack({"failure": f"{type(error).__name__}: {error}"}))
    finally:
        os._exit(0)


def _say_ready(stream: "_socket.socket", descriptors: list[int]) -> None:
    """Send the descriptors. Of all workspaces together, no more may be on their way than one process may have open."""
    while True:
        try:
            wire.send(stream, wire.pack({"ready": True}), descriptors)
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            time.sleep(_TRY_AGAIN_S)
        else:
            return


def rehearse(environment: dict[str, str], bash: str) -> None:
    """Do what every first process would do first, in the broker, which is process 1 of a pid namespace as well.

    The interpreter adapts its code to what it meets (PEP 659), and memory that is written to here stays shared.
    """
    ours, theirs = _socket.socketpair()
    oom_score = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    order = {"memory_bytes": 1 << 30, "cwd": "/"}
    workspace = _Workspace(theirs, Processes(oom_score, _REHEARSED_PROCESSES), order, environment, bash)
    calls = {"cpu_s": 60.0, "wall_s": 60.0, "keep_bytes": 1 << 10}
    orders = [
        ({"do": "command", "merged": True} | calls, b"true"),
        ({"do": "python", "keeps_variables": False} | calls, b""),
        ({"do": "read", "path": "absent", "offset": 0, "max_bytes": 1}, b""),
    ]
    for fields, body in orders * _REHEARSALS:
        given = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        wire.send(ours, wire.pack(fields, body), [given])
        os.close(given)
        message = wire.receive(theirs)
        if message is not None:
            wire.send(theirs, wire.pack(*workspace.obey(message)))
        wire.receive(ours)
    os.close(oom_score)
    ours.close()
    theirs.close()


def _confine(limits: dict[str, Any], readable: list[str], syscall_filter: Filter) -> int:
    """Confine this process, and return a descriptor of its rank for out-of-memory kills."""
    confinement.become_first_process()
    oom_score = os.open(f"{confinement.PROCESSES}/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    confinement.drop_privileges(become_nobody=False)
    visible = [*readable, confinement.PROCESSES]
    own = confinement.PRIVATE_DIRECTORIES
    confinement.restrict_files(visible, executable=True, writable=own, listable=["/"])
    address_space = max(2 * limits["memory_bytes"], limits["memory_bytes"] + (1 << 30))
    others = {
        resource.RLIMIT_NPROC: limits["max_processes"] + _RESERVED_PROCESSES,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
        resource.RLIMIT_AS: address_space,
    }
    file_bytes = limits["disk_bytes"] + (1 << 20)  # more, because a full disk is an error and no signal
    confinement.limit_resources(file_bytes=file_bytes, limit_threads=False, others=others)
    syscall_filter.install()
    os.chmod(DIRECTORY, 0o755)  # noqa: PTH101  # a program may have denied itself the use of it
    os.chdir(DIRECTORY)
    return oom_score


class _Workspace:
    """What one order after the other finds: files, a working directory, and perhaps a Python session."""

    def __init__(
        self,
        stream: "_socket.socket",
        processes: Processes,
        order: dict[str, Any],
        environment: dict[str, str],
        bash: str,
    ) -> None:
        self._control = stream.fileno()
        self._processes = processes
        self._limits = {"memory_bytes": order["memory_bytes"]}
        self._environment = environment
        self._bash = bash
        self._cwd: str = order["cwd"]
        self._session: Session | None = None

    def obey(self, message: wire.Packet) -> Answer:
        """Carry out an order, and return the answer, with whether a new process could go on as well as this one."""
        answer, body = self._obey(message)
        return answer | {"can_end": self._session is None}, body

    def _obey(self, message: wire.Packet) -> Answer:
        fields, body, descriptors = message
        try:
            match fields["do"]:
                case "command":
                    return self._run_command(fields | self._limits, body, descriptors[0])
                case "python":
                    return self._run_python(fields | self._limits, descriptors[0])
                case "read":
                    return files.read(fields["path"], fields["offset"], fields["max_bytes"])
                case "write":
                    return files.write(fields["path"], body)
                case _:
                    return self._read_submission(fields)
        except files.RefusedError as refusal:
            return {"refused": str(refusal)}, b""
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _run_command(self, fields: dict[str, Any], command: bytes, stdin: int) -> Answer:
        session = self._session.pid if self._session else None
        streams = Streams(merged=fields["merged"])
        execution = Execution(self._processes, self._control, streams, fields, others_run=session is not None)
        cwd_read, cwd_write = os.pipe()
        pid = self._processes.fork()
        if pid == 0:
            streams.become_standard(stdin, {cwd_write: CWD_DESCRIPTOR})
            self._execute(command)
        os.close(cwd_write)
        streams.close_written()
        pidfd = os.pidfd_open(pid)
        excess = execution.watch(pidfd)
        os.close(pidfd)
        statuses = self._processes.clear(kept=session)
        answer = execution.answer(*how_it_ended(excess, statuses.get(pid)))
        streams.close()
        self._remember_cwd(cwd_read)
        answer[0]["cwd"] = self._cwd
        return answer

    def _execute(self, command: bytes) -> NoReturn:
        try:
            os.setsid()
            restore_signals()
            try:
                os.chdir(self._cwd)
            except OSError:  # the directory is gone
                os.chdir(DIRECTORY)
            script = b"trap 'pwd -P >&%d 2> /dev/null' EXIT; %s" % (CWD_DESCRIPTOR, command)
            os.execve(self._bash, [b"bash", b"-c", script], self._environment)
        except (OSError, ValueError) as error:
            os.write(2, f"bash: {error}\n".encode())
        finally:
            os._exit(126)

    def _remember_cwd(self, cwd_read: int) -> None:
        os.set_blocking(cwd_read, False)
        try:
            said = os.read(cwd_read, _MAX_PATH)
        except BlockingIOError:
            said = b""
        os.close(cwd_read)
        path = said.partition(b"\n")[0]
        if path.startswith(b"/") and b"\0" not in path:
            self._cwd = os.fsdecode(path)

    def _run_python(self, fields: dict[str, Any], source: int) -> Answer:
        has_variables = self._session is not None
        if self._session is not None and self._session.has_spoken_between_calls():
            self._end_session()
        is_new = self._session is None
        session = self._session or Session(self._processes, self._control)
        answer = session.run(fields, source)
        self._session = session if session.lives else None
        answer[0]["lost_variables"] = fields["keeps_variables"] and has_variables and (is_new or not session.lives)
        return answer

    def _read_submission(self, fields: dict[str, Any]) -> Answer:
        self._end_session()
        return files.read_submission(DIRECTORY, fields["path"], fields["max_bytes"])

    def _end_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
        self._processes.clear()
