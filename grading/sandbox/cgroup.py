"""Memory limits that the kernel enforces for each sandbox, with cgroup v2, if this process may divide its own cgroup.

The kernel's limit backs up the measured one. It is so high that it never changes a verdict, but it takes effect at
once, where the next measurement would come too late. Below the cgroup that is divided:

- `alphamix/PID-NUMBER` holds one zygote with its programs. It is removed with the zygote, or by a later judge if PID
  was killed.
- `alphamix-rest` holds the processes that were in the divided cgroup itself, which may then hold no processes.
"""

import errno
import itertools
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MOUNT = Path("/sys/fs/cgroup")
_GROUPS, _REST = "alphamix", "alphamix-rest"
_HEADROOM_BYTES = 48 << 20
"""Memory charged to a program in addition to its own: an answer of 16 MiB, and the kernel's data structures."""
_REMOVAL_WAIT_S = 5.0
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class CgroupParent:
    """Cgroup in which sandboxes get their own; if `path` is None, the reason why there is none, and the fix."""

    path: Path | None
    reason: str = ""
    fix: str = ""


class Group:
    """The cgroup of one zygote and its programs. Without a path it is a stand-in that does nothing."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._baseline_bytes = self._limit_bytes = self._num_kills = 0
        if path is not None:
            path.mkdir()
            with suppress(FileNotFoundError):  # the kernel has no swap accounting
                self._write("memory.swap.max", "0")

    def open_entrance(self) -> int:
        """Open the file to which a process writes `0` to enter the cgroup."""
        return os.open(self._path / "cgroup.procs" if self._path else os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def limit(self, memory_bytes: int) -> None:
        """Set the memory that the next program may use beyond the zygote's. Call this only while no program runs."""
        self._baseline_bytes = self._baseline_bytes or int(self._read("memory.current") or 0)
        if memory_bytes != self._limit_bytes:
            self._limit_bytes = memory_bytes
            copied, page_tables = self._baseline_bytes, memory_bytes >> 8
            wall = self._baseline_bytes + copied + memory_bytes + page_tables + _HEADROOM_BYTES
            self._write("memory.max", str(wall))

    def has_killed(self) -> bool:
        """Check whether the kernel has killed a process in this cgroup since the last call."""
        before, self._num_kills = self._num_kills, _parse_kills(self._read("memory.events"))
        return self._num_kills > before

    def close(self) -> None:
        """Kill the remaining processes, and remove the cgroup."""
        if self._path is None:
            return
        with suppress(OSError):  # cgroup.kill needs Linux 5.14; without it the processes still end with their parent
            self._write("cgroup.kill", "1")
        deadline = time.monotonic() + _REMOVAL_WAIT_S
        while not _remove(self._path) and time.monotonic() < deadline:
            time.sleep(0.001)

    def _read(self, name: str) -> str:
        return (self._path / name).read_text() if self._path else ""

    def _write(self, name: str, text: str) -> None:
        if self._path:
            (self._path / name).write_text(text)


def new_group() -> Group:
    """Return a new cgroup for one zygote, or a stand-in if cgroups are unavailable. Raises OSError."""
    parent = find_parent()
    return Group(parent.path / f"{os.getpid()}-{next(_numbers)}" if parent.path else None)


def count_kills() -> int:
    """Return how often the kernel has enforced a limit in any sandbox. It does so even if the host has free memory."""
    parent = find_parent()
    return _parse_kills(read_if_present(parent.path / "memory.events")) if parent.path else 0


@cache
def find_parent() -> CgroupParent:
    """Divide this process's cgroup if that is allowed, prove that a limit can be set, and remove what killed judges
    left behind.
    """
    own = next(
        (line[3:] for line in read_if_present(Path("/proc/self/cgroup")).splitlines() if line.startswith("0::")), "/"
    )
    base = _MOUNT / own.lstrip("/")
    base = base.parent if base.name == _REST else base
    if "memory" not in read_if_present(base / "cgroup.controllers").split():
        return _explain_absence(base)
    try:
        _divide(base)
        groups = base / _GROUPS
        groups.mkdir(exist_ok=True)
        _enable_memory(groups)
        for left in groups.iterdir():
            pid, _, _ = left.name.partition("-")
            if pid.isdecimal() and not Path("/proc", pid).exists():
                _remove(left)
        proof = Group(groups / f"{os.getpid()}-{next(_numbers)}")
        proof.limit(1 << 20)
        proof.close()
    except OSError as error:
        is_shared = error.errno == errno.EBUSY
        reason = f"{base} has processes that may not be moved" if is_shared else f"{base}: {error.strerror}"
        return CgroupParent(None, reason, _scope_of_its_own())
    return CgroupParent(groups)


def _divide(base: Path) -> None:
    """Allow memory limits for the children of `base`, which must not hold processes itself, unless it is the root."""
    try:
        _enable_memory(base)
    except OSError as error:
        pids = [int(pid) for pid in read_if_present(base / "cgroup.procs").split()]
        if error.errno != errno.EBUSY or not _is_delegated(base) or not all(map(_is_of_our_session, pids)):
            raise
        rest = base / _REST
        rest.mkdir(exist_ok=True)
        for pid in pids:
            with suppress(ProcessLookupError):
                (rest / "cgroup.procs").write_text(str(pid))
        _enable_memory(base)


def _enable_memory(group: Path) -> None:
    if "memory" not in read_if_present(group / "cgroup.subtree_control").split():
        (group / "cgroup.subtree_control").write_text("+memory")


def _is_delegated(group: Path) -> bool:
    """Check whether the manager of cgroups has delegated this one: systemd marks it, and a container has its own."""
    for mark in ("user.delegate", "trusted.delegate"):
        with suppress(OSError):
            return os.getxattr(group, mark) == b"1"
    return group == _MOUNT or _user_manager_delegates(group.name)


def _user_manager_delegates(unit: str) -> bool:
    """Ask a user's systemd, which does not mark delegated cgroups (observed with version 252)."""
    command = ["systemctl", "--user", "show", "--property=Delegate", "--value", "--", unit]
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip() == "yes"
    return False


def _is_of_our_session(pid: int) -> bool:
    if pid == 0:  # the process is in another pid namespace
        return False
    try:
        return os.getsid(pid) == os.getsid(0)
    except ProcessLookupError:
        return True


def _explain_absence(base: Path) -> CgroupParent:
    if (base / "cgroup.controllers").exists():
        return CgroupParent(None, f"not delegated to {base}", _scope_of_its_own())
    return CgroupParent(
        None, "not mounted", "boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup"
    )


def _scope_of_its_own() -> str:
    user = "" if os.geteuid() == 0 else "--user "
    return f"systemd-run {user}--scope --property=Delegate=yes alphamix …"


def _parse_kills(events: str) -> int:
    return next((int(line.split()[1]) for line in events.splitlines() if line.startswith("oom_kill ")), 0)


def _remove(group: Path) -> bool:
    """Try to remove a cgroup, and return whether it is gone. The kernel keeps one that still holds processes."""
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def read_if_present(path: Path) -> str:
    """Return the text of a file of the kernel, or an empty string if it cannot be read."""
    with suppress(OSError):
        return path.read_text()
    return ""
