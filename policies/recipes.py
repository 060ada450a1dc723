"""What a policies file says: each policy's recipe by name, sweeps expanded, mixtures. Nothing is opened or
made.

The form of the file is a contract, see `docs/policies.md`. Errors are `PolicyError`, one line each.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from policies.config import nearest, read_toml, validated
from policies.sources import source
from policies.types import PolicyError


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights in a folder, or on the hub."""

    source: Path | str
    """An absolute folder, or a hub id."""


@dataclass(frozen=True, slots=True)
class Merge:
    """θ_low + α·(θ_high − θ_low) of two other policies, by their names."""

    low: str
    high: str
    alpha: float

    @property
    def inputs(self) -> dict[str, str]:
        """The policies by their parts in the merge, the base first."""
        return {"low": self.low, "high": self.high}

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each input after the base."""
        return (self.alpha,)


@dataclass(frozen=True, slots=True)
class Combination:
    """base + Σ weight·(input − base) of other policies, by their names."""

    base: str
    weight_of_input: dict[str, float]

    @property
    def inputs(self) -> dict[str, str]:
        """As for `Merge`: here each policy's part is its name."""
        return {name: name for name in (self.base, *self.weight_of_input)}

    @property
    def weights(self) -> tuple[float, ...]:
        """Of each input after the base."""
        return tuple(self.weight_of_input.values())


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind an OpenAI-compatible URL."""

    url: str
    model: str
    api_key_env: str | None
    """Name of the variable that holds the key."""


Recipe = Checkpoint | Merge | Combination | Remote


@dataclass(frozen=True, slots=True)
class PoliciesFile:
    """A policies file, read."""

    source: Path
    recipes: dict[str, Recipe]
    sweeps: dict[str, tuple[str, ...]]
    """Names that each sweep expands to."""
    mixtures: dict[str, dict[str, float]]


Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Weight = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _EndsTable(_Table):
    low: str
    high: str


class _MergeTable(_EndsTable):
    alpha: Number


class _CombinationTable(_Table):
    base: str | None = None
    weights: Annotated[dict[str, Number], Field(min_length=1)]


class _PolicyTable(_Table):
    checkpoint: Annotated[str, Field(min_length=1)] | None = None
    merge: dict[str, Any] | None = None
    """A `_MergeTable`, or with `weights` a `_CombinationTable`: read on its own, so that its faults are its form's."""
    url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    model: str | None = None
    api_key_env: str | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "_PolicyTable":
        kinds = [key for key in ("checkpoint", "merge", "url") if getattr(self, key) is not None]
        if len(kinds) != 1:
            given = " and ".join(kinds) or "none of them"
            raise ValueError(f"a policy is one of checkpoint, merge or url, and here is {given}; give exactly one")
        if (self.model is None) == (self.url is not None):
            raise ValueError("url and model go together: name the model that the URL serves, or leave out both")
        if self.api_key_env is not None and self.url is None:
            raise ValueError("api_key_env goes with a url: leave it out")
        return self


class _SweepTable(_Table):
    merge: _EndsTable
    alphas: Annotated[list[Number], Field(min_length=1)]


class _MixtureTable(_Table):
    weights: Annotated[dict[str, Weight], Field(min_length=1)]

    @model_validator(mode="after")
    def _some_weight(self) -> "_MixtureTable":
        if sum(self.weights.values()) <= 0:
            raise ValueError("all weights are 0: give at least one policy a weight above 0")
        return self


class _FileTable(_Table):
    policies: dict[str, _PolicyTable] = Field(default_factory=dict)
    sweeps: dict[str, _SweepTable] = Field(default_factory=dict)
    mixtures: dict[str, _MixtureTable] = Field(default_factory=dict)


def read_policies(path: Path) -> PoliciesFile:
    """Read a policies file. Relative folders are taken from the folder of the file.

    Raises:
        PolicyError: names the place and what to write there.
    """
    data = read_toml(path, PolicyError)
    table = validated(_FileTable, data, path, PolicyError)
    recipes: dict[str, Recipe] = {}
    sweeps: dict[str, tuple[str, ...]] = {}
    for kind in data:  # in the order of the file
        if kind == "policies":
            for name, policy in table.policies.items():
                _add(recipes, name, _recipe(name, policy, path), path)
        elif kind == "sweeps":
            for sweep, entry in table.sweeps.items():
                names = [f"{sweep}@{alpha_label(alpha)}" for alpha in entry.alphas]
                for name, alpha in zip(names, entry.alphas, strict=True):
                    _add(recipes, name, Merge(entry.merge.low, entry.merge.high, alpha + 0.0), path)
                sweeps[sweep] = tuple(names)
    mixtures = {name: mixture.weights for name, mixture in table.mixtures.items()}
    _check_names(path, recipes, sweeps, mixtures)
    _check_merges(path, recipes)
    return PoliciesFile(path, recipes, sweeps, mixtures)


