"""Reads what to serve: a policies file or an experiment, and mixtures that `mix` or a run has chosen.

An experiment is served as the equal split over the policies of its allocation, under the experiment's name. A mixture
is served under its file's name; that of a finished run under the run's name, so that it replaces the equal split.

A setting is the client's choice, request by request. So where policies were asked in several settings (`low@tool`), the
weights of a policy are added.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.config import Experiment
from alphamix.ensemble.experiment.resolved import members_of
from alphamix.ensemble.experiment.schema import SettingName
from alphamix.ensemble.run_settings import RunSettings
from alphamix.policies.policy_file.toml_errors import nearest, read_toml
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

_ONLY_OF_EXPERIMENTS = Experiment.model_fields.keys() - {"policies"}


def load_catalogue(source: Path, mixtures: Sequence[Path] = ()) -> Registry:
    """Read what to serve, without opening or building a policy.

    Args:
        source: TOML file of policies, or of an experiment.
        mixtures: Files that `read_mixture` reads.

    Raises:
        PolicyError, EnsembleError: one line with cause and cure.
    """
    has_policies_only = _ONLY_OF_EXPERIMENTS.isdisjoint(read_toml(source, PolicyError))
    registry = Registry.load(source) if has_policies_only else _of_experiment(source)
    for path in mixtures:
        name, weights = read_mixture(path, registry.names)
        _add(registry, name, weights, path)
    return registry


def without_missing(registry: Registry) -> tuple[Registry, dict[str, str]]:
    """Leave out the policies that cannot be served, such as those whose weights or keys are not there.

    Returns:
        The other policies, with mixtures over those of their policies that are left; and why each policy was left out.

    Raises:
        PolicyError: no policy is left.
    """
    faults: dict[str, str] = {}
    for name in registry.names:
        try:
            registry.select([name]).check()
        except PolicyError as error:
            faults[name] = str(error)
    kept = [name for name in registry.names if name not in faults]
    if not kept:
        raise PolicyError(f"no policy of {registry.source} can be served: {next(iter(faults.values()))}")
    whole = registry.select(kept)
    for mixture, weights in registry.mixtures.items():
        left = {name: weight for name, weight in weights.items() if name in kept}
        if any(left.values()):
            whole.mixtures[mixture] = left
    return whole, faults


def read_mixture(path: Path, policies: Sequence[str]) -> tuple[str, dict[str, float]]:
    """Read the output of `alphamix mix --json`, or a finished run's `summary.json` (or the run's folder).

    Returns:
        A name, and the allocation as weights by policy; for a run, the allocation of its arm `mixture`.

    Raises:
        EnsembleError: the file is neither, or names a policy that is not served.
    """
    file = path / "summary.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        is_run = "arms" in content
        allocation = (content["arms"]["mixture"] if is_run else content)["allocation"]
        name = str(content["run"]) if is_run else file.stem
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise EnsembleError(
            f"{path} has no mixture ({error!r}): give the output of 'alphamix mix --json', or a finished run's folder."
        ) from error
    return name, _weights(allocation, path, policies)


def _weights(allocation: object, path: Path, policies: Sequence[str]) -> dict[str, float]:
    if not isinstance(allocation, Mapping) or not allocation:
        raise EnsembleError(f"the allocation of {path} is {allocation!r}: give counts by policy.")
    settings = RunSettings(get_args(SettingName))
    weights: dict[str, float] = {}
    for label, count in cast("Mapping[str, Any]", allocation).items():
        policy = label if label in policies else settings.split(label).policy
        if policy not in policies:
            raise EnsembleError(f"unknown policy {policy!r} in {path}: {nearest(policy, policies)}")
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise EnsembleError(f"{path} gives {label!r} the count {count!r}: give a whole number, 0 or more.")
        weights[policy] = weights.get(policy, 0) + count
    if not any(weights.values()):
        raise EnsembleError(f"the allocation of {path} is 0 for every policy: give one policy 1 or more.")
    return weights


def _of_experiment(source: Path) -> Registry:
    config = experiment.load(source, environment=os.environ)
    registry = Registry.load(config.policies.file).select(config.policies.use)
    if config.name in registry.mixtures:
        raise EnsembleError(
            f"the experiment of {source} and a mixture of {config.policies.file} are both called {config.name!r}: "
            "rename one of them."
        )
    labels = members_of(config, registry)
    members = Counter(config.sampling.settings.split(label).policy for label in labels)
    _add(registry, config.name, {name: float(weight) for name, weight in members.items()}, source)
    return registry


def _add(registry: Registry, name: str, weights: dict[str, float], source: Path) -> None:
    if name in registry.names:
        raise EnsembleError(f"the ensemble of {source} and a policy are both called {name!r}: rename one of them.")
    registry.mixtures[name] = weights
