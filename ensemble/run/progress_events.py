"""What a run tells whoever watches it: what has just happened, and what it cost. Showing it is the watcher's matter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pandas as pd

from alphamix.ensemble.budget import Currency
from alphamix.grading.types import Verdict


@dataclass(frozen=True, slots=True)
class Spent:
    """What samples cost, in each currency of a budget."""

    samples: int
    tokens: int
    """Of completions."""
    seconds: float
    """That engines took, as they tell of each sample."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.samples + other.samples, self.tokens + other.tokens, self.seconds + other.seconds)

    def of(self, currency: Currency) -> float:
        """The cost in one currency."""
        return {"samples": self.samples, "tokens": self.tokens, "seconds": self.seconds}[currency]


class Cap(NamedTuple):
    """What a whole run may spend."""

    total: float
    currency: Currency


class RunObserver(Protocol):
    """Watches a run. Each call says what has just happened."""

    def begin(self, progress: pd.DataFrame, cap: Cap | None = None) -> None:
        """Say what is planned and was done before, as `Store.progress` counts it, and what may be spent if that is
        less than the plan. Said again when the plan has grown."""
        ...

    def began(self, policy: str) -> None:
        """Say that a policy is asked from now on; several are at a time."""
        ...

    def ended(self, policy: str) -> None:
        """Say that a policy is asked no further, whether or not it still owes samples."""
        ...

    def sampled(self, policy: str, spent: Spent) -> None:
        """Count new samples and what they cost."""
        ...

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count new verdicts."""
        ...


class Unobserved:
    """Observer of a run without a display: it does nothing with what it hears."""

    def begin(self, progress: pd.DataFrame, cap: Cap | None = None) -> None:
        """Do nothing."""

    def began(self, policy: str) -> None:
        """Do nothing."""

    def ended(self, policy: str) -> None:
        """Do nothing."""

    def sampled(self, policy: str, spent: Spent) -> None:
        """Do nothing."""

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Do nothing."""
