"""What every setting shares: how an attempt begins, and the outcome of a slot."""

from dataclasses import dataclass
from typing import Protocol

from alphamix.ensemble.settings.loop import Loop
from alphamix.ensemble.settings.prompts import OpeningPrompt
from alphamix.ensemble.store import AttemptUsage, Sample, Slot
from alphamix.grading.types import Problem
from alphamix.policies.types import EngineFailure


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt that failed for a reason that is not the model's; the sample of its slot is still owed."""

    slot: Slot
    failure: EngineFailure
    lost: AttemptUsage
    """What it had cost by then."""


Sampled = Sample | Failed
"""The outcome of a slot."""


class Sandbox(Protocol):
    """Where the calls of one attempt run, such as a workspace."""

    def close(self) -> None:
        """End everything that was started. Safe to call twice, and while code runs."""
        ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that begins: its prompt, its loop, and where its calls run if it may make any."""

    prompt: OpeningPrompt
    loop: Loop
    sandbox: Sandbox | None = None
    max_turns: int | None = None
    """Maximum number of answers of the model; unlimited if None."""


class Setting(Protocol):
    """A way to ask a policy about a problem."""

    @property
    def is_one_turn(self) -> bool:
        """Whether every attempt asks exactly once, so that equal batches of attempts give equal samples."""
        ...

    def begin(self, problem: Problem) -> Attempt:
        """Return a new attempt at a problem."""
        ...

    def close(self) -> None:
        """End what runs for any attempt. Safe to call twice, and from any thread."""
        ...
