"""One confined run of a compiler, whose input is hostile: it may try to include files, or to compile forever.

The compiler is a child of this process, which passes its executable and its messages to the trusted side. It can write
only to one small directory, which is removed with the sandbox.
"""

# ruff: noqa: PTH120, PTH123

import contextlib
import json
import os
import sys

from alphamix.grading.sandbox.confined import confinement
from alphamix.grading.sandbox.confined.seccomp import Filter

EXIT_FAILED = 1
"""Exit code if the compiler rejected the source or exceeded a limit."""
EXIT_NOT_CONFINED = 2
"""Exit code if the sandbox could not be set up; the messages say why."""

CPU_S = 30
"""CPU limit of each of the compiler's processes, which run one after the other."""
ADDRESS_SPACE = 2 << 30
EXECUTABLE_BYTES = 64 << 20
_SCRATCH_BYTES = 3 * EXECUTABLE_BYTES


def main(tier: str, *words: str) -> None:
    """Compile the source in the first inherited descriptor to the second, and write messages to the third."""
    parent, *inherited, cpu_s, address_space = map(int, words[:6])
    source_name, command, prefix, scratch = words[6:]
    compiler, *arguments = json.loads(command)
    confinement.die_with_parent()
    if os.getppid() != parent:
        return
    source, executable, messages = confinement.move_down(inherited)
    try:
        scratch = _confine(tier, prefix, scratch)
        confinement.die_with_parent()
        confinement.limit_program(address_space, cpu_s)
        if tier != "weak":
            Filter("compiler").install()
        os.chdir(scratch)
        with open(source_name, "wb") as file:
            file.write(os.pread(source, os.fstat(source).st_size, 0))
        child = os.fork()
        if child == 0:
            os.dup2(messages, 1)
            os.dup2(messages, 2)
            os.closerange(3, confinement.MAX_OPEN_FILES)
            folder = os.path.dirname(compiler)
            environment = {"PATH": f"{folder}:/usr/bin:/bin", "TMPDIR": scratch, "LC_ALL": "C"}
            environment["LD_ORIGIN_PATH"] = folder  # where the linker looks without /proc
            os.execve(compiler, [compiler, *arguments], environment)
        _, status = os.waitpid(child, 0)
    except Exception as error:
        os.pwrite(messages, f"{type(error).__name__}: {error}".encode(errors="replace"), 0)
        os._exit(EXIT_NOT_CONFINED)
    if status != 0:
        os._exit(EXIT_NOT_CONFINED if os.waitstatus_to_exitcode(status) == EXIT_NOT_CONFINED else EXIT_FAILED)
    with open("main", "rb") as file:
        while chunk := file.read(1 << 20):
            os.write(executable, chunk)
    os._exit(0)


def _confine(tier: str, prefix: str, scratch: str) -> str:
    """Confine this process, and return the directory to which it may write."""
    sys.path[:] = [os.path.realpath(path) for path in sys.path]
    readable = confinement.readable_paths([prefix, "/usr"])
    if tier == "namespaces":
        scratch = confinement.SCRATCH
        confinement.enter_namespaces(readable, _SCRATCH_BYTES)
        confinement.drop_privileges(become_nobody=True)
        with contextlib.suppress(OSError):  # older kernels lack Landlock; the read-only root holds without it
            confinement.restrict_files(readable, executable=True, writable=[scratch])
    elif tier == "landlock":
        become_nobody = confinement.reachable_by_nobody(readable) and os.geteuid() == 0
        if become_nobody:
            os.chown(scratch, confinement.NOBODY, confinement.NOBODY)
        confinement.drop_privileges(become_nobody=become_nobody)
        confinement.restrict_files(readable, executable=True, writable=[scratch])
    confinement.limit_resources(file_bytes=EXECUTABLE_BYTES, limit_threads=tier == "namespaces")
    return scratch
