"""Guard that runs a command, and ends it with everything that it started when the holder of the guard's standard input
is gone.

It is a separate program: `python guard.py COMMAND …`, with a pipe as standard input. A byte on the pipe, or its end
(the kernel closes it however its holder dies), stops the command: SIGTERM, then SIGKILL to its whole process group. No
process of that group is left when this program ends. A parent-death signal alone would not suffice: it is sent when the
*thread* that started a process ends, and it does not reach grandchildren.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

_GRACE_S = 10.0
"""Seconds that the command has to end by itself after SIGTERM."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def main(command: list[str]) -> int:
    """Run the command until it ends or this process must end. Return its exit status, negative for a signal."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # orphans of the command become ours, to be waited for
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        # If this program itself is killed, at least the command ends; its workers may then be left.
        preexec_fn=lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0),
    )
    ended = os.pidfd_open(process.pid)
    readable, _, _ = select.select([sys.stdin, ended], [], [])
    if ended not in readable:
        process.terminate()
        select.select([ended], [], [], _GRACE_S)
    # The command is not reaped yet, so the kernel cannot have given its process id to another group.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    status = process.wait()
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) & 0xFF)
