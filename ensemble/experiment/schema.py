"""The sections of an experiment's file: one class per table, with defaults and bounds.

Checks that need several sections are in `config`.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.mixture.cross_fitting import DEFAULT_FOLDS, DEFAULT_REPEATS
from alphamix.ensemble.outcomes.files import Missing
from alphamix.ensemble.run_settings import RunSettings
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.grading.benchmarks.selection import Selection
from alphamix.policies.engines.options import EngineOptions
from alphamix.wording import nearest

_ENGINE = EngineOptions()

MOST_SAMPLES = 10**9
"""Maximum number of samples of a policy on a problem: more must be a typing error."""


class Section(BaseModel):
    """A table of the file; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ProblemsSection(Section, Selection):
    """Problems of the experiment: a file, or a benchmark and what is wanted of it."""

    file: Path | None = None
    benchmark: str | None = None
    path: Path | None = None
    """Local copy of the benchmark's published files; they are fetched when it is left out."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Number of problems to use, from the first on; all when left out."""

    @property
    def source(self) -> str:
        """Where the problems come from, in words."""
        return str(self.file or self.path or f"the benchmark {self.benchmark}")


class PoliciesSection(Section):
    """Policies of the experiment."""

    file: Path
    use: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of policies and sweeps; all of the file when left out."""


SettingName = Literal["reasoning", "tool", "agent"]
"""`reasoning` asks once; in `tool` the model may run Python before it answers; in `agent` an agent works with files and
commands, and submits a file."""
CallFormat = Literal["openai", "hermes", "cwm", "fenced"]
_AtLeastOne = Annotated[int, Field(ge=1)]
_Seconds = Annotated[float, Field(gt=0)]


class SettingSection(Section):
    """Keys of `sampling` that a setting may have for itself; what is left out is that of `sampling`."""

    prompt: str | None = None
    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: _AtLeastOne | None = None
    stop: list[str] | None = None
    thinking: bool | None = None

    @property
    def given(self) -> dict[str, Any]:
        """The keys of `sampling` that are given."""
        return {key: value for key in SettingSection.model_fields if (value := getattr(self, key)) is not None}


class ReasoningSection(SettingSection):
    """The setting `reasoning`, which has no keys beside those of every setting."""


class _CallsSection(SettingSection):
    """How a model calls what runs in its workspace, and the limits of each call and of the workspace."""

    format: CallFormat = "openai"
    """How the model writes a call: as the OpenAI API has it, or in plain text, which needs no parser at the server."""
    cpu_s: _Seconds = 10.0
    """Limit of CPU seconds of a call."""
    wall_s: _Seconds = 30.0
    """Limit of seconds of a call."""
    memory_mb: Annotated[int, Field(ge=16)] = 1024
    disk_mb: _AtLeastOne = 256
    output_chars: _AtLeastOne = 2000
    """Characters that the model sees of each output of a call."""


class ToolSection(_CallsSection):
    """How Python is offered to the model in the setting `tool`."""

    calls: _AtLeastOne = 8
    """Maximum number of calls."""
    keeps_variables: bool = True
    """Whether a call finds the variables of earlier ones."""
    public_tests: bool = False
    """Whether code can read the tests that the statement shows. Hidden tests it can never read."""


class AgentSection(_CallsSection):
    """Which agent works in the setting `agent`, and the limits of its attempts."""

    cpu_s: _Seconds = 30.0
    wall_s: _Seconds = 60.0
    output_chars: _AtLeastOne = 10_000
    loop: Annotated[str, Field(pattern=r"^[^:]+:[A-Za-z_]\w*$")] | None = None
    """Class that takes the place of our own loop: `module:Class`, or `file.py:Class`."""
    arguments: dict[str, Any] = {}
    """Arguments of that class."""
    turns: _AtLeastOne = 50
    """Maximum number of answers of the model."""
    calls: _AtLeastOne = 200
    """Maximum number of calls of tools."""
    processes: _AtLeastOne = 64
    """Maximum number of processes and threads at once."""
    public_tests: bool = True
    """Whether the agent can test its program on the tests that the statement shows. Hidden tests it can never see."""

    @model_validator(mode="after")
    def _has_a_class_for_its_arguments(self) -> Self:
        if self.arguments and self.loop is None:
            raise ValueError("arguments are those of a class: name it as loop, or leave them out")
        return self


class SamplingSection(Section):
    """How samples are drawn."""

    setting: SettingName | list[SettingName] = "reasoning"
    """One setting, or several in which every policy is asked."""
    reasoning: ReasoningSection = ReasoningSection()
    tool: ToolSection = ToolSection()
    agent: AgentSection = AgentSection()
    prompt: str | None = None
    """Text of the user's turn, with `{statement}` in it; the setting's own instructions when left out."""
    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    """Minimum number of samples per policy and problem; what the arms need when left out."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """Maximum number of tokens of a sample, over all its turns."""
    stop: list[str] = []
    thinking: bool | None = None
    """Whether models that can do both think before they answer; each policy's chat template decides when left out."""
    seed: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=1)] = _ENGINE.batch_size
    """Number of samples in one batch of an embedded engine."""
    concurrency: Annotated[int, Field(ge=1)] = _ENGINE.concurrency
    """Maximum number of samples in flight to a URL; the engine finds the best number below."""
    choices: Annotated[int, Field(ge=1)] = _ENGINE.choices
    """Maximum number of samples of one prompt per request to a URL."""
    first_byte_timeout_s: Annotated[float, Field(gt=0)] = _ENGINE.first_byte_timeout_s
    """Timeout for the first byte of an answer, in each attempt. An answer that is not streamed arrives all at once."""
    idle_timeout_s: Annotated[float, Field(gt=0)] = _ENGINE.idle_timeout_s
    """Timeout between two bytes of an answer."""
    deadline_s: Annotated[float, Field(gt=0)] = _ENGINE.deadline_s
    """Deadline of one request to a URL, over all attempts."""

    @field_validator("setting", mode="before")
    @classmethod
    def _names_settings(cls, value: object) -> object:
        """Check names here, since pydantic would complain about each type that is allowed. One in a list is one."""
        names = cast("list[object]", value) if isinstance(value, list) else [value]
        known = get_args(SettingName)
        for name in names:
            if name not in known:
                raise ValueError(f"{name!r} is no setting: {nearest(str(name), known)}")
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is named twice: name each setting once")
        if not names:
            raise ValueError(f"no setting is named: name some of {', '.join(known)}")
        return names[0] if len(names) == 1 else names

    @property
    def settings(self) -> RunSettings:
        """The settings in which policies are asked."""
        return RunSettings.of(self.setting)

    def in_setting(self, name: str) -> "SamplingSection":
        """Return the section as it is for one setting alone."""
        section: SettingSection = getattr(self, name)
        return self.model_copy(update={"setting": name, **section.given})

    @property
    def engine_options(self) -> EngineOptions:
        """The options of engines among these keys."""
        return EngineOptions(
            batch_size=self.batch_size,
            concurrency=self.concurrency,
            choices=self.choices,
            first_byte_timeout_s=self.first_byte_timeout_s,
            idle_timeout_s=self.idle_timeout_s,
            deadline_s=self.deadline_s,
        )


