"""Compilers, from the trusted side: find one, run it confined, and cache its executables (`languages` lists them).

Executables are cached by their source, so that a program is compiled once however often it runs. A correct program is
compiled first, so that a broken compiler is never mistaken for a program that does not compile.
"""

import json
import os
import subprocess
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from alphamix.grading.errors import GradingError
from alphamix.grading.sandbox.confined import compilation
from alphamix.grading.sandbox.languages import LANGUAGES, CompiledLanguage
from alphamix.grading.sandbox.launch import Tier, start_inside
from alphamix.grading.sandbox.meters import count_oom_kills
from alphamix.grading.types import Language

WALL_S = 600.0
"""Wall-clock limit, far above what any load causes; the effective limit is on the compiler's CPU seconds."""
MESSAGE_BYTES = 1 << 16
_POLL_S = 0.05
_MAX_CACHED = 32


class Executable:
    """A compiled program in memory. `descriptor` can be executed but not written, and is closed with its last user."""

    def __init__(self, writable: int) -> None:
        # The kernel refuses to execute a file that is open for writing (ETXTBSY), so reopen it read-only.
        self.descriptor = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY | os.O_CLOEXEC)
        os.close(writable)
        weakref.finalize(self, os.close, self.descriptor)


@dataclass(frozen=True, slots=True)
class CompileFailure:
    """The compiler rejected the source, or exceeded its limits on it."""

    message: str


class Compiler:
    """Compiles programs for all threads of a judge, and caches the results."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._lock = threading.Lock()
        self._proof_lock = threading.Lock()
        self._proven: set[Language] = set()
        self._cache: OrderedDict[tuple[Language, bytes], Executable | CompileFailure] = OrderedDict()

    def compile(self, language: Language, source: bytes, tier: Tier) -> Executable | CompileFailure:
        """Compile in a sandbox of this tier. Raises GradingError if there is no working compiler."""
        about = LANGUAGES[language]
        path = about.find()
        if path is None:
            raise GradingError(
                f"a {about.name} program cannot be judged, because this machine has no {about.compiler}: {about.cure}"
            )
        with self._proof_lock:
            if language not in self._proven:
                proof = self._run(about, path, about.proof.encode(), tier)
                if isinstance(proof, CompileFailure):
                    raise GradingError(f"{path} does not compile a correct program ({proof.message}): {about.cure}")
                self._proven.add(language)
        key = (language, source)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        result = self._run(about, path, source, tier)
        with self._lock:
            self._cache[key] = result
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        return result

    def _run(self, about: CompiledLanguage, path: str, source: bytes, tier: Tier) -> Executable | CompileFailure:
        oom_kills = count_oom_kills()
        source_fd, executable_fd, messages_fd = (os.memfd_create(name) for name in ("source", "executable", "messages"))
        try:
            os.write(source_fd, source)
            exit_code = self._run_confined(about, path, tier, [source_fd, executable_fd, messages_fd])
            message = os.pread(messages_fd, MESSAGE_BYTES, 0).decode(errors="replace")
            if exit_code == 0:
                return Executable(os.dup(executable_fd))
        finally:
            for descriptor in (source_fd, executable_fd, messages_fd):
                os.close(descriptor)
        if exit_code != compilation.EXIT_FAILED:
            raise GradingError(f"the compiler could not run in the sandbox ({message or exit_code}): judge it again")
        if count_oom_kills() > oom_kills:
            raise GradingError("the host ran out of memory while a program was compiled: use fewer workers")
        return CompileFailure(_first_error(message))

    def _run_confined(self, about: CompiledLanguage, path: str, tier: Tier, descriptors: list[int]) -> int:
        resolved = Path(path).resolve()
        prefix = resolved.parent.parent
        with tempfile.TemporaryDirectory(prefix="alphamix-", ignore_cleanup_errors=True) as scratch:
            limits = (compilation.CPU_S, compilation.ADDRESS_SPACE)
            command = json.dumps([str(resolved), *about.options, about.source, "-o", "main"])
            process = start_inside("compilation", tier, descriptors, *limits, about.source, command, prefix, scratch)
            try:
                return self._wait(process)
            finally:
                process.kill()
                process.wait()

    def _wait(self, process: "subprocess.Popen[bytes]") -> int:
        deadline = time.monotonic() + WALL_S
        while time.monotonic() < deadline:
            try:
                return process.wait(_POLL_S)
            except subprocess.TimeoutExpired:
                if self._closing.is_set():
                    raise GradingError("the judge was closed") from None
        raise GradingError(f"the compiler did not end within {WALL_S:.0f} s: use fewer workers")


def _first_error(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if "error: " in line.lower()] or message.strip().splitlines()
    return lines[0][:300] if lines else "the compiler ended without a message"
