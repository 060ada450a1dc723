"""What an experiment names, read and checked: policies and problems. Nothing is written, no model is opened."""

import json
from dataclasses import dataclass

from ensemble.experiment import Experiment, ExperimentError
from grading.problems import fingerprint, load_problems
from grading.types import Problem
from policies.registry import Registry


@dataclass(frozen=True)
class Inputs:
    """An experiment together with its policies and problems."""

    experiment: Experiment
    registry: Registry
    """The policies that are sampled."""
    problems: list[Problem]
    members: tuple[str, ...]
    """Policies of the equal split."""

    def identity(self) -> dict[str, str]:
        """Everything that samples and verdicts depend on, by name, so that a change can be named."""
        sampling = self.experiment.sampling.model_dump(mode="json", exclude=_SAMPLES_DO_NOT_DEPEND_ON)
        engine = self.registry.engine.name
        return {
            "problems": fingerprint(self.problems),
            **({"engine": engine} if engine != "transformers" else {}),  # which older runs do not name
            "samples": str(self.experiment.samples_per_cell),
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
    registry.check()
    return Inputs(experiment, registry, problems, members)


def members_of(experiment: Experiment, registry: Registry) -> tuple[str, ...]:
    """List the policies of the equal split; a sweep's name stands for all its members.

    Raises:
        ExperimentError: the budget is less than one sample for each.
        PolicyError: one is unknown.
    """
    named = experiment.allocation.policies
    members = registry.names if named is None else [one for name in named for one in registry.select([name]).names]
    members = tuple(dict.fromkeys(members))
    budget = experiment.budget.samples
    if budget < len(members):
        raise ExperimentError(
            f"budget.samples = {budget} cannot be split over {len(members)} policies: raise it to {len(members)} or "
            "more, or name fewer under allocation.policies"
        )
    return members
