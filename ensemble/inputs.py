"""What an experiment names, read and checked: policies and problems. Nothing is written, no model is opened."""

import json
from dataclasses import dataclass

from ensemble.experiment import Experiment, ExperimentError
from grading.problems import fingerprint, load_problems
from grading.types import Problem
from policies.config import nearest
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
        sampling = self.experiment.sampling.model_dump(mode="json", exclude={"concurrency", "samples"})
        return {
            "problems": fingerprint(self.problems),
            "samples": str(self.experiment.samples_per_cell),
            **{f"sampling.{key}": json.dumps(value) for key, value in sampling.items()},
            **{f"policies.{name}": self.registry.fingerprint(name) for name in self.registry.names},
        }


def read_inputs(experiment: Experiment) -> Inputs:
    """Read what an experiment names and refuse what does not fit together.

    Raises:
        ExperimentError, PolicyError, GradingError: one line with cause and cure.
    """
    registry = Registry.load(experiment.policies.file).select(experiment.policies.use)
    problems = load_problems(experiment.problems.file)[: experiment.problems.limit]
    members = tuple(experiment.allocation.policies or registry.names)
    for member in members:
        if member not in registry.names:
            raise ExperimentError(
                f"allocation.policies names {member!r}, which is not sampled: {nearest(member, registry.names)}"
            )
    if experiment.budget.samples < 2:
        raise ExperimentError("budget.samples = 1 leaves nothing to split: give 2 or more samples per problem")
    registry.check()
    return Inputs(experiment, registry, problems, members)
