"""One compiled program in a process of its own, for one test: confine, then become the program.

The program is executed from a descriptor, since it lies in no directory that the sandbox shows. The descriptor closes
as that happens, and the system call filter, which stays, allows to execute nothing else.

Runs inside the sandbox: standard library only.
"""

import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

from alphamix.grading.sandbox.confined import confinement
from alphamix.grading.sandbox.confined.program import Channels, send
from alphamix.grading.sandbox.confined.seccomp import EXECUTABLE

if TYPE_CHECKING:
    from alphamix.grading.sandbox.confined.seccomp import Filter


def run(
    order: dict[str, Any], channels: Channels, syscall_filter: "Filter | None", executable: int, errors: int
) -> NoReturn:
    """Run an executable, with `errors` as its standard error; never returns. `order`: `address_space` (bytes), `cpu_s`
    (whole seconds).
    """
    try:
        os.dup2(executable, EXECUTABLE, inheritable=False)
        for source, target in ((channels.inputs, 0), (channels.answers, 1), (errors, 2)):
            os.dup2(source, target)
        os.lseek(0, 0, os.SEEK_SET)
        os.lseek(1, 0, os.SEEK_SET)
        confinement.limit_program(order["address_space"], order["cpu_s"])
        if syscall_filter is not None:
            syscall_filter.install()
        send(channels, b"H")
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores; a program finds them as they come
            signal.signal(number, signal.SIG_DFL)
        os.read(channels.status, 1)  # the input is there, and the controller has taken hold of this process
        os.execve(EXECUTABLE, ["main"], {})
    except OSError as error:
        send(channels, b"E", f"cannot be executed: {error}")
    finally:
        os._exit(0)
