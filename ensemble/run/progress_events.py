"""Events of a run for those who display it: what has just happened, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pandas as pd

from alphamix.ensemble.budget import Currency
from alphamix.grading.types import Verdict


@dataclass(frozen=True, slots=True)
class Spent:
    """Cost of samples, in each currency of a budget."""

    samples: int
    tokens: int
    """Completion tokens."""
    seconds: float
    """Seconds of engines, as they report for each sample."""

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.samples + other.samples, self.tokens + other.tokens, self.seconds + other.seconds)

    def of(self, currency: Currency) -> float:
        """Return the cost in one currency."""
        return {"samples": self.samples, "tokens": self.tokens, "seconds": self.seconds}[currency]


class Cap(NamedTuple):
    """Spend limit of a whole run."""

    total: float
    currency: Currency


class JudgeLoad(NamedTuple):
    """What the judge has been given since the run began or went on. Equal programs are run once."""

    samples: int
    """Number of samples that were handed to it."""
    waiting_samples: int
    """Number of them that have no verdict yet."""
    runs: int
    """Number of programs that it has run."""
    waiting_runs: int
    """Number of programs that it has yet to run for the samples that wait."""


class VerdictObserver(Protocol):
    """Watches verdicts come in."""

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count new verdicts."""
        ...


class GradingObserver(VerdictObserver, Protocol):
    """Watches grading where nothing is sampled."""

    def begin(self, planned: int, graded: int) -> None:
        """Announce how many samples there are, and how many of them already have a verdict."""
        ...


class RunObserver(VerdictObserver, Protocol):
    """Watches a run. Each call says what has just happened."""

    def begin(self, progress: pd.DataFrame, cap: Cap | None = None) -> None:
        """Announce what is planned and done already, as counted by `Store.progress`, and the spend limit if there is
        one. Called again when the plan has grown."""
        ...

    def began(self, policy: str) -> None:
        """Announce that a policy is sampled from now on; several may be at a time."""
        ...

    def ended(self, policy: str) -> None:
        """Announce that a policy is sampled no further, whether or not it still owes samples."""
        ...

    def sampled(self, policy: str, spent: Spent) -> None:
        """Count new samples and their cost."""
        ...

    def judging(self, load: JudgeLoad) -> None:
        """Take note of what the judge has done and has to do."""
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

    def judging(self, load: JudgeLoad) -> None:
        """Do nothing."""

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Do nothing."""
