"""An experiment as the user writes it: one TOML file, settings from the environment, flags on top.

Flags beat variables (`ALPHAMIX_BUDGET__SAMPLES=50`), variables beat the file, the file beats defaults. Everything that
can be wrong without opening a model is refused here, before anything is written.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ensemble.errors import EnsembleError
from ensemble.mixture.crossfit import DEFAULT_FOLDS, DEFAULT_REPEATS
from policies.config import read_toml, validated
from policies.engines import EngineOptions

VARIABLE_PREFIX = "ALPHAMIX_"
_ENGINE = EngineOptions()


class ExperimentError(EnsembleError):
    """An experiment does not hold together: the message says why, then what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProblemsSection(_Section):
    """Which problems."""

    file: Path
    limit: Annotated[int, Field(ge=1)] | None = None
    """Use only the first so many."""


class PoliciesSection(_Section):
    """Which policies."""

    file: Path
    use: Annotated[list[str], Field(min_length=1)] | None = None
    """Names of policies and sweeps; all of the file when left out."""


class SamplingSection(_Section):
    """How samples are drawn."""

    setting: Literal["reasoning"] = "reasoning"
    prompt: str | None = None
    """Text sent as the user's turn, with `{statement}` in it; when left out, the setting's own instructions."""
    samples: Annotated[int, Field(ge=1)] | None = None
    """Slots per policy and problem; the budget when left out, which lets every policy stand alone at that budget."""
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


class BudgetSection(_Section):
    """What every arm may spend on one problem."""

    samples: Annotated[int, Field(ge=1)]


class AllocationSection(_Section):
    """How the ensemble spends it."""

    policies: Annotated[list[str], Field(min_length=1)] | None = None
    """Members of the equal split, sweeps by their name; all policies when left out."""


class GradingSection(_Section):
    """How programs are judged."""

    workers: Annotated[int, Field(ge=1)] | None = None
    """Programs judged at once; one core is left to sampling when left out."""
    sandbox: Literal["strict", "weak"] = "strict"


class AnalysisSection(_Section):
    """What is reported, and how sure."""

    pass_at: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = [1]
    level: Annotated[float, Field(gt=0, lt=1)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    folds: Annotated[int, Field(ge=2)] = DEFAULT_FOLDS["problems"]
    sample_folds: Annotated[int, Field(ge=2)] = DEFAULT_FOLDS["samples"]
    repeats: Annotated[int, Field(ge=1)] = DEFAULT_REPEATS
    seed: Annotated[int, Field(ge=0)] = 0


class Experiment(_Section):
    """All sections; `name` names the run's folder."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    problems: ProblemsSection
    policies: PoliciesSection
    sampling: SamplingSection = SamplingSection()
    budget: BudgetSection
    allocation: AllocationSection = AllocationSection()
    grading: GradingSection = GradingSection()
    analysis: AnalysisSection = AnalysisSection()

    @property
    def samples_per_cell(self) -> int:
        """Slots per policy and problem."""
        return self.sampling.samples or self.budget.samples

    def to_toml(self) -> dict[str, Any]:
        """Everything but what was left out and has no default, in the form that `load` reads."""
        return self.model_dump(mode="json", exclude_none=True)


def load(path: Path, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Experiment:
    """Read an experiment and refuse one whose numbers do not fit together.

    Args:
        path: TOML file; its relative paths are relative to its folder.
        overrides: `section.key=value`, values as in TOML (a bare word is a string); paths relative to here.
        environment: variables; `ALPHAMIX_SECTION__KEY` overrides `section.key`.

    Raises:
        ExperimentError: one line with cause and cure.
    """
    data = read_toml(path, ExperimentError)
    _anchor(data, path.parent)
    for source, key, value in [*_from_environment(environment or {}), *map(_from_flag, overrides)]:
        _set(data, source, key, value)
    _anchor(data, Path.cwd())
    experiment = validated(Experiment, data, str(path), ExperimentError)
    _check_numbers(experiment)
    return experiment


def _check_numbers(experiment: Experiment) -> None:
    samples, budget = experiment.samples_per_cell, experiment.budget.samples
    if budget > samples:
        raise ExperimentError(
            f"budget.samples = {budget}, but sampling.samples = {samples} per policy and problem, so no single policy "
            f"can be scored at that budget: set sampling.samples to {budget} or more, or lower the budget"
        )
    prompt = experiment.sampling.prompt
    if prompt is not None and "{statement}" not in prompt:
        raise ExperimentError(f"sampling.prompt is {prompt!r}, which lacks the problem: put {{statement}} into it")
    most = max(experiment.analysis.pass_at)
    if most > samples:
        raise ExperimentError(
            f"analysis.pass_at asks for pass@{most}, but only {samples} samples are drawn per policy and problem "
            f"(budget.samples = {budget}): raise the budget or sampling.samples to {most}, or ask for a smaller k"
        )


def _anchor(data: dict[str, Any], folder: Path) -> None:
    for section in ("problems", "policies"):
        table = data.get(section)
        if isinstance(table, dict) and isinstance(table.get("file"), str):
            table["file"] = str(folder / table["file"])


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [
        (name, name.removeprefix(VARIABLE_PREFIX).lower().replace("__", "."), value)
        for name, value in sorted(environment.items())
        if name.startswith(VARIABLE_PREFIX) and "__" in name
    ]


def _from_flag(override: str) -> tuple[str, str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ExperimentError(f"--set {override!r} has no form key=value: write for example budget.samples=50")
    return f"--set {override}", key.strip(), value.strip()


def _set(data: dict[str, Any], source: str, key: str, text: str) -> None:
    *sections, last = key.split(".")
    table = data
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ExperimentError(f"{source}: {section!r} is a value, not a section: name a key such as budget.samples")
    try:
        table[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[last] = text
