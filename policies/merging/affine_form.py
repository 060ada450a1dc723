"""Common form of the policies of a family, so that one server can run all of them.

Weights are followed through merges of merges, and through trajectories along lines, down to the checkpoints that
they start from, in exact fractions. A policy that is made of these in one step has each value rounded once; made on
disk it was rounded at every merge on the way.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from alphamix.policies.merging.trajectory import line_weights
from alphamix.policies.policy_file.recipes import (
    AdapterRecipe,
    Checkpoint,
    Combination,
    Logits,
    Merge,
    Recipe,
    Remote,
    Trajectory,
)
from alphamix.policies.types import PolicyError

Source = Path | str
"""An absolute folder, or a hub id."""


@dataclass(frozen=True, slots=True)
class AffineForm:
    """Policy Σ coefficient·θ over checkpoints; a checkpoint itself has the single coefficient 1."""

    coefficients: dict[Path, Fraction]
    """Coefficients by folder. No coefficient is 0, and they sum to exactly 1."""

    def around(self, base: Path) -> tuple[tuple[Path, float], ...]:
        """Return the other checkpoints and their weights in base + Σ weight·(θ − base)."""
        return tuple((folder, float(share)) for folder, share in self.coefficients.items() if folder != base)


@dataclass(frozen=True, slots=True)
class AdaptedForm:
    """Policy that is one LoRA adapter on a base."""

    base: Path
    """Folder of the base's checkpoint."""
    adapter: Path
    """A PEFT folder."""


@dataclass(frozen=True, slots=True)
class WholeForm:
    """Policy that has a checkpoint made for it, and is neither of the others."""

    folder: Path


@dataclass(frozen=True, slots=True)
class LogitPair:
    """Policy with logits z_low + α·(z_high − z_low) of two checkpoints."""

    low: Path
    high: Path
    alpha: float


PolicyForm = AffineForm | AdaptedForm | WholeForm | LogitPair


def adapter_base(recipes: Mapping[str, Recipe], name: str) -> str | None:
    """Return the policy that a policy is one adapter on, or None if it is not an adapter.

    A merge of adapters on the same base, and of that base itself, is one adapter too: see `adapter_shares`.
    """
    recipe = recipes[name]
    if isinstance(recipe, AdapterRecipe):
        return recipe.base
    if not isinstance(recipe, Merge | Combination):
        return None
    bases = {below: adapter_base(recipes, below) for below in recipe.inputs.values()}
    for base in bases.values():
        if base is not None and all(base in (below, of_below) for below, of_below in bases.items()):
            return base
    return None


def adapter_shares(recipes: Mapping[str, Recipe], name: str) -> dict[str, Fraction]:
    """Return the shares of the adapters that such a policy is made of, by name. The base has the rest of 1."""
    recipe = recipes[name]
    if isinstance(recipe, AdapterRecipe):
        return {name: Fraction(1)}
    base = adapter_base(recipes, name)
    total: defaultdict[str, Fraction] = defaultdict(Fraction)
    for below, weight in _terms(recipe) or []:
        if isinstance(below, str) and below != base:
            for leaf, share in adapter_shares(recipes, below).items():
                total[leaf] += weight * share
    return dict(total)


def coefficients(recipes: Mapping[str, Recipe], name: str) -> dict[Source, Fraction] | None:
    """Return the coefficients of a policy over checkpoints, as in `AffineForm`, or None if it has no such form."""
    recipe = recipes[name]
    if isinstance(recipe, Checkpoint):
        return {recipe.source: Fraction(1)}
    terms = None if adapter_base(recipes, name) is not None else _terms(recipe)
    if terms is None:
        return None
    total: defaultdict[Source, Fraction] = defaultdict(Fraction)
    for entry, weight in terms:
        below = {entry.source: Fraction(1)} if isinstance(entry, Checkpoint) else coefficients(recipes, entry)
        if below is None:
            return None
        for source, coefficient in below.items():
            total[source] += weight * coefficient
    return {source: coefficient for source, coefficient in total.items() if coefficient}


def check_serving(serve: str, recipes: Mapping[str, Recipe], names: Sequence[str]) -> None:
    """Check that policies can be served in the requested way, as far as their recipes show.

    Raises:
        PolicyError: names the first policy that cannot.
    """
    local = [name for name in names if not isinstance(recipes[name], Remote)]
    if serve == "switch":
        for name in local:
            if coefficients(recipes, name) is None:
                what = "affine combinations of checkpoints"
                raise _refusal(name, f"{_nature(recipes, name)}, and weights are switched between {what}", serve)
    elif serve == "adapters":
        bases = [base for base in (adapter_base(recipes, name) for name in local) if base is not None]
        for name in local:
            if not bases:
                raise _refusal(name, "no policy is an adapter", serve)
            if name != bases[0] and adapter_base(recipes, name) != bases[0]:
                raise _refusal(name, f"it is neither {bases[0]!r} nor an adapter on it", serve)


def inputs_of_switch(recipes: Mapping[str, Recipe], names: Sequence[str]) -> dict[Source, str]:
    """Return the checkpoints that weights are switched between, each with the first policy that needs it."""
    users: dict[Source, str] = {}
    for name in names:
        for source in coefficients(recipes, name) or {}:
            users.setdefault(source, name)
    return users


def _terms(recipe: Recipe) -> list[tuple[str | Checkpoint, Fraction]] | None:
    """Return the inputs and their coefficients, one step down."""
    match recipe:
        case Merge() | Combination():
            weights = [Fraction(weight) for weight in recipe.weights]
            return list(zip(recipe.inputs.values(), [1 - sum(weights, Fraction(0)), *weights], strict=True))
        case Trajectory(method="lines", norms="extrapolate"):
            return list(zip(recipe.checkpoints.values(), line_weights([*recipe.checkpoints], recipe.step), strict=True))
        case _:
            return None


def _nature(recipes: Mapping[str, Recipe], name: str) -> str:
    """Explain why a policy is not an affine combination of checkpoints."""
    recipe = recipes[name]
    if isinstance(recipe, Logits):
        return "it mixes logits"
    if isinstance(recipe, AdapterRecipe) or adapter_base(recipes, name) is not None:
        return "it is an adapter"
    if isinstance(recipe, Trajectory) and _terms(recipe) is None:
        return "its trajectory has other weights for each tensor (rank-1, or copied norms)"
    below = next(below for below in recipe.inputs.values() if coefficients(recipes, below) is None)
    return f"it is made from {below!r}, and {_nature(recipes, below)}"


def _refusal(name: str, reason: str, serve: str) -> PolicyError:
    cure = 'write serve = "servers", or leave the policy out'
    return PolicyError(f'policy {name!r} cannot be served with serve = "{serve}": {reason}; {cure}.')
