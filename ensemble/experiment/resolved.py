"""The policies and problems that an experiment names, read and checked. Nothing is written, and no model is opened.

`Inputs` has two parts: a `Design`, which the plan follows from, and `SamplingInputs`, which samples are drawn from. In
an experiment of several settings, a policy of the design is a policy in one setting (`run_settings`).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from alphamix.ensemble.experiment.config import Experiment, ExperimentError
from alphamix.ensemble.experiment.problems import read_problems
from alphamix.ensemble.experiment.schema import AllocationSection, BudgetSection, SamplingSection
from alphamix.ensemble.run_settings import RunSettings
from alphamix.grading.types import Problem
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError


@dataclass(frozen=True)
class Design:
    """What the plan of a run follows from: names and numbers, without models or statements."""

    policies: tuple[str, ...]
    """Policies that are sampled."""
    members: tuple[str, ...]
    """Policies of the equal split and of adaptive arms."""
    weights: Mapping[str, Mapping[str, float]]
    """Shares of policies, by arm."""
    problems: tuple[str, ...]
    """Ids."""
    budget: BudgetSection
    allocation: AllocationSection
    samples: int
    """Minimum number of samples of each policy on each problem."""
    max_tokens: Mapping[str, int]
    """Maximum number of completion tokens of a sample, by policy."""
    seed: int
    pass_at: tuple[int, ...]
    """Each k that pass@k is reported for."""

    def of(self, policies: Collection[str], problems: Collection[str]) -> "Design":
        """Return the design for some policies and problems alone; arms that lose all their policies are left out."""
        members = tuple(name for name in self.members if name in policies)
        weights = {arm: _only(shares, policies) for arm, shares in self.weights.items()}
        needs = {"singles": policies} | weights
        arms = [arm for arm in self.allocation.arms if needs.get(arm, members)]
        costs = self.budget.costs
        return replace(
            self,
            policies=tuple(name for name in self.policies if name in policies),
            problems=tuple(problem for problem in self.problems if problem in problems),
            members=members,
            weights={arm: shares for arm, shares in weights.items() if shares},
            allocation=self.allocation.model_copy(update={"arms": arms}),
            budget=self.budget.model_copy(update={"costs": None if costs is None else _only(costs, policies)}),
        )


@dataclass(frozen=True)
class Asked:
    """A policy, and how it is asked."""

    policy: str
    """Name in the registry."""
    setting: str
    section: SamplingSection
    """As it is for this setting alone."""


@dataclass(frozen=True)
class SamplingInputs:
    """What samples are drawn from, and what they depend on."""

    registry: Registry
    """The policies that are sampled."""
    problems: Sequence[Problem]
    section: SamplingSection

    @cached_property
    def asked(self) -> dict[str, Asked]:
        """What is behind each policy of the design, in order: the settings of one policy are neighbours."""
        settings = self.section.settings
        sections = {name: self.section.in_setting(name) for name in settings.names}
        return {
            label: Asked(policy, setting, sections[setting])
            for policy in self.registry.names
            for label, setting in zip(settings.labels(policy), settings.names, strict=True)
        }


@dataclass(frozen=True)
class Inputs:
    """An experiment together with its policies and problems."""

    experiment: Experiment
    sampling: SamplingInputs
    design: Design


def read_inputs(experiment: Experiment, *, is_sampled: bool = True) -> Inputs:
    """Read what an experiment names and refuse what does not fit together.

    Args:
        experiment: as read from its file.
        is_sampled: whether the policies are to be sampled, so that their weights and keys must be there.

    Raises:
        ExperimentError, PolicyError, GradingError: one line with cause and cure.
    """
    registry = Registry.load(experiment.policies.file).select(experiment.policies.use)
    settings = experiment.sampling.settings
    _check_labels(registry, settings)
    sampling = SamplingInputs(registry, read_problems(experiment.problems), experiment.sampling)
    policies = tuple(sampling.asked)
    design = Design(
        policies=policies,
        members=members_of(experiment, registry),
        weights={
            name: _shares(name, table, policies, registry, settings)
            for name, table in experiment.allocation.weights.items()
        },
        problems=tuple(problem.id for problem in sampling.problems),
        budget=experiment.budget,
        allocation=experiment.allocation,
        samples=experiment.sampling.samples or 0,
        max_tokens={label: asked.section.max_tokens for label, asked in sampling.asked.items()},
        seed=experiment.sampling.seed,
        pass_at=tuple(experiment.analysis.pass_at),
    )
    _check_costs(experiment, policies)
    for name in settings.names:
        _check_tools(name, experiment.sampling, registry)
    if is_sampled:
        registry.check()
    return Inputs(experiment, sampling, design)


def members_of(experiment: Experiment, registry: Registry) -> tuple[str, ...]:
    """Return the policies of the equal split and of adaptive arms, as the design calls them.

    Raises:
        ExperimentError: the budget is less than one sample for each.
        PolicyError: a policy is unknown.
    """
    named, settings = experiment.allocation.policies, experiment.sampling.settings
    names = registry.names if named is None else named
    members = tuple(dict.fromkeys(member for name in names for member in _named(name, registry, settings)))
    budget = experiment.budget.samples
    if budget is not None and budget < len(members) and "equal" in experiment.allocation.arms:
        raise ExperimentError(
            f"budget.samples = {budget} cannot be split over {len(members)} policies: raise it to {len(members)} or "
            "more, or name fewer under allocation.policies"
        )
    return members


def _named(name: str, registry: Registry, settings: RunSettings) -> list[str]:
    """Return the policies of the design that a name stands for: a sweep's for its members, a policy's for all settings.

    A setting may be added to either, as in `coverage@tool`. Raises PolicyError if the policy is unknown.
    """
    policy, setting = settings.split(name)
    labels = [label for member in registry.select([policy]).names for label in settings.labels(member)]
    return [label for label in labels if setting in (None, settings.split(label).setting)]


def _check_labels(registry: Registry, settings: RunSettings) -> None:
    """Check that no policy is called what another one is called in some setting."""
    for name in registry.names:
        policy, setting = settings.split(name)
        if settings.are_several and setting is not None:
            raise ExperimentError(
                f"{name!r} is the name of a policy of {registry.source}, and would be that of {policy!r} in the "
                f"setting {setting!r}: rename the policy, or leave it out by policies.use"
            )


def _shares(
    arm: str, weights: Mapping[str, float], policies: Sequence[str], registry: Registry, settings: RunSettings
) -> dict[str, float]:
    """Return shares by policy; a weight is divided equally among the policies that its name stands for."""
    if arm in policies:
        raise ExperimentError(
            f"allocation.weights.{arm} has the name of a policy, and every policy is an arm already: rename it"
        )
    shares = dict.fromkeys(policies, 0.0)
    for name, weight in weights.items():
        try:
            members = _named(name, registry, settings)
        except PolicyError as error:
            raise ExperimentError(f"allocation.weights.{arm}: {error}") from error
        for member in members:
            shares[member] += weight / len(members)
    return {name: share for name, share in shares.items() if share}


def _only(numbers: Mapping[str, float], names: Collection[str]) -> dict[str, float]:
    return {name: number for name, number in numbers.items() if name in names}


def _check_costs(experiment: Experiment, policies: Sequence[str]) -> None:
    costs = experiment.budget.costs
    if costs is None:
        return
    unknown, missing = sorted(costs.keys() - set(policies)), sorted(set(policies) - costs.keys())
    if unknown or missing:
        wrong = f"names {unknown[0]!r}, which is not sampled" if unknown else f"does not say what {missing[0]!r} costs"
        raise ExperimentError(f"budget.costs {wrong}: give one cost for each of {', '.join(policies)}")


def _check_tools(setting: str, sampling: SamplingSection, registry: Registry) -> None:
    """Check that the policies with weights here get their tool calls parsed; a server tells only when it is asked."""
    engine = registry.engine
    formats = {"tool": sampling.tool.format, "agent": sampling.agent.format if sampling.agent.loop is None else "own"}
    if formats.get(setting) != "openai" or all(map(registry.is_remote, registry.names)):
        return
    if engine.name == "vllm" and any(argument.startswith("--tool-call-parser") for argument in engine.arguments):
        return
    parser = (
        "give [engine] the arguments --enable-auto-tool-choice and --tool-call-parser, or "
        if engine.name == "vllm"
        else ""
    )
    raise ExperimentError(
        f'sampling.{setting}.format is "openai", but the {engine.name} engine parses no tool calls as it is '
        f'set up: {parser}set sampling.{setting}.format to "hermes", "cwm" or "fenced"'
    )
