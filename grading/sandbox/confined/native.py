"""The process of a compiled program, for one test: it confines itself, then executes the program.

The program is executed from a descriptor, because no directory in the sandbox contains it. Execution closes the
descriptor, and the system call filter, which stays in force, permits the execution of nothing else.
"""

import os
import signal
from typing import Any, NoReturn

from alphamix.grading.sandbox.confined import confinement
from alphamix.grading.sandbox.confined.program import Channels, send
from alphamix.grading.sandbox.confined.seccomp import EXECUTABLE, Filter


def run(
    order: dict[str, Any], channels: Channels, syscall_filter: Filter | None, executable: int, errors: int
) -> NoReturn:
    """Execute a program, with `errors` as its standard error. Never returns.

    `order` has the limits `address_space` (bytes) and `cpu_s` (whole seconds).
    """
    try:
        os.dup2(executable, EXECUTABLE, inheritable=False)
        for source, target in ((channels.inputs, 0), (channels.answers, 1), (errors, 2)):
            os.dup2(source, target)
        os.lseek(0, 0, os.SEEK_SET)  # the previous program, which shares the offset, may have moved it
        confinement.limit_program(order["address_space"], order["cpu_s"])
        if syscall_filter is not None:
            syscall_filter.install()
        send(channels, b"H")
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores these, and the program would inherit that
            signal.signal(number, signal.SIG_DFL)
        os.read(channels.status, 1)  # wait until the input is written and the controller measures this process
        os.execve(EXECUTABLE, ["main"], {})
    except OSError as error:
        send(channels, b"E", f"cannot be executed: {error}")
    finally:
        os._exit(0)