def alpha_label(alpha: float) -> str:
    """Write α with a sign and two decimals, or more if it takes more to be exact: `+0.25`, `+1.375`."""
    for decimals in range(2, 18):
        label = f"{alpha + 0.0:+.{decimals}f}"  # + 0.0 makes -0.0 positive
        if float(label) == alpha:
            return label
    return f"{alpha:+}"


def combination(base: str | None, weights: Mapping[str, float], place: str) -> Combination:
    """Make a recipe from weights. Without a base they are coefficients, and the first policy serves as base.

    Raises:
        PolicyError: coefficients do not sum to 1, or nothing is left to merge.
    """
    if base is None:
        total = math.fsum(weights.values())
        if abs(total - 1) > _LARGEST_EXCESS:
            raise PolicyError(
                f"{place} has weights that sum to {total:g}: "
                "make it 1, or give a base for base + Σ weight·(input − base)."
            )
        base = next(iter(weights))
    others = {name: weight + 0.0 for name, weight in weights.items() if name != base}
    if not others:
        raise PolicyError(f"{place} merges {base!r} with nothing: give the weight of another checkpoint too.")
    return Combination(base, others)


_LARGEST_EXCESS = 1e-9
"""Of a sum that is meant to be 1: decimals such as 0.1 + 0.2 + 0.7 miss it a little."""


def _recipe(name: str, table: _PolicyTable, path: Path) -> Recipe:
    if table.merge is not None:
        place = f"[policies.{name}.merge] of {path}"
        if "weights" in table.merge:
            entry = validated(_CombinationTable, table.merge, place, PolicyError)
            return combination(entry.base, entry.weights, place)
        line = validated(_MergeTable, table.merge, place, PolicyError)
        return Merge(line.low, line.high, line.alpha + 0.0)
    if table.url is not None and table.model is not None:
        return Remote(table.url, table.model, table.api_key_env)
    assert table.checkpoint is not None
    return Checkpoint(source(table.checkpoint, path.parent))


def _add(recipes: dict[str, Recipe], name: str, recipe: Recipe, path: Path) -> None:
    if name in recipes:
        raise PolicyError(f"{path} defines the policy {name!r} twice: give each its own name.")
    recipes[name] = recipe


def _check_names(
    path: Path,
    recipes: dict[str, Recipe],
    sweeps: dict[str, tuple[str, ...]],
    mixtures: dict[str, dict[str, float]],
) -> None:
    if not recipes:
        raise PolicyError(f"{path} defines no policy: add a table such as [policies.NAME] with a checkpoint.")
    for name in [*recipes, *sweeps, *mixtures]:
        # Names become files, models of a server, and keys of `low=100,high=150`.
        if not re.fullmatch(r"\w[\w.+@-]*", name):
            raise PolicyError(f"{path} has the name {name!r}: use letters, digits and . _ - + @ only.")
    for one, other in (("policy", sweeps), ("policy", mixtures), ("sweep", mixtures)):
        for name in recipes if one == "policy" else sweeps:
            if name in other:
                kind = "mixture" if other is mixtures else "sweep"
                raise PolicyError(f"{path} has a {one} and a {kind} of the name {name!r}: rename one of them.")
    for mixture, weights in mixtures.items():
        for name in weights:
            if name not in recipes:
                known = nearest(name, list(recipes))
                raise PolicyError(f"mixture {mixture!r} of {path} names the unknown policy {name!r}: {known}")


def _check_merges(path: Path, recipes: dict[str, Recipe]) -> None:
    """Check that the ends of every merge are policies with weights, and that no merge rests on itself."""
    for name, recipe in recipes.items():
        if isinstance(recipe, Merge | Combination):
            for end in recipe.inputs.values():
                if end not in recipes:
                    known = nearest(end, list(recipes))
                    raise PolicyError(f"policy {name!r} of {path} merges the unknown policy {end!r}: {known}")
                if isinstance(recipes[end], Remote):
                    raise PolicyError(
                        f"policy {name!r} of {path} merges {end!r}, whose weights are behind a URL: "
                        "merge policies with checkpoints."
                    )
    for name in recipes:
        _check_acyclic(path, recipes, name, ())


def _check_acyclic(path: Path, recipes: dict[str, Recipe], name: str, above: tuple[str, ...]) -> None:
    if name in above:
        circle = " → ".join([*above[above.index(name) :], name])
        raise PolicyError(f"merges of {path} go in a circle ({circle}): let one of them start from a checkpoint.")
    recipe = recipes[name]
    if isinstance(recipe, Merge | Combination):
        for below in recipe.inputs.values():
            _check_acyclic(path, recipes, below, (*above, name))
