"""The sandboxes of one thread of the judge: for samples and for checkers, with each set of packages that they import.

A sandbox is used only after probes have shown that it holds. Expected outputs go to the sandbox for checkers and never
to the one for samples, whose programs may still be alive when their answer is checked.
"""

import threading
from collections.abc import Callable, Sequence

from alphamix.grading.errors import GradingError
from alphamix.grading.sandbox import probes
from alphamix.grading.sandbox.compiler import CompileFailure, Compiler
from alphamix.grading.sandbox.controller import NativeProcess, Outcome, Process, ProcessLimits, PythonProcess
from alphamix.grading.sandbox.languages import LANGUAGES
from alphamix.grading.sandbox.launch import Tier
from alphamix.grading.sandbox.packages import NO_PACKAGES, Packages
from alphamix.grading.sandbox.zygote_handle import TierUnavailableError, Zygote, ZygoteDiedError
from alphamix.grading.types import Language, Verdict

_MAX_WITH_PACKAGES = 4
"""Sandboxes with different packages that are kept, each of which takes as much memory as its packages do."""


class ThreadSandboxes:
    """One zygote for samples without packages; all others are started when they are needed. Belongs to one thread."""

    def __init__(
        self,
        tiers: Sequence[Tier],
        compiler: Compiler,
        closing: threading.Event,
        on_idle: Callable[[], None] = lambda: None,
    ) -> None:
        """Start a sandbox in the first tier that is proven to hold. Raises GradingError if there is none.

        `on_idle` is called repeatedly while a sample's program neither computes nor ends.
        """
        self._compiler = compiler
        self._closing = closing
        self._on_idle = on_idle
        self.tier: Tier  # declared, because the inferred type would be str
        zygote, self.tier = _boot(tiers, closing)
        self._samples: dict[tuple[str, ...], Zygote] = {NO_PACKAGES.readable: zygote}
        self._checkers: dict[tuple[str, ...], Zygote] = {}

    def samples(self, packages: Packages = NO_PACKAGES) -> Zygote:
        """Return the sandbox for samples that import these packages. Raises GradingError if they cannot be imported."""
        zygote = self._booted(self._samples, packages)
        zygote.on_idle = self._on_idle
        return zygote

    def checkers(self, packages: Packages = NO_PACKAGES) -> Zygote:
        """Return the sandbox for checkers that import these packages, which expected outputs may enter."""
        return self._booted(self._checkers, packages)

    def _booted(self, zygotes: dict[tuple[str, ...], Zygote], packages: Packages) -> Zygote:
        if packages.readable not in zygotes:
            with_packages = [readable for readable in zygotes if readable]
            if packages.names and len(with_packages) == _MAX_WITH_PACKAGES:
                zygotes.pop(with_packages[0]).close()
            zygotes[packages.readable], _ = _boot([self.tier], self._closing, packages)
        return zygotes[packages.readable]

    def start(
        self,
        zygote: Zygote,
        language: Language,
        source: bytes,
        entry_point: str | None,
        limits: ProcessLimits,
        num_tests: int = 1,
        has_floats: bool = True,
    ) -> tuple[Process | None, Outcome]:
        """Start a process of a program, and return it with the outcome of compilation. The caller must end it.

        The last two arguments are those of `PythonProcess`.

        Raises:
            ZygoteDiedError: The sandbox failed; start new ones.
            GradingError: Programs in this language cannot be run here.
        """
        if language == "python":
            process = PythonProcess(zygote, source, entry_point, limits, num_tests, has_floats)
            return process, process.compile()
        executable = self._compiler.compile(language, source, self.tier)
        if isinstance(executable, CompileFailure):
            return None, Outcome(Verdict.CE, message=executable.message)
        return NativeProcess(zygote, executable.descriptor, limits, LANGUAGES[language].out_of_memory), Outcome(None)

    def close(self) -> None:
        """End all sandboxes."""
        for zygote in (*self._samples.values(), *self._checkers.values()):
            zygote.close()


def _boot(tiers: Sequence[Tier], closing: threading.Event, packages: Packages = NO_PACKAGES) -> tuple[Zygote, Tier]:
    reasons: list[str] = []
    for tier in tiers:
        try:
            zygote = Zygote(tier, closing, packages)
        except TierUnavailableError as error:
            reasons.append(f"{tier}: {error}")
            continue
        try:
            gaps = probes.unproven(zygote, tier)
        except ZygoteDiedError as error:
            gaps = [str(error)]
        if not gaps:
            return zygote, tier
        reasons += [f"{tier}: {gap}" for gap in gaps]
        zygote.close()
    if packages.names:
        raise GradingError(
            f"the packages {', '.join(packages.names)} cannot be used in the sandbox ({'; '.join(reasons)}): "
            "reinstall them, or leave them out"
        )
    raise GradingError(
        f"programs cannot be judged safely on this machine ({'; '.join(reasons)}): "
        "allow user namespaces or Landlock, or pass --sandbox=weak to run trusted programs unconfined"
    )
