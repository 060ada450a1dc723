"""The sandboxes of one thread of the judge: for samples, for samples that import packages, and for checkers.

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
from alphamix.grading.sandbox.packages import Packages
from alphamix.grading.sandbox.zygote_handle import TierUnavailableError, Zygote, ZygoteDiedError
from alphamix.grading.types import Language, Verdict

_MAX_WITH_PACKAGES = 4
"""Sandboxes with different packages that are kept, each of which takes as much memory as its packages do."""


class ThreadSandboxes:
    """One zygote for samples; others for checkers and for samples that import packages, started when they are needed.
    Belongs to one thread.
    """

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
        self.tier: Tier  # declared, because the inferred type would be str
        self.samples, self.tier = _boot(tiers, closing)
        self._on_idle = self.samples.on_idle = on_idle
        self._checkers: Zygote | None = None
        self._with_packages: dict[tuple[str, ...], Zygote] = {}

    def samples_with(self, packages: Packages | None) -> Zygote:
        """Return the sandbox for samples that import packages. Raises GradingError if they cannot be imported."""
        if packages is None:
            return self.samples
        if packages.readable not in self._with_packages:
            if len(self._with_packages) == _MAX_WITH_PACKAGES:
                self._with_packages.pop(next(iter(self._with_packages))).close()
            zygote, _ = _boot([self.tier], self._closing, packages)
            zygote.on_idle = self._on_idle
            self._with_packages[packages.readable] = zygote
        return self._with_packages[packages.readable]

    @property
    def checkers(self) -> Zygote:
        """The sandbox that expected outputs may enter."""
        if self._checkers is None:
            self._checkers, _ = _boot([self.tier], self._closing)
        return self._checkers

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
        for zygote in (self.samples, *self._with_packages.values()):
            zygote.close()
        if self._checkers is not None:
            self._checkers.close()


def _boot(tiers: Sequence[Tier], closing: threading.Event, packages: Packages | None = None) -> tuple[Zygote, Tier]:
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
    if packages is not None:
        raise GradingError(
            f"the packages {', '.join(packages.names)} cannot be used in the sandbox ({'; '.join(reasons)}): "
            "reinstall them, or leave them out"
        )
    raise GradingError(
        f"programs cannot be judged safely on this machine ({'; '.join(reasons)}): "
        "allow user namespaces or Landlock, or pass --sandbox=weak to run trusted programs unconfined"
    )
