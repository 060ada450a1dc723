"""The sections of an experiment as the user writes them: one class per table of the file, with defaults and bounds.

What one section alone can tell is checked here; what takes several, in `experiment`.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.mixture.cross_fitting import DEFAULT_FOLDS, DEFAULT_REPEATS
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.policies.engines.options import EngineOptions

_ENGINE = EngineOptions()

MOST_SAMPLES = 10**9
"""Of a policy on a problem: more is a slip of the pen."""


class Section(BaseModel):
    """A table that is read once and refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProblemsSection(Section):
    """Which problems."""

    file: Path
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only the first so many."""


class PoliciesSection(Section):
    """Which policies."""

    file: Path
    use: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of policies and sweeps; all of the file when left out."""


class SamplingSection(Section):
    """How samples are drawn."""

    setting: Literal["reasoning"] = "reasoning"
    prompt: str | None = None
    """Text sent as the user's turn, with `{statement}` in it; when left out, the setting's own instructions."""
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    """Slots per policy and problem, at least; what the arms need when left out."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    stop: list[str] = []
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)] = _ENGINE.batch_size
    """Rows of one batch of an embedded engine."""
    concurrency: Annotated[int, Field(ge=1)] = _ENGINE.concurrency
    """Samples in flight to a URL, at most: the level between is found."""
    choices: Annotated[int, Field(ge=1)] = _ENGINE.choices
    """Samples of one prompt that are asked of a URL in one request, at most; 1 asks one by one."""
    first_byte_timeout_s: Annotated[float, Field(gt=0)] = _ENGINE.first_byte_timeout_s
    """Silence of a URL before its answer begins, in each attempt; a whole answer comes at once."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = _ENGINE.idle_timeout_s
    """Silence of a URL in mid-answer."""
    deadline_s: Annotated[float, Field(gt=0)] = _ENGINE.deadline_s
    """For one request to a URL, over all attempts."""


class RunBudgetSection(Section):
    """What the whole run may spend, over all problems and policies; no limit where nothing is said."""

    samples: Annotated[int, Field(ge=1)] | None = None
    tokens: Annotated[float, Field(gt=0)] | None = None
    """Completion tokens."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of engines, as samples count them."""

    @property
    def limits(self) -> dict[Currency, float]:
        """By currency, those that are set."""
        return _amounts(self)


class BudgetSection(Section):
    """What every arm may spend on one problem, in one currency."""

    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    tokens: Annotated[float, Field(gt=0)] | None = None
    """Completion tokens."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of engines, as samples count them."""
    costs: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """What a sample of each policy costs in the currency, where it is known; else the pilot tells."""
    run: RunBudgetSection = RunBudgetSection()

    @property
    def amounts(self) -> dict[Currency, float]:
        """What is given, by currency: exactly one in a sound experiment."""
        return _amounts(self)

    @property
    def currency(self) -> Currency:
        """What arms are matched in."""
        return next(iter(self.amounts))

    @property
    def amount(self) -> float:
        """Per problem, in the currency."""
        return self.samples or self.amounts[self.currency]


BUILT_IN_ARMS = ("singles", "equal", "optimised", "thompson", "halving")
"""Arms that need no weights: each policy alone, the equal split, and the adaptive ones."""

REPORTED_ARMS = ("mixture", "best_single")
"""Arms that every report chooses from what was drawn; nobody asks for them."""


class AllocationSection(Section):
    """The arms that are compared: ways to spend the budget of a problem."""

    arms: Annotated[list[str], Field(min_length=1)] = ["singles", "equal"]
    """Of `BUILT_IN_ARMS` and the names of `weights`."""
    policies: Annotated[list[str], Field(min_length=1)] | None = None
    """Members of the equal split and of adaptive arms, sweeps by their name; all policies when left out."""
    weights: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = {}
    """Splits in given shares: by name of the arm, weights by policy."""
    pilot: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 2
    """Samples of each policy on each problem that are drawn first: costs are measured on them, `optimised` learns
    from them, and policies of no arm are known by them."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Samples that `thompson` asks for on a problem before it looks at their verdicts."""


class GradingSection(Section):
    """How programs are judged."""

    workers: Annotated[int, Field(ge=1)] | None = None
    """Programs judged at once; one core is left to sampling when left out."""
    sandbox: Literal["strict", "weak"] = "strict"
    backend: Literal["here", "dask", "ray"] = "here"
    """On this machine, or on a cluster; `workers` are then those of a local one."""
    address: str | None = None
    """Of the Dask scheduler or the Ray cluster; a local one when left out."""

    @property
    def num_workers(self) -> int:
        """Programs judged at once. One core is left to sampling: an embedded engine uses one thread."""
        return self.workers or max(1, (os.cpu_count() or 1) - 1)


class AnalysisSection(Section):
    """What is reported, and how sure."""

    pass_at: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [1]
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    folds: Annotated[int, Field(ge=2)] = DEFAULT_FOLDS["problems"]
    sample_folds: Annotated[int, Field(ge=2)] = DEFAULT_FOLDS["samples"]
    repeats: Annotated[int, Field(ge=1)] = DEFAULT_REPEATS
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def resampling(self) -> Resampling:
        """How intervals are made."""
        return Resampling(self.level, self.resamples, self.seed)


def _amounts(section: Section) -> dict[Currency, float]:
    amounts: dict[Currency, float] = {}
    for currency in CURRENCIES:
        amount = getattr(section, currency)
        if amount is not None:
            amounts[currency] = float(amount)
    return amounts
