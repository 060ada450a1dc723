"""An experiment as the user writes it: a TOML file, overridden by environment variables and flags.

Flags override variables (`ALPHAMIX_BUDGET__SAMPLES=50`), variables override the file, and the file overrides defaults.
Every error that can be found without opening a model is raised here, before anything is written.
"""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from alphamix.ensemble.budget import CURRENCIES
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.experiment.schema import (
    BUILT_IN_ARMS,
    REPORTED_ARMS,
    AllocationSection,
    AnalysisSection,
    BudgetSection,
    GradingSection,
    PoliciesSection,
    ProblemsSection,
    SamplingSection,
    Section,
)
from alphamix.policies.policy_file.toml_errors import nearest, read_toml, validated

VARIABLE_PREFIX = "ALPHAMIX_"


class ExperimentError(EnsembleError):
    """An experiment is inconsistent: the message says why, then what to do."""


class Experiment(Section):
    """A whole experiment; `name` is the default name of the run's folder."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    problems: ProblemsSection
    policies: PoliciesSection
    sampling: SamplingSection = SamplingSection()
    budget: BudgetSection
    allocation: AllocationSection = AllocationSection()
    grading: GradingSection = GradingSection()
    analysis: AnalysisSection = AnalysisSection()

    def to_toml(self) -> dict[str, Any]:
        """Return the experiment in the form that `load` reads, with defaults filled in."""
        return self.model_dump(mode="json", exclude_none=True)


def load(path: Path, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Experiment:
    """Read an experiment, and check that its numbers are consistent.

    Args:
        path: TOML file; paths in it are relative to its folder.
        overrides: `section.key=value`, with values as in TOML (a bare word is a string) and paths relative to the
            current folder.
        environment: variables, of which `ALPHAMIX_SECTION__KEY` overrides `section.key`.

    Raises:
        ExperimentError: one line with cause and cure.
    """
    data = _read(path)
    given = [*_from_environment(environment or {}), *map(_from_flag, overrides)]
    for source, key, value in given:
        _set(data, source, key, value)
    return _checked(data, str(path), {key: source for source, key, _ in given})


def load_with(path: Path | None, sections: Mapping[str, Any]) -> Experiment:
    """Read an experiment whose sections are given by a program, over those of a file or without one.

    Args:
        path: TOML file; None if the sections say everything.
        sections: Sections and keys as in the file, which they override key by key; their relative paths are relative
            to the working directory.

    Raises:
        ExperimentError: one line with cause and cure.
    """
    data = {} if path is None else _read(path)
    _merge(data, sections)
    given = "the experiment" if path is None else "the keyword arguments"
    return _checked(data, given if path is None else str(path), dict.fromkeys(_keys(sections), given))


def _read(path: Path) -> dict[str, Any]:
    data = read_toml(path, ExperimentError)
    _anchor(data, path.parent)
    return data


def _checked(data: dict[str, Any], source: str, overrides: Mapping[str, str]) -> Experiment:
    _anchor(data, Path.cwd())
    experiment = validated(Experiment, data, source, ExperimentError, overrides)
    _check_numbers(experiment)
    return experiment


def _merge(data: dict[str, Any], sections: Mapping[str, Any], above: tuple[str, ...] = ()) -> None:
    """Put the values of nested sections into a table, key by key."""
    for key, value in sections.items():
        if isinstance(value, Mapping) and isinstance(data.setdefault(key, {}), dict):
            _merge(data[key], value, (*above, key))
        else:
            _put(data, above, key, str(value) if isinstance(value, Path) else value)


def _keys(sections: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield the dotted keys of all values of nested sections."""
    for key, value in sections.items():
        if isinstance(value, Mapping) and value:
            yield from _keys(value, f"{above}{key}.")
        else:
            yield f"{above}{key}"


def _check_numbers(experiment: Experiment) -> None:
    _check_problems(experiment.problems)
    _check_budget(experiment.budget)
    _check_arms(experiment.allocation)
    if experiment.budget.samples is not None:
        _check_samples(experiment, experiment.budget.samples)
    _check_prompts(experiment.sampling)


def _check_prompts(sampling: SamplingSection) -> None:
    for name in sampling.settings.names:
        prompt = sampling.in_setting(name).prompt
        if prompt is not None and "{statement}" not in prompt:
            key = "sampling.prompt" if prompt == sampling.prompt else f"sampling.{name}.prompt"
            raise ExperimentError(f"{key} is {prompt!r}, which does not contain the problem: put {{statement}} into it")


