"""What this machine offers for judging: sandbox tiers, compiler, cgroups and cores. Each one is tried out.

A finding about something that is missing includes the exact fix, as far as the cause can be detected.
"""

import os
import platform
import subprocess
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from alphamix.grading.sandbox import cgroup, probes
from alphamix.grading.sandbox.languages import LANGUAGES, CompiledLanguage
from alphamix.grading.sandbox.launch import STRICT_TIERS, Tier
from alphamix.grading.sandbox.zygote_handle import TierUnavailableError, Zygote, ZygoteDiedError

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
"""Settings that can deny user namespaces: the value that denies them, and one that allows them."""


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """Result of looking for one tool or resource."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    """Command or instruction that provides what is missing."""


@dataclass(frozen=True, slots=True)
class TierFinding:
    """Result of starting one tier of the sandbox and trying to break out of it."""

    tier: Tier
    ok: bool
    reason: str = ""
    """Why the tier is unavailable."""
    fix: str = ""
    probes: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Whether each way out is closed; empty if the tier is unavailable."""


def find_tiers() -> list[TierFinding]:
    """Start each strict tier, and try to break out of it."""
    return [_find_tier(tier) for tier in STRICT_TIERS]


def find_tools() -> list[ToolFinding]:
    """Look for the tools and resources beside the sandbox that grading can use; Python can be graded without them."""
    return [*map(_find_compiler, LANGUAGES.values()), _find_cgroup_memory(), _find_cores()]


def _find_tier(tier: Tier) -> TierFinding:
    fix = fix_namespaces() if tier == "namespaces" else fix_landlock()
    try:
        with closing(Zygote(tier)) as zygote:
            results = probes.probe(zygote)
    except (TierUnavailableError, ZygoteDiedError, probes.ProbeError) as error:
        return TierFinding(tier, False, str(error), fix)
    holds = all(results.values())
    return TierFinding(tier, holds, fix="" if holds else fix, probes=results)


def fix_namespaces() -> str:
    """Return what allows user namespaces on this machine."""
    for name, (denies, allows) in _USERNS_SYSCTLS.items():
        if cgroup.read_if_present(Path("/proc/sys") / name.replace(".", "/")).strip() == denies:
            return f"sudo sysctl -w {name}={allows}"
    if _in_container():
        return "start the container with: --security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    return "use Linux 5.12 or newer, built with CONFIG_USER_NS, on x86-64 or aarch64"


def fix_landlock() -> str:
    """Return what allows Landlock on this machine."""
    modules = cgroup.read_if_present(Path("/sys/kernel/security/lsm")).strip()
    if modules and "landlock" not in modules.split(","):
        return f"boot the kernel with: lsm=landlock,{modules}"
    if _in_container():
        return "start the container with: --security-opt seccomp=unconfined (its filter denies Landlock)"
    return "use Linux 5.13 or newer, built with CONFIG_SECURITY_LANDLOCK, on x86-64 or aarch64"


def _find_compiler(language: CompiledLanguage) -> ToolFinding:
    path, cure = language.find(), _install_gpp() if language.compiler == "g++" else language.cure
    if path is None:
        return ToolFinding(language.compiler, False, f"{language.name} programs cannot be judged", cure)
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return ToolFinding(language.compiler, False, f"{path} does not run ({error})", cure)
    return ToolFinding(language.compiler, True, said.partition("\n")[0])


def _install_gpp() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    names = f"{release.get('ID', '')} {release.get('ID_LIKE', '')}".split()
    known = [_COMPILER_PACKAGE[name] for name in names if name in _COMPILER_PACKAGE]
    return f"sudo {known[0]}" if known else "install g++ with your system's packages"


def _find_cgroup_memory() -> ToolFinding:
    """Check whether each sandbox can have a memory limit that the kernel enforces."""
    name, parent = "cgroup v2 memory", cgroup.find_parent()
    if parent.path is None:
        return ToolFinding(name, False, f"{parent.reason}; memory is only measured, every 20 ms", parent.fix)
    return ToolFinding(name, True, f"limits for each sandbox, in {parent.path}")


def _find_cores() -> ToolFinding:
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    busy = "; busy, which makes grading slower and changes no verdict" if load > cores else ""
    return ToolFinding("cores", True, f"{cores} usable, load {load:.1f}{busy}")


def _in_container() -> bool:
    return any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
