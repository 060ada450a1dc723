"""Starting an interpreter of our own that will confine itself: the zygote, and each run of the compiler.

It begins with nothing of ours but the descriptors that it is given: no environment, no site-packages, and none of
this process's memory.
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

_BOOTSTRAP = """
import sys, types
from importlib import import_module
folder, module, *arguments = sys.argv[1:]
for name in ("alphamix", "alphamix.grading", "alphamix.grading.sandbox", "alphamix.grading.sandbox.confined"):
    package = sys.modules[name] = types.ModuleType(name)
    package.__path__ = [folder]
import_module("alphamix.grading.sandbox.confined." + module).main(*arguments)
"""
"""Import a module of `confined` without running the `__init__` of the packages above it, which need more than
`-S` offers."""

_FIRST_DESCRIPTOR = 3
"""Above the standard streams, whose numbers are free for others in a service that closed them."""


def start_inside(module: str, tier: Tier, descriptors: Sequence[int], *arguments: object) -> "subprocess.Popen[bytes]":
    """Start `main` of a module of the sandbox. It gets the tier, our process id, the descriptors and the arguments, all
    as text.
    """
    folder = Path(__file__).resolve().with_name("confined")
    interpreter = os.path.realpath(sys.executable)  # not the venv's, which confinement would hide
    with ExitStack() as stack:
        given = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FIRST_DESCRIPTOR) for each in descriptors]
        for descriptor in given:
            stack.callback(os.close, descriptor)
        words = [folder, module, tier, os.getpid(), *given, *arguments]
        return subprocess.Popen(
            [interpreter, "-I", "-S", "-c", _BOOTSTRAP, *map(str, words)],
            pass_fds=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            # Symbols are bound here, once: every fork would bind the same ones on first use.
            env={"LD_BIND_NOW": "1"} | {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            start_new_session=True,  # Ctrl-C is for us; we end our children ourselves
        )