def _check_problems(problems: ProblemsSection) -> None:
    if (problems.file is None) == (problems.benchmark is None):
        given = "both are given" if problems.file else "neither is given"
        raise ExperimentError(
            f"problems come from problems.file or from problems.benchmark, and {given}: give one of them"
        )
    of_benchmark = [*problems.given(), *(["path"] if problems.path else [])]
    if problems.file is not None and of_benchmark:
        raise ExperimentError(
            f"problems.{of_benchmark[0]} belongs to a benchmark, and problems.file is given: leave one of them out"
        )


def _check_budget(budget: BudgetSection) -> None:
    amounts = budget.amounts
    if len(amounts) != 1:
        given = " and ".join(f"budget.{currency} = {amount:g}" for currency, amount in amounts.items())
        raise ExperimentError(
            f"arms are matched in one currency, but {given or 'no budget'} is given: give one of "
            f"{', '.join(f'budget.{currency}' for currency in CURRENCIES)}"
        )
    if budget.costs is not None and budget.samples is not None:
        raise ExperimentError(
            "budget.costs is given, but the budget is in samples, which cost 1 each: leave costs out, or give "
            "budget.tokens or budget.seconds"
        )


def _check_arms(allocation: AllocationSection) -> None:
    for name, weights in allocation.weights.items():
        if name in (*BUILT_IN_ARMS, *REPORTED_ARMS):
            raise ExperimentError(f"allocation.weights.{name} has the name of another arm: rename it")
        if not any(weights.values()):
            raise ExperimentError(f"allocation.weights.{name} gives no policy a weight above 0: give one")
    known = [*BUILT_IN_ARMS, *allocation.weights]
    for name in allocation.arms:
        if name not in known:
            raise ExperimentError(f"unknown arm {name!r} in allocation.arms: {nearest(name, known)}")


def _check_samples(experiment: Experiment, budget: int) -> None:
    samples = experiment.sampling.samples
    if samples is not None and budget > samples and "singles" in experiment.allocation.arms:
        raise ExperimentError(
            f"budget.samples = {budget}, but sampling.samples = {samples} per policy and problem, so no single policy "
            f"can be scored at that budget: set sampling.samples to {budget} or more, or lower the budget"
        )


def _anchor(data: dict[str, Any], folder: Path) -> None:
    """Make paths relative to a folder absolute, also the one in `benchmark = "kattis:PATH"`."""
    problems = data.get("problems")
    if isinstance(problems, dict) and ":" in (named := str(problems.get("benchmark", ""))):
        problems["benchmark"], _, path = named.partition(":")
        if problems.setdefault("path", path) != path:
            raise ExperimentError(f"problems.benchmark = {named!r} and problems.path both name a path: leave one out")
    for section, key in (("problems", "file"), ("problems", "path"), ("policies", "file")):
        table = data.get(section)
        if isinstance(table, dict) and isinstance(table.get(key), str):
            table[key] = str(folder / table[key])
    agent = data.get("sampling", {}).get("agent") if isinstance(data.get("sampling"), dict) else None
    if (
        isinstance(agent, dict)
        and isinstance(loop := agent.get("loop"), str)
        and loop.partition(":")[0].endswith(".py")
    ):
        agent["loop"] = str(folder / loop)


def _from_environment(environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [
        (name, name.removeprefix(VARIABLE_PREFIX).lower().replace("__", "."), value)
        for name, value in sorted(environment.items())
        if name.startswith(VARIABLE_PREFIX) and "__" in name
    ]


def _from_flag(override: str) -> tuple[str, str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise ExperimentError(f"--set {override!r} is not of the form KEY=VALUE: write, for example, budget.samples=50")
    return f"--set {override}", key.strip(), value.strip()


def _set(data: dict[str, Any], source: str, key: str, text: str) -> None:
    *sections, last = key.split(".")
    table = data
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ExperimentError(f"{source}: {section!r} is a value, not a section: give a key such as budget.samples")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    _put(table, sections, last, value)


def _put(table: dict[str, Any], sections: Sequence[str], key: str, value: Any) -> None:
    """Set a key of a section. A later budget replaces an earlier one in another currency."""
    if list(sections) == ["budget"] and key in CURRENCIES:
        for currency in CURRENCIES:
            table.pop(currency, None)
    table[key] = value
