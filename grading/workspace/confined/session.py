"""A Python session, seen from the first process: an interpreter that has been forked and runs one text after another.

Between two calls it is stopped, with all of its threads. What it sends proves nothing and costs only itself.
"""

import _socket
import contextlib
import os
import signal
from array import array
from typing import Any

from alphamix.grading.sandbox.confined import confinement
from alphamix.grading.workspace.confined import python
from alphamix.grading.workspace.confined.execution import Execution, Streams, how_it_ended
from alphamix.grading.workspace.confined.processes import Processes

_MAX_STATUS = 16


class Session:
    """An interpreter that keeps its variables as long as its calls ask for that and none exceeds a limit."""

    def __init__(self, processes: Processes, control: int) -> None:
        self._processes = processes
        self._control = control
        self._streams = Streams(merged=False)
        self._channel, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self.has_run = False
        self.lives = True
        self.pid = processes.fork()
        if self.pid == 0:
            null = os.open(os.devnull, os.O_RDONLY)
            self._streams.become_standard(null, {theirs.fileno(): python.CHANNEL})
            confinement.become_inspectable()
            python.serve()
        theirs.close()
        self._streams.close_written()
        self._pidfd = os.pidfd_open(self.pid)

    def run(self, fields: dict[str, Any], source: int) -> tuple[dict[str, Any], bytes]:
        """Run the text in the descriptor `source`, and return the answer. The session then `lives` or is closed."""
        execution = Execution(self._processes, self._control, self._streams, fields, others_run=self.has_run)
        self.has_run = True
        order = python.KEEP if fields["keeps_variables"] else python.LAST
        carried = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", [source]))]
        with contextlib.suppress(OSError):  # it has ended, which the next wait shows
            os.kill(self.pid, signal.SIGCONT)
            self._channel.sendmsg([order], carried, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        excess = execution.watch(self._channel.fileno(), self._pidfd)
        exit_code = None if excess else self._receive()
        self.lives = exit_code is not None and order == python.KEEP
        statuses = self._processes.clear(kept=self.pid if self.lives else None)
        if exit_code is None:
            ended = how_it_ended(excess, statuses.get(self.pid))
        else:
            ended = "ok" if exit_code == 0 else "error", exit_code
        answer = execution.answer(*ended, self._processes.measure() if self.lives else None)
        if not self.lives:
            self.close()
        return answer

    def has_spoken_between_calls(self) -> bool:
        """Return whether the session sent more than the status of its last text, as only a text can that forges one.

        Such a text may still run, and would answer in the place of the next.
        """
        try:
            return self._channel.recv(_MAX_STATUS, _socket.MSG_DONTWAIT | _socket.MSG_PEEK) != b""
        except OSError:
            return False

    def _receive(self) -> int | None:
        """Return the exit code that the session sent; None if it ended, or sent something else."""
        try:
            said = self._channel.recv(_MAX_STATUS, _socket.MSG_DONTWAIT)
        except OSError:
            return None
        return int(said) if said.isdigit() else None

    def close(self) -> None:
        """Close what this process holds of the session; it may still live."""
        self._channel.close()
        self._streams.close()
        os.close(self._pidfd)
