"""What is to be served: a policies file, or an experiment, and mixtures that were chosen by `mix` or by a run.

The ensemble of an experiment is the equal split of its allocation, under the experiment's name. A mixture is served
under its file's name; that of a finished run under the run's, so that it takes the place of the equal split.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.config import Experiment
from alphamix.ensemble.experiment.resolved import members_of
from alphamix.policies.policy_file.toml_errors import nearest, read_toml
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

_ONLY_OF_EXPERIMENTS = Experiment.model_fields.keys() - {"policies"}


def load_catalogue(source: Path, mixtures: Sequence[Path] = ()) -> Registry:
    """Read what is to be served; nothing is opened or made.

    Args:
        source: TOML file of policies, or of an experiment.
        mixtures: files that `read_mixture` reads.

    Raises:
        PolicyError, EnsembleError: one line with cause and cure.
    """
    registry = _of_experiment(source) if is_experiment(source) else Registry.load(source)
    for path in mixtures:
        name, weights = read_mixture(path, registry.names)
        _add(registry, name, weights, path)
    return registry


def is_experiment(source: Path) -> bool:
    """Say whether a TOML file has keys that only experiments have.

    Raises:
        PolicyError: it is no TOML file.
    """
    return not _ONLY_OF_EXPERIMENTS.isdisjoint(read_toml(source, PolicyError))


def read_mixture(path: Path, policies: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Read what `alphamix mix --json` prints, or a finished run's `summary.json` (or its folder).

    Returns:
        A name, and the allocation as weights by policy: of a run, those of its arm `mixture`.

    Raises:
        EnsembleError: it is none of these, or names a policy that is not served.
    """
    file = path / "summary.json" if path.is_dir() else path
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        is_run = "arms" in told
        allocation = (told["arms"]["mixture"] if is_run else told)["allocation"]
        name = str(told["run"]) if is_run else file.stem
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise EnsembleError(
            f"{path} holds no mixture ({error!r}): give what 'alphamix mix --json' prints, or a finished run's folder."
        ) from error
    return name, _weights(allocation, path, policies)


def _weights(allocation: object, path: Path, policies: Sequence[str]) -> dict[str, float]:
    if not isinstance(allocation, Mapping) or not allocation:
        raise EnsembleError(f"the allocation of {path} is {allocation!r}: give counts by policy.")
    weights: dict[str, float] = {}
    for policy, count in cast("Mapping[str, Any]", allocation).items():
        if policy not in policies:
            raise EnsembleError(f"{path} mixes the unknown policy {policy!r}: {nearest(policy, policies)}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise EnsembleError(f"{path} gives {policy!r} the count {count!r}: give a whole number, 0 or more.")
        weights[policy] = count
    if not any(weights.values()):
        raise EnsembleError(f"the allocation of {path} gives nobody a sample: give one policy 1 or more.")
    return weights


def _of_experiment(source: Path) -> Registry:
    told = experiment.load(source, environment=os.environ)
    registry = Registry.load(told.policies.file).select(told.policies.use)
    if told.name in registry.mixtures:
        raise EnsembleError(
            f"the experiment of {source} has the name of the mixture {told.name!r} of {told.policies.file}: "
            "rename one of them."
        )
    _add(registry, told.name, dict.fromkeys(members_of(told, registry), 1.0), source)
    return registry


def _add(registry: Registry, name: str, weights: dict[str, float], source: Path) -> None:
    if name in registry.names:
        raise EnsembleError(f"the ensemble of {source} has the name of the policy {name!r}: give it another name.")
    registry.mixtures[name] = weights
