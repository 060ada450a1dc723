"""What this machine offers to judging, tried out rather than inferred: sandbox tiers, compiler, cgroup, cores.

Each finding that is missing comes with the exact fix, as far as the machine gives away what stands in the way.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from alphamix.grading.sandbox import cgroup, probes
from alphamix.grading.sandbox.launch import Tier
from alphamix.grading.sandbox.zygote_handle import TierUnavailableError, Zygote, ZygoteDiedError

STRICT_TIERS: tuple[Tier, ...] = ("namespaces", "landlock")
"""Those that hold against hostile programs, the one that grading prefers first."""
_COMPILER_PACKAGE = {
    "debian": "apt-get install g++",
    "ubuntu": "apt-get install g++",
    "fedora": "dnf install gcc-c++",
    "rhel": "dnf install gcc-c++",
    "suse": "zypper install gcc-c++",
    "alpine": "apk add g++",
    "arch": "pacman -S gcc",
}
_USERNS_SYSCTLS = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user.max_user_namespaces": ("0", "10000"),
}
"""Settings that can deny user namespaces: the value that does, and one that does not."""


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """One thing that was looked for."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """What to do about it where it is missing."""


@dataclass(frozen=True, slots=True)
class TierFinding:
    """One tier of the sandbox, as a live break-out attempt found it."""

    tier: Tier
    ok: bool
    reason: str = ""
    """Why it could not be had at all."""
    fix: str = ""
    probes: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Ways out, and whether each is closed; empty where it could not be had."""


def find_tiers() -> list[TierFinding]:
    """Start each strict tier and try to break out of it."""
    return [_find_tier(tier) for tier in STRICT_TIERS]


def find_tools() -> list[ToolFinding]:
    """Look at what is good to have beside a sandbox; grading of Python works without."""
    return [_find_compiler(), _find_cgroup_memory(), _find_cores()]


def _find_tier(tier: Tier) -> TierFinding:
    fix = _fix_namespaces() if tier == "namespaces" else _fix_landlock()
    try:
        with closing(Zygote(tier)) as zygote:
            results = probes.probe(zygote)
    except (TierUnavailableError, ZygoteDiedError, probes.ProbeError) as error:
        return TierFinding(tier, False, str(error), fix)
    holds = all(results.values())
    return TierFinding(tier, holds, fix="" if holds else fix, probes=results)


def _fix_namespaces() -> str:
    for name, (denies, allows) in _USERNS_SYSCTLS.items():
        if _read(Path("/proc/sys") / name.replace(".", "/")) == denies:
            return f"sudo sysctl -w {name}={allows}"
    if _in_container():
        return "start the container with: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    return "use Linux 5.12 or newer, built with CONFIG_USER_NS, on x86-64 or aarch64"


def _fix_landlock() -> str:
    modules = _read(Path("/sys/kernel/security/lsm"))
    if modules and "landlock" not in modules.split(","):
        return f"boot the kernel with: lsm=landlock,{modules}"
    if _in_container():
        return "start the container with: --security-opt seccomp=unconfined (its filter denies Landlock)"
    return "use Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK, on x86-64 or aarch64"


def _find_compiler() -> ToolFinding:
    path = shutil.which("g++")
    if path is None:
        return ToolFinding("g++", False, "C++ programs cannot be judged", _install_compiler())
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return ToolFinding("g++", False, f"{path} does not run ({error})", _install_compiler())
    return ToolFinding("g++", True, said.partition("\n")[0])


def _install_compiler() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    known = [_COMPILER_PACKAGE[name] for name in names if name in _COMPILER_PACKAGE]
    return f"sudo {known[0]}" if known else "install g++ with your system's packages"


def _find_cgroup_memory() -> ToolFinding:
    """See whether each sandbox can have a memory limit that the kernel keeps."""
    name, place = "cgroup v2 memory", cgroup.find_place()
    if place.path is None:
        return ToolFinding(name, False, f"{place.reason}; memory is measured by looking, every 20 ms", place.fix)
    return ToolFinding(name, True, f"limits for each sandbox, in {place.path}")


def _find_cores() -> ToolFinding:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    busy = "; busy, which makes grading slower and changes no verdict" if load > cores else ""
    return ToolFinding("cores", True, f"{cores} usable, load {load:.1f}{busy}")


def _in_container() -> bool:
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8").strip()
    return ""
