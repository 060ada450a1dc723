"""What an experiment names, read and checked: policies and problems. Nothing is written, no model is opened."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from alphamix.ensemble.experiment.config import Experiment, ExperimentError
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.types import Problem
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError


@dataclass(frozen=True)
class Inputs:
    """An experiment together with its policies and problems."""

    experiment: Experiment
    registry: Registry
    """The policies that are sampled."""
    problems: list[Problem]
    members: tuple[str, ...]
    """Policies of the equal split and of adaptive arms."""
    weights: Mapping[str, Mapping[str, float]]
    """Shares of policies, by arm."""

    def identity(self) -> dict[str, str]:
        """Everything that samples and verdicts depend on, by name, so that a change can be named."""
        sampling = self.experiment.sampling.model_dump(mode="json", exclude=_SAMPLES_DO_NOT_DEPEND_ON)
        engine = self.registry.engine.name
        return {
            "problems": fingerprint(self.problems),
            **({"engine": engine} if engine != "transformers" else {}),  # which older runs do not name
            **{f"sampling.{key}": json.dumps(value) for key, value in sampling.items()},
            **{f"policies.{name}": self.registry.fingerprint(name) for name in self.registry.names},
        }


_SAMPLES_DO_NOT_DEPEND_ON = {
    *("concurrency", "choices", "samples"),
    *("first_byte_timeout_s", "idle_timeout_s", "deadline_s"),
}


def read_inputs(experiment: Experiment) -> Inputs:
    """Read what an experiment names and refuse what does not fit together.

    Raises:
        ExperimentError, PolicyError, GradingError: one line with cause and cure.
    """
    registry = Registry.load(experiment.policies.file).select(experiment.policies.use)
    problems = load_problems(experiment.problems.file)[: experiment.problems.limit]
    members = members_of(experiment, registry)
    weights = {name: _shares(name, table, registry) for name, table in experiment.allocation.weights.items()}
    _check_costs(experiment, registry)
    registry.check()
    return Inputs(experiment, registry, problems, members, weights)


def members_of(experiment: Experiment, registry: Registry) -> tuple[str, ...]:
    """List the policies of the equal split and of adaptive arms; a sweep's name stands for all its members.

    Raises:
        ExperimentError: the budget is less than one sample for each.
        PolicyError: one is unknown.
    """
    named = experiment.allocation.policies
    members = registry.names if named is None else [one for name in named for one in registry.select([name]).names]
    members = tuple(dict.fromkeys(members))
    budget = experiment.budget.samples
    if budget is not None and budget < len(members) and "equal" in experiment.allocation.arms:
        raise ExperimentError(
            f"budget.samples = {budget} cannot be split over {len(members)} policies: raise it to {len(members)} or "
            "more, or name fewer under allocation.policies"
        )
    return members


def _shares(arm: str, weights: Mapping[str, float], registry: Registry) -> dict[str, float]:
    """Shares by policy; what a sweep gets is divided equally among its members."""
    if arm in registry.names:
        raise ExperimentError(
            f"allocation.weights.{arm} has the name of a policy, which is an arm by itself: rename it"
        )
    shares = dict.fromkeys(registry.names, 0.0)
    for name, weight in weights.items():
        try:
            members = registry.select([name]).names
        except PolicyError as error:
            raise ExperimentError(f"allocation.weights.{arm}: {error}") from error
        for member in members:
            shares[member] += weight / len(members)
    return {name: share for name, share in shares.items() if share}


def _check_costs(experiment: Experiment, registry: Registry) -> None:
    costs = experiment.budget.costs
    if costs is None:
        return
    unknown, missing = sorted(costs.keys() - registry.names), sorted(registry.names - costs.keys())
    if unknown or missing:
        wrong = f"names {unknown[0]!r}, which is not sampled" if unknown else f"does not say what {missing[0]!r} costs"
        raise ExperimentError(f"budget.costs {wrong}: give one cost for each of {', '.join(registry.names)}")
