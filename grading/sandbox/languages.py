"""Compiled languages: everything that the judge needs to know of each, beyond how to run a static executable.

A language belongs here if its compiler runs in the sandbox and makes executables that need no other file.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alphamix.grading.types import Language


@dataclass(frozen=True, slots=True)
class CompiledLanguage:
    """How programs in a language are compiled."""

    name: str
    compiler: str
    """Name of the compiler's command."""
    source: str
    """Name of the file that holds the source."""
    options: tuple[str, ...]
    """Arguments of the compiler before the source; `-o main` follows."""
    proof: str
    """A program that must compile, so that a broken compiler is never mistaken for a program that does not."""
    cure: str
    """How to install the compiler."""
    out_of_memory: bytes
    """End of standard error if an allocation fails and the program does not handle that."""
    find_real: Callable[[str], str] | None = None
    """Function that returns the path of the compiler itself, if the command only stands for it."""

    def find(self) -> str | None:
        """Return the path of the compiler; None if it is not installed."""
        path = shutil.which(self.compiler)
        return path if path is None or self.find_real is None else self.find_real(path)


@cache
def _find_rustc(path: str) -> str:
    """Return the compiler that rustup's command stands for: in the sandbox, rustup cannot look it up."""
    try:
        said = subprocess.run([path, "--print", "sysroot"], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return path
    inside = Path(said.stdout.strip(), "bin", "rustc")
    return str(inside) if os.access(inside, os.X_OK) else path


LANGUAGES: dict[Language, CompiledLanguage] = {
    "cpp": CompiledLanguage(
        name="C++",
        compiler="g++",
        source="main.cpp",
        options=("-std=gnu++20", "-O2", "-static", "-s", "-pipe", "-fno-diagnostics-color", "-fmax-errors=3", "-w"),
        proof="#include <bits/stdc++.h>\nint main() { std::cout << std::vector<int>(1).size(); }\n",
        cure="install it with its static library (Debian: apt install g++)",
        out_of_memory=b"what():  std::bad_alloc",
    ),
    "rust": CompiledLanguage(
        name="Rust",
        compiler="rustc",
        source="main.rs",
        options=(
            "--edition=2021",
            "-Copt-level=2",
            "-Ctarget-feature=+crt-static",
            "-Clinker=gcc",
            "-Cstrip=symbols",
            "-Awarnings",
        ),
        proof='fn main() { println!("{}", vec![1].len()); }\n',
        cure="install it, with a C compiler as linker (https://rustup.rs, and on Debian: apt install gcc)",
        out_of_memory=b"bytes failed",
        find_real=_find_rustc,
    ),
}