class _AmountsSection(Section):
    """Amounts in each currency."""

    samples: Annotated[int, Field(ge=1)] | None = None
    tokens: Annotated[float, Field(gt=0)] | None = None
    """Completion tokens."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Seconds of engines, as they report for each sample."""

    @property
    def amounts(self) -> dict[Currency, float]:
        """The amounts that are set, by currency."""
        amounts: dict[Currency, float | None] = {currency: getattr(self, currency) for currency in CURRENCIES}
        return {currency: float(amount) for currency, amount in amounts.items() if amount is not None}


class RunBudgetSection(_AmountsSection):
    """Spend limits of the whole run, over all problems and policies; unlimited where left out."""


class BudgetSection(_AmountsSection):
    """Budget of every arm on one problem: `amounts` has exactly one currency in a valid experiment."""

    samples: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] | None = None
    costs: dict[str, Annotated[float, Field(gt=0)]] | None = None
    """Cost of a sample of each policy in the currency; measured on the pilot when left out."""
    run: RunBudgetSection = RunBudgetSection()

    @property
    def currency(self) -> Currency:
        """The currency in which arms are matched."""
        return next(iter(self.amounts))

    @property
    def amount(self) -> float:
        """The budget per problem, in the currency."""
        return self.samples or self.amounts[self.currency]


BUILT_IN_ARMS = ("singles", "equal", "optimised", "thompson", "halving")
"""Arms that need no weights: each policy alone, the equal split, and the adaptive ones."""

REPORTED_ARMS = ("mixture", "best_single")
"""Arms that every report derives from the samples drawn; they cannot be requested."""


class AllocationSection(Section):
    """The arms to compare: ways to spend the budget of a problem."""

    arms: Annotated[list[str], Field(min_length=1)] = ["singles", "equal"]
    """Names from `BUILT_IN_ARMS` and `weights`."""
    policies: Annotated[list[str], Field(min_length=1)] | None = None
    """Members of the equal split and of adaptive arms, as names of policies or sweeps; all when left out."""
    weights: dict[str, dict[str, Annotated[float, Field(ge=0)]]] = {}
    """Arms with fixed shares: weights by policy, by name of the arm."""
    pilot: Annotated[int, Field(ge=1, le=MOST_SAMPLES)] = 2
    """Samples of each policy on each problem that are drawn first. Costs are measured on them, `optimised` learns from
    them, and policies that no arm uses get these samples alone."""
    batch: Annotated[int, Field(ge=1)] = 4
    """Number of samples of a problem that `thompson` asks for before it looks at their verdicts."""


class GradingSection(Section):
    """How programs are judged."""

    workers: Annotated[int, Field(ge=1)] | None = None
    """Number of programs judged at once; when left out, as many as there are cores that sampling does not need."""
    sandbox: Literal["strict", "weak"] = "strict"
    packages: list[str] = []
    """Installed packages that programs may import, beside those of each problem."""
    backend: Literal["here", "dask", "ray"] = "here"
    """`here` is this machine; with a cluster, `workers` is the size of one started locally."""
    address: str | None = None
    """Address of the Dask scheduler or the Ray cluster; a local one is started when left out."""

    def num_workers(self, *, is_sampling_here: bool) -> int:
        """Return the number of programs judged at once. An embedded engine, which uses one thread, gets one core."""
        return self.workers or max(1, (os.cpu_count() or 1) - is_sampling_here)


class AnalysisSection(Section):
    """Contents of the report, and its confidence level."""

    pass_at: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [1]
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    folds: Annotated[int, Field(ge=2)] = DEFAULT_FOLDS["problems"]
    sample_folds: Annotated[int, Field(ge=2)] = DEFAULT_FOLDS["samples"]
    repeats: Annotated[int, Field(ge=1)] = DEFAULT_REPEATS
    seed: Annotated[int, Field(ge=0)] = 0
    missing: Missing = "error"
    """What to do about problems or policies that lack samples: make no report, or leave them out of it."""

    @property
    def resampling(self) -> Resampling:
        """The parameters of the bootstrap intervals."""
        return Resampling(self.level, self.resamples, self.seed)
