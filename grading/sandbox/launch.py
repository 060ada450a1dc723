"""Starting an interpreter that then confines itself: the zygote, or one run of the compiler.

A new interpreter inherits only the given descriptors from this process: no environment, no site-packages, and none of
its memory.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

Tier = Literal["namespaces", "landlock", "weak"]
STRICT_TIERS: tuple[Tier, ...] = ("namespaces", "landlock")
"""Tiers that hold against hostile programs, in the order in which grading prefers them."""

_BOOTSTRAP = """
import sys, types
from importlib import import_module
folder, module, *arguments = sys.argv[1:]
sys.modules["alphamix"] = types.ModuleType("alphamix")
for name in ("", ".sandbox", ".sandbox.confined", ".workspace", ".workspace.confined"):
    package = sys.modules["alphamix.grading" + name] = types.ModuleType("alphamix.grading" + name)
    package.__path__ = [folder + name.replace(".", "/")]
import_module("alphamix.grading." + module).main(*arguments)
"""
"""Imports a module of a package `confined` without running the `__init__` of the packages above it, which need
site-packages that `-S` hides."""

_FIRST_DESCRIPTOR = 3
"""Lowest number for inherited descriptors. In a service that closed its standard streams, a duplicate could otherwise
get one of their numbers, which the child replaces with /dev/null."""


def start_inside(
    module: str, tier: Tier, descriptors: Sequence[int], *arguments: object, room: str = "sandbox"
) -> "subprocess.Popen[bytes]":
    """Start `main` of a module of `confined` in a room of grading. It receives the tier, the process id of its parent,
    the descriptors and the arguments, all as text.
    """
    folder = Path(__file__).resolve().parents[1]
    interpreter = os.path.realpath(sys.executable)  # not the venv's, which confinement would hide
    with ExitStack() as stack:
        given = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR) for each in descriptors]
        for descriptor in given:
            stack.callback(os.close, descriptor)
        words = [folder, f"{room}.confined.{module}", tier, os.getpid(), *given, *arguments]
        return subprocess.Popen(
            [interpreter, "-I", "-S", "-c", _BOOTSTRAP, *map(str, words)],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Bind all symbols at the start, because otherwise every fork would bind the same ones on first use. Threads
            # of numerical packages would make their users slower, and a process that has any cannot be confined.
            env={"LD_BIND_NOW": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            start_new_session=True,  # Ctrl-C must reach only the judge, which ends its children itself
        )
