"""The trusted side's end of the stream to the first process of one workspace. Orders wait in line for their turn."""

import os
import select
import signal
import socket
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, NamedTuple

from alphamix.grading.workspace.confined import wire
from alphamix.grading.workspace.types import WorkspaceError

_CHUNK = 1 << 18
_END_WAIT_S = 60.0
"""Wall seconds that a killed workspace may take to end, far above what any load causes; it only prevents a deadlock."""


class _Order(NamedTuple):
    data: bytes
    descriptors: Sequence[int]
    answer: "Future[wire.Packet]"


class Connection:
    """Sends orders one after the other, and resolves their futures. Any thread may use it.

    The first message of the other side is not an answer: it says that the workspace is ready.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._received = bytearray()
        self._descriptors: list[int] = []
        self._pidfd = self._mounts = -1
        self._ended: WorkspaceError | None = None
        self._started: Future[wire.Packet] = Future()
        self._orders = deque([_Order(b"", (), self._started)])

    def fileno(self) -> int:
        """Return the descriptor to watch."""
        return self._channel.fileno()

    def send(self, fields: dict[str, Any], body: bytes = b"", descriptors: Sequence[int] = ()) -> "Future[wire.Packet]":
        """Order something. The descriptors are closed once they are sent, or never will be."""
        order = _Order(wire.pack(fields, body), descriptors, Future())
        order.answer.set_running_or_notify_cancel()
        with self._lock:
            ended = self._ended
            if ended is None:
                self._orders.append(order)
                if len(self._orders) == 1:
                    self._send(order)
        if ended is not None:
            _close_all(descriptors)
            order.answer.set_exception(ended)
        return order.answer

    def hang_up(self) -> None:
        """Close the stream."""
        self._channel.close()

    def read(self) -> bool:
        """Take what has arrived, and return False if the other side is gone. Only the broker's thread calls this."""
        try:
            data, descriptors, _, _ = socket.recv_fds(
                self._channel, _CHUNK, 2, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return True
        except OSError:
            data, descriptors = b"", []
        if not data:
            self.end(WorkspaceError("the workspace ended unexpectedly: try again"))
            return False
        self._descriptors += descriptors
        self._received += data
        while (message := self._next_message()) is not None:
            self._on_message(message)
        return True

    def _next_message(self) -> wire.Packet | None:
        if len(self._received) < wire.HEAD.size:
            return None
        text_bytes, body_bytes = wire.HEAD.unpack_from(self._received)
        start = wire.HEAD.size + text_bytes
        if len(self._received) < start + body_bytes:
            return None
        fields = wire.json.loads(self._received[wire.HEAD.size : start])
        message = wire.Packet(fields, bytes(self._received[start : start + body_bytes]), self._descriptors)
        del self._received[: start + body_bytes]
        self._descriptors = []
        return message

    def _on_message(self, message: wire.Packet) -> None:
        with self._lock:
            if not self._orders:  # ended meanwhile
                return
            order = self._orders.popleft()
            if order.answer is self._started and message.descriptors:
                self._pidfd, *mounts = message.descriptors
                self._mounts = mounts[0] if mounts else -1
            if self._orders:
                self._send(self._orders[0])
        if "failure" in message.fields:
            error = WorkspaceError(f"the workspace failed ({message.fields['failure']}): try again")
            order.answer.set_exception(error)
            self.end(error)  # its process ends
        else:
            order.answer.set_result(message)

    def _send(self, order: _Order) -> None:
        with suppress(OSError):  # the next read finds that the other side is gone
            wire.send(self._channel, order.data, order.descriptors)
        _close_all(order.descriptors)

    def take_mounts(self) -> int:
        """Return a descriptor of a new workspace's mount namespace, which keeps its files. The caller closes it."""
        with self._lock:
            mounts, self._mounts = self._mounts, -1
        return mounts

    def end_if_idle(self) -> bool:
        """Let the first process end if no order waits, and return whether it does."""
        with self._lock:
            if self._orders or self._ended is not None:
                return False
            self._ended = WorkspaceError("the first process of the workspace was ended")
            with suppress(OSError):
                self._channel.shutdown(socket.SHUT_WR)
            return True

    def end(self, error: WorkspaceError) -> None:
        """Let all orders that wait, and all later ones, fail with this error."""
        with self._lock:
            if self._ended is None:
                self._ended = error
            orders = list(self._orders)
            self._orders.clear()
        for index, order in enumerate(orders):
            if index > 0:  # the first one has been sent
                _close_all(order.descriptors)
            order.answer.set_exception(error)

    def close(self) -> None:
        """Kill everything in the workspace, and wait for its end. Safe to call twice, and from any thread."""
        with suppress(WorkspaceError):
            self._started.result(_END_WAIT_S)
        self.end(WorkspaceError("the workspace was closed"))
        with self._lock:
            pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            wait_for_end(pidfd)
            os.close(pidfd)
        if (mounts := self.take_mounts()) >= 0:
            os.close(mounts)


def wait_for_end(pidfd: int) -> None:
    """Wait for the end of a first process, before which all others of its namespace end. Raises WorkspaceError."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(_END_WAIT_S * 1000):
        raise WorkspaceError(f"a killed workspace did not end within {_END_WAIT_S:.0f} s")


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
