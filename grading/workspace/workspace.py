"""A confined place to work in, for one attempt: files, a shell, and a Python session."""

import fcntl
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from alphamix.grading.workspace import output
from alphamix.grading.workspace.confined.wire import Packet
from alphamix.grading.workspace.connection import Connection
from alphamix.grading.workspace.types import (
    DIRECTORY,
    CallLimits,
    CallResult,
    FilePart,
    FileRefusedError,
    ShownText,
    WorkspaceError,
)

T = TypeVar("T")

_SEALS = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_DEFAULT = CallLimits()


class Workspace:
    """A directory `/workspace` that commands change, behind walls. Nothing is started before the first call.

    Every method but `close` returns a future at once. Calls of one workspace run one after the other, in their order;
    calls of different ones run side by side. A future raises WorkspaceError if the sandbox fails. When a call ends,
    everything that it started has been killed, or with a kept session, stopped.
    """

    def __init__(
        self,
        connect: Callable[[str, int], Connection],
        on_idle: Callable[["Workspace"], None] = lambda workspace: None,
        *,
        keeps_variables: bool = True,
    ) -> None:
        """Prepare a workspace.

        Args:
            connect: Starts a first process, given the directory of the shell and the mount namespace or -1.
            on_idle: Is called whenever a call has ended and `rest` is possible.
            keeps_variables: Whether Python code finds the variables of earlier calls.
        """
        self._connect = connect
        self._on_idle = on_idle
        self._keeps_variables = keeps_variables
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._former: Connection | None = None
        self._mounts = -1
        self._cwd = DIRECTORY
        self._may_rest = False
        self._is_closed = False

    def run(
        self, command: str, limits: CallLimits = _DEFAULT, *, stdin: bytes = b"", merged: bool = True
    ) -> "Future[CallResult]":
        """Run a command of bash, in a new shell that starts in the directory where the last one ended.

        If `merged`, standard error is shown in standard output, where it was written.
        """
        fields = {"do": "command", "merged": merged} | _limit_fields(limits)
        return self._order(fields, _reads_result(limits), _encoded(command), stdin)

    def run_python(self, code: str, limits: CallLimits = _DEFAULT) -> "Future[CallResult]":
        """Run Python code and show the value of its last expression, as a notebook does.

        If the workspace keeps variables, the code finds those of earlier calls, unless the result of the last one said
        that they are lost. Otherwise it runs in a new interpreter.
        """
        fields = {"do": "python", "keeps_variables": self._keeps_variables} | _limit_fields(limits)
        return self._order(fields, _reads_result(limits), given=_encoded(code))

    def read(self, path: str, *, offset: int = 0, max_bytes: int = 1 << 20) -> "Future[FilePart]":
        """Read a part of a regular file. The future may raise FileRefusedError."""
        fields = {"do": "read", "path": path, "offset": offset, "max_bytes": max_bytes}
        return self._order(fields, lambda message: FilePart(message.body, message.fields["size"]))

    def write(self, path: str, data: bytes) -> "Future[None]":
        """Write a file, with the directories above it. The future may raise FileRefusedError."""
        return self._order({"do": "write", "path": path}, lambda message: None, data)

    def submission(self, path: str, *, max_bytes: int = 1 << 20) -> "Future[bytes]":
        """End all processes, the Python session included, and return the content of a regular file in `/workspace`.

        The future raises FileRefusedError for a link, for anything else that is not a file, and if it is too long.
        """
        fields = {"do": "submission", "path": path, "max_bytes": max_bytes}
        return self._order(fields, lambda message: message.body)

    def rest(self) -> None:
        """Let the first process end unless it is needed, so that only files take memory. The next call starts one."""
        if not self._lock.acquire(blocking=False):  # somebody is using it
            return
        try:
            if self._connection is None or not self._may_rest or not self._connection.end_if_idle():
                return
            if self._mounts < 0:
                self._mounts = self._connection.take_mounts()
            former, self._former, self._connection = self._former, self._connection, None
        finally:
            self._lock.release()
        if former is not None:
            with suppress(WorkspaceError):
                former.close()

    def close(self) -> None:
        """End everything in the workspace, and wait for it. Safe to call twice, during a call, and from any thread."""
        with self._lock:
            self._is_closed = True
            connections = [each for each in (self._former, self._connection) if each is not None]
            mounts, self._mounts = self._mounts, -1
        for connection in connections:
            connection.close()
        if mounts >= 0:
            os.close(mounts)

    def __enter__(self) -> "Workspace":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(
        self, fields: dict[str, Any], parse: Callable[[Packet], T], body: bytes = b"", given: bytes | None = None
    ) -> "Future[T]":
        """Send an order, with `given` as a file that nobody can change, and return the parsed answer."""
        parsed: Future[T] = Future()
        parsed.set_running_or_notify_cancel()
        try:
            with self._lock:
                descriptors = [] if given is None else [_sealed_file(given)]
                answer = self._connected().send(fields, body, descriptors)
        except OSError as error:
            parsed.set_exception(
                WorkspaceError(f"a workspace cannot be reached ({error}): close some, or allow more files")
            )
            return parsed
        except Exception as error:
            parsed.set_exception(error)
            return parsed
        answer.add_done_callback(lambda done: self._resolve(parsed, done, parse))
        return parsed

    def _connected(self) -> Connection:
        if self._is_closed:
            raise WorkspaceError("the workspace was closed")
        if self._connection is None:
            self._connection = self._connect(self._cwd, self._mounts)
        return self._connection

    def _resolve(self, parsed: "Future[T]", answer: "Future[Packet]", parse: Callable[[Packet], T]) -> None:
        try:
            message = answer.result()
            self._cwd = message.fields.get("cwd", self._cwd)
            self._may_rest = message.fields["can_end"]
            if self._may_rest:
                self._on_idle(self)
            if "refused" in message.fields:
                raise FileRefusedError(message.fields["refused"])
            parsed.set_result(parse(message))
        except Exception as error:
            parsed.set_exception(error)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a model's text may have halves of surrogate pairs


def _sealed_file(data: bytes) -> int:
    descriptor = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    written = 0
    while written < len(data):
        written += os.write(descriptor, data[written:])
    os.lseek(descriptor, 0, os.SEEK_SET)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor


def _limit_fields(limits: CallLimits) -> dict[str, Any]:
    return {
        "cpu_s": limits.cpu_s,
        "wall_s": limits.wall_s,
        "keep_bytes": output.kept_bytes(limits.output_chars),
    }


def _reads_result(limits: CallLimits) -> Callable[[Packet], CallResult]:
    def parse(message: Packet) -> CallResult:
        fields, at, outputs = message.fields, 0, list[ShownText]()
        for head_bytes, tail_bytes, total_bytes in fields["streams"]:
            head = message.body[at : at + head_bytes]
            tail = message.body[at + head_bytes : at + head_bytes + tail_bytes]
            outputs.append(output.show(head, tail, total_bytes, limits.output_chars))
            at += head_bytes + tail_bytes
        stdout, stderr = outputs if len(outputs) == 2 else (outputs[0], ShownText(""))
        return CallResult(
            ended=fields["ended"],
            exit_code=fields["exit_code"],
            stdout=stdout,
            stderr=stderr,
            cpu_s=fields["cpu_s"],
            wall_s=fields["wall_s"],
            lost_variables=fields.get("lost_variables", False),
        )

    return parse
