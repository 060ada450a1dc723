"""Reading and writing of policies files: TOML to recipes and back, with sweeps expanded. Nothing is opened or made.

The form of the file is a contract, see `docs/policies.md`. Errors are `PolicyError`, one line each.
"""

import os
import re
from collections.abc import Mapping, Set
from dataclasses import asdict
from graphlib import CycleError, TopologicalSorter
from itertools import chain, combinations
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.locate import source
from alphamix.policies.policy_file import schema as tables
from alphamix.policies.policy_file.recipes import (
    AdapterRecipe,
    Checkpoint,
    Combination,
    EngineChoice,
    Logits,
    Merge,
    PoliciesFile,
    Recipe,
    Remote,
    Trajectory,
    alpha_suffix,
    combination,
)
from alphamix.policies.policy_file.toml_errors import nearest, read_toml, validated
from alphamix.policies.types import PolicyError


def read_policies(path: Path) -> PoliciesFile:
    """Read a policies file. Relative folders are relative to the folder of the file.

    Raises:
        PolicyError: names the place and what to write there.
    """
    data = read_toml(path, PolicyError)
    table = validated(tables.FileTable, data, path, PolicyError)
    sweeps = {name: tuple(f"{name}@{alpha_suffix(a)}" for a in sweep.alphas) for name, sweep in table.sweeps.items()}
    known = {*table.policies, *chain.from_iterable(sweeps.values())}
    recipes: dict[str, Recipe] = {}
    for kind in data:  # in the order of the file
        if kind == "policies":
            for name, policy in table.policies.items():
                _add(recipes, name, _recipe(name, policy, path, known), path)
        elif kind == "sweeps":
            for sweep, entry in table.sweeps.items():
                for name, alpha in zip(sweeps[sweep], entry.alphas, strict=True):
                    _add(recipes, name, entry.recipe(alpha), path)
    mixtures = {name: mixture.weights for name, mixture in table.mixtures.items()}
    _check_names(path, recipes, sweeps, mixtures)
    _check_inputs(path, recipes)
    alphas = {name: policy.alpha + 0.0 for name, policy in table.policies.items() if policy.alpha is not None}
    return PoliciesFile(path, recipes, sweeps, mixtures, _engine(table.engine, path), alphas)


def write_policies(
    file: PoliciesFile, names: set[str], relative_to: Path, alphas: Mapping[str, float]
) -> dict[str, Any]:
    """Return some policies, and everything that they depend on, as a table that `read_policies` reads again.

    Sweeps are written out, folders relative to `relative_to`, hub ids as they are, keys as names of variables.
    Mixtures are left out. `alphas` are those of policies that are not made on a line: what gives them their α may be
    left out.
    """
    waiting, needed = list(names), set(names)
    while waiting:
        new = set(file.recipes[waiting.pop()].inputs.values()) - needed
        needed |= new
        waiting += new
    table: dict[str, Any] = {} if file.engine == EngineChoice() else {"engine": _engine_table(file.engine, relative_to)}
    kept = {name: recipe for name, recipe in file.recipes.items() if name in needed}
    return table | {
        "policies": {name: _policy_table(recipe, relative_to) | _alpha(name, alphas) for name, recipe in kept.items()}
    }


def _alpha(name: str, alphas: Mapping[str, float]) -> dict[str, float]:
    return {"alpha": alphas[name]} if name in alphas else {}


def _recipe(name: str, table: tables.PolicyTable, path: Path, known: Set[str]) -> Recipe:
    if table.merge is not None:
        place = f"[policies.{name}.merge] of {path}"
        if "weights" in table.merge:
            entry = validated(tables.CombinationTable, table.merge, place, PolicyError)
            return combination(entry.base, entry.weights, place)
        line = validated(tables.LineTable, table.merge, place, PolicyError)
        return Merge(line.low, line.high, line.alpha + 0.0)
    if table.trajectory is not None:
        return _trajectory(table.trajectory, path, known)
    if table.adapter is not None and table.base is not None:
        return AdapterRecipe(source(table.adapter, path.parent), table.base)
    if table.logits is not None:
        return Logits(table.logits.low, table.logits.high, table.logits.alpha + 0.0)
    if table.url is not None and table.model is not None:
        url = table.url if isinstance(table.url, str) else tuple(table.url)
        return Remote(url, table.model, table.api_key_env, table.headers, table.headers_env)
    assert table.checkpoint is not None
    return Checkpoint(source(table.checkpoint, path.parent))


def _trajectory(table: tables.TrajectoryTable, path: Path, known: Set[str]) -> Trajectory:
    run = {
        step: text if text in known else Checkpoint(source(text, path.parent))
        for step, text in sorted(table.checkpoints.items())
    }
    return Trajectory(run, table.step, table.method, table.norms)


