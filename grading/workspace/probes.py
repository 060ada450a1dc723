"""Proof that workspaces hold on this machine: a program that tries to break out, run whenever a broker starts."""

from alphamix.grading.workspace.broker import Broker, unavailable
from alphamix.grading.workspace.types import CallLimits, WorkspaceError, WorkspaceLimits
from alphamix.grading.workspace.workspace import Workspace

_LIMITS = CallLimits(cpu_s=20.0, wall_s=600.0)
_PROGRAM = """
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)

def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False

def fails(name, *arguments):
    return getattr(libc, name)(*arguments) == -1

holds = {{
    "reading a file of the host": refused(lambda: open({own_file!r}).read()),
    "writing outside of the workspace": all(refused(lambda: open(name, "w")) for name in ("/x", "/usr/x", "/etc/x")),
    "opening a socket": all(refused(lambda: socket.socket(kind)) for kind in (socket.AF_INET, socket.AF_UNIX)),
    "mounting": fails("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "entering namespaces": fails("unshare", 0x10000000),
    "tracing": fails("ptrace", 16, 1, 0, 0),
    "reading its first process": refused(lambda: open("/proc/1/mem", "rb").read(1)),
    "signalling outside": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()) == [1, os.getpid()],
    "being root": os.geteuid() == 65534 and "CapEff:\\t0000000000000000" in open("/proc/self/status").read(),
    "starting processes without end": __import__("resource").getrlimit(6)[1] <= {max_processes},
}}
print(*(name for name, does in holds.items() if not does), sep="\\n")
"""
"""Prints what it can do and should not."""


def prove(broker: Broker) -> None:
    """Try to break out of a workspace. Raises WorkspaceUnavailableError if that succeeds or there can be none."""
    limits = WorkspaceLimits()
    program = _PROGRAM.format(own_file=__file__, max_processes=limits.max_processes + 1)
    with Workspace(lambda cwd, mounts: broker.open(limits, cwd, mounts)) as workspace:
        try:
            result = workspace.run_python(program, _LIMITS).result()
        except WorkspaceError as error:
            raise unavailable(str(error)) from None
    said = (result.stdout.text + result.stderr.text).strip()
    if result.ended != "ok" or said:
        reason = (
            f"{said.splitlines()[-1]} is possible" if result.ended == "ok" else f"the probe ended with {said[-300:]!r}"
        )
        raise unavailable(reason)
