"""The sandboxes of one thread of the judge: one for samples, another for checkers.

A sandbox is used only after probes have shown that it holds. Expected outputs go to the sandbox for checkers and never
to the one for samples, whose programs may still be alive when their answer is checked.
"""

import threading
from collections.abc import Callable, Sequence

from alphamix.grading.errors import GradingError
from alphamix.grading.sandbox import probes
from alphamix.grading.sandbox.compiler import CompileFailure, Compiler
from alphamix.grading.sandbox.controller import NativeProcess, Outcome, Process, ProcessLimits, PythonProcess
from alphamix.grading.sandbox.launch import Tier
from alphamix.grading.sandbox.zygote_handle import TierUnavailableError, Zygote, ZygoteDiedError
from alphamix.grading.types import Language, Verdict


class ThreadSandboxes:
    """One zygote for samples, and one for checkers, started when there is a checker to run. Belongs to one thread."""

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
        self.samples.on_idle = on_idle
        self._checkers: Zygote | None = None

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
        executable = self._compiler.compile(source, self.tier)
        if isinstance(executable, CompileFailure):
            return None, Outcome(Verdict.CE, message=executable.message)
        return NativeProcess(zygote, executable.descriptor, limits), Outcome(None)

    def close(self) -> None:
        """End both sandboxes."""
        self.samples.close()
        if self._checkers is not None:
            self._checkers.close()


def _boot(tiers: Sequence[Tier], closing: threading.Event) -> tuple[Zygote, Tier]:
    reasons: list[str] = []
    for tier in tiers:
        try:
            zygote = Zygote(tier, closing)
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
    raise GradingError(
        f"programs cannot be judged safely on this machine ({'; '.join(reasons)}): "
        "allow user namespaces or Landlock, or pass --sandbox=weak to run trusted programs unconfined"
    )