def _engine(table: tables.EngineTable, path: Path) -> EngineChoice:
    interpreter: Path | str | None = table.interpreter
    if interpreter is not None and "/" in interpreter:
        # Not resolved: the python of a virtual environment is a link, and finds its packages by its own place.
        interpreter = path.parent.resolve() / Path(interpreter).expanduser()
    return EngineChoice(table.name, table.serve, interpreter, tuple(table.arguments), table.dtype)


def _add(recipes: dict[str, Recipe], name: str, recipe: Recipe, path: Path) -> None:
    if name in recipes:
        raise PolicyError(f"{path} defines the policy {name!r} twice: give each its own name.")
    recipes[name] = recipe


def _check_names(
    path: Path, recipes: dict[str, Recipe], sweeps: dict[str, tuple[str, ...]], mixtures: dict[str, dict[str, float]]
) -> None:
    if not recipes:
        raise PolicyError(f"{path} defines no policy: add a table such as [policies.NAME] with a checkpoint.")
    for name in [*recipes, *sweeps, *mixtures]:
        # Names become files, models of a server, and keys of `low=100,high=150`.
        if not re.fullmatch(r"\w[\w.+@-]*", name):
            raise PolicyError(f"{path} has the name {name!r}: use letters, digits and . _ - + @ only.")
    kinds = {"policy": recipes, "sweep": sweeps, "mixture": mixtures}
    for first, second in combinations(kinds, 2):
        for name in kinds[first].keys() & kinds[second].keys():
            raise PolicyError(f"{path} has a {first} and a {second} of the name {name!r}: rename one of them.")
    for mixture, weights in mixtures.items():
        for name in weights:
            if name not in recipes:
                known = nearest(name, list(recipes))
                raise PolicyError(f"mixture {mixture!r} of {path} names the unknown policy {name!r}: {known}")


def _check_inputs(path: Path, recipes: dict[str, Recipe]) -> None:
    """Check that policies are made only from policies with weights, and that no policy is made from itself."""
    reasons: dict[type, str] = {Remote: "whose weights are behind a URL", Logits: "which mixes logits"}
    for name, recipe in recipes.items():
        for part, below in recipe.inputs.items():
            place = f"policy {name!r} of {path} is made from"
            if below not in recipes:
                known = nearest(below, list(recipes))
                raise PolicyError(f"{place} the unknown policy {below!r} ({part}): {known}")
            reason = reasons.get(type(recipes[below]))
            if reason is not None:
                raise PolicyError(f"{place} {below!r} ({part}), {reason}: name a policy with weights here.")
    try:
        TopologicalSorter({name: recipe.inputs.values() for name, recipe in recipes.items()}).prepare()
    except CycleError as error:
        circle = " → ".join(reversed(error.args[1]))
        raise PolicyError(
            f"policies of {path} are made from each other ({circle}): start one of them from a checkpoint."
        ) from None


def _policy_table(recipe: Recipe, relative_to: Path) -> dict[str, Any]:
    match recipe:
        case Checkpoint():
            return {"checkpoint": _written(recipe.source, relative_to)}
        case Merge():
            return {"merge": asdict(recipe)}
        case Combination():
            return {"merge": {"base": recipe.base, "weights": recipe.weight_of_input}}
        case Trajectory():
            run = {
                str(step): entry if isinstance(entry, str) else _written(entry.source, relative_to)
                for step, entry in recipe.checkpoints.items()
            }
            options = {"step": recipe.step, "method": recipe.method, "norms": recipe.norms}
            return {"trajectory": {"checkpoints": run} | options}
        case AdapterRecipe():
            return {"adapter": _written(recipe.source, relative_to), "base": recipe.base}
        case Logits():
            return {"logits": asdict(recipe)}
        case Remote():
            given = {key: value for key, value in asdict(recipe).items() if value is not None}
            return given | ({} if isinstance(recipe.url, str) else {"url": list(recipe.url)})


def _engine_table(engine: EngineChoice, relative_to: Path) -> dict[str, Any]:
    if engine.name == "transformers":
        return {"name": engine.name, "dtype": engine.dtype}
    table: dict[str, Any] = {"name": engine.name, "serve": engine.serve, "arguments": list(engine.arguments)}
    if engine.interpreter is not None:
        table["interpreter"] = _written(engine.interpreter, relative_to)
    return table


def _written(place: Path | str, relative_to: Path) -> str:
    """Write a path so that it cannot be taken for a name or a hub id, which stay as they are."""
    if isinstance(place, str):
        return place
    relative = os.path.relpath(place, relative_to.resolve())
    return relative if relative.startswith("..") else f"./{relative}"
