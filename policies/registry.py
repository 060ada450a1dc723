"""The policies of an experiment: by name, checked, their weights made when needed, opened on an engine.

What the file says is read by `recipes`. A merge is made once and kept in a cache by content,
`$ALPHAMIX_CACHE` or `~/.cache/alphamix`; it is written beside its place and renamed, so a killed merge leaves
nothing that looks finished.
"""

import hashlib
import json
import os
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policies import weights
from policies.cache import cache_folder
from policies.config import nearest
from policies.engines import EngineOptions, load_engine
from policies.merge import combine
from policies.mergeable import check_mergeable
from policies.provenance import FORMULA, FORMULA_OF_MANY
from policies.recipes import Checkpoint, Combination, Merge, PoliciesFile, Recipe, Remote, read_policies
from policies.sources import locate
from policies.types import Engine, PolicyError


class Registry:
    """Policies that can be listed, checked and opened. A merge may rest on others that are not listed."""

    def __init__(self, file: PoliciesFile, names: Sequence[str]) -> None:
        self.names = tuple(names)
        """In the order of the file, sweeps expanded in place."""
        self.mixtures = {
            mixture: dict(shares) for mixture, shares in file.mixtures.items() if shares.keys() <= set(names)
        }
        """Weights by policy; only mixtures all of whose policies are listed."""
        self._file = file
        self._recipes = file.recipes
        self._fingerprints: dict[Path, str] = {}

    @classmethod
    def load(cls, path: Path) -> "Registry":
        """Read a policies file.

        Raises:
            PolicyError: names the place and what to write there.
        """
        file = read_policies(path)
        return cls(file, list(file.recipes))

    def select(self, names: Sequence[str] | None) -> "Registry":
        """Keep some policies, in the order of the file; a sweep's name stands for all its members, None for
        all.

        Raises:
            PolicyError: a name is unknown, or nothing is left.
        """
        if names is None:
            return self
        chosen: set[str] = set()
        for name in names:
            if name not in self._file.sweeps:
                self._recipe(name)
            chosen.update(self._file.sweeps.get(name, (name,)))
        if not chosen:
            raise PolicyError(f"no policy of {self._file.source} is selected: name some of {', '.join(self.names)}.")
        return Registry(self._file, [name for name in self.names if name in chosen])

    def alpha(self, name: str) -> float | None:
        """α of a merge; 0 or 1 for a policy that is an end of merges, always the same one; else None."""
        recipe = self._recipe(name)
        if isinstance(recipe, Merge):
            return recipe.alpha
        merges = [other for other in self._recipes.values() if isinstance(other, Merge)]
        ends = {0.0 for other in merges if other.low == name} | {1.0 for other in merges if other.high == name}
        return ends.pop() if len(ends) == 1 else None

    def check(self) -> None:
        """Check all that can be known without sampling. Writes nothing but downloads from the hub.

        Raises:
            PolicyError: a folder is missing or no checkpoint, a merge's ends do not match, a key's variable
                is unset.
        """
        for name in self.names:
            recipe = self._recipe(name)
            if isinstance(recipe, Remote):
                _api_key(name, recipe)
            else:
                self._representative(name)

    def materialise(self, name: str) -> Path:
        """Folder of a policy's checkpoint, made or fetched if need be.

        All listed merges of the same policies are made along, in one pass over their weights.

        Raises:
            PolicyError: the checkpoint cannot be had, the merge cannot be made, or the policy has no weights
                here.
        """
        recipe = self._recipe(name)
        if isinstance(recipe, Remote):
            raise PolicyError(f"policy {name!r} is served at {recipe.url}: only policies with weights have a folder.")
        if isinstance(recipe, Checkpoint):
            return _folder(name, recipe)
        if not self._cached(name).is_dir():
            folders = {recipe.weights: self._cached(name)}
            for other in self.names:
                sibling = self._recipes[other]
                if isinstance(sibling, Merge | Combination) and sibling.inputs == recipe.inputs:
                    folders[sibling.weights] = self._cached(other)
            combine({part: self.materialise(end) for part, end in recipe.inputs.items()}, folders)
        return self._cached(name)

    def fingerprint(self, name: str) -> str:
        """Sha256 of what is sampled: files of a checkpoint, recipe and inputs of a merge, URL and model."""
        recipe = self._recipe(name)
        if isinstance(recipe, Remote):
            return _sha256({"url": recipe.url, "model": recipe.model})
        if isinstance(recipe, Merge):
            inputs = {"low": self.fingerprint(recipe.low), "high": self.fingerprint(recipe.high)}
            return _sha256({"formula": FORMULA, "alpha": recipe.alpha.hex(), **inputs})
        if isinstance(recipe, Combination):
            terms = [f"{w.hex()} {self.fingerprint(n)}" for n, w in recipe.weight_of_input.items()]
            return _sha256(
                {"formula": FORMULA_OF_MANY, "base": self.fingerprint(recipe.base), "terms": ", ".join(terms)}
            )
        folder = _folder(name, recipe)
        if folder not in self._fingerprints:
            self._fingerprints[folder] = weights.fingerprint(folder)
        return self._fingerprints[folder]

    def open(self, name: str, options: EngineOptions) -> Engine:
        """Open a policy on its engine: a URL through `openai`, weights through `transformers`.

        Raises:
            PolicyError: the weights cannot be had or loaded, an optional package or a key is missing.
        """
        recipe = self._recipe(name)
        if isinstance(recipe, Remote):
            return load_engine("openai")(recipe.url, recipe.model, _api_key(name, recipe), options)
        return load_engine("transformers").from_checkpoint(self.materialise(name), options)

    def to_toml(self, relative_to: Path) -> dict[str, Any]:
        """Write the listed policies, and those that their merges need, as a table that `load` reads again.

        Sweeps are written out, folders relative to `relative_to`, hub ids as they are, keys as names of
        variables.
        """
        needed: set[str] = set()
        waiting = list(self.names)
        while waiting:
            name = waiting.pop()
            needed.add(name)
            recipe = self._recipes[name]
            if isinstance(recipe, Merge | Combination):
                waiting += recipe.inputs.values()
        policies = {name: _table(r, relative_to) for name, r in self._recipes.items() if name in needed}
        table: dict[str, Any] = {"policies": policies}
        if self.mixtures:
            table["mixtures"] = {name: {"weights": shares} for name, shares in self.mixtures.items()}
        return table

    def _recipe(self, name: str) -> Recipe:
        if name not in self._recipes:
            known = nearest(name, [*self._recipes, *self._file.sweeps])
            raise PolicyError(f"unknown policy {name!r} for {self._file.source}: {known}")
        return self._recipes[name]

    def _cached(self, name: str) -> Path:
        return cache_folder() / "merges" / self.fingerprint(name)

    def _representative(self, name: str) -> Path:
        """Check a policy and all that it rests on; return a checkpoint with its tensors, config and
        tokenizer.

        A merge has those of its base, so that merges of merges can be checked before any is made.
        """
        recipe = self._recipe(name)
        if isinstance(recipe, Merge | Combination):
            ends = {part: self._representative(end) for part, end in recipe.inputs.items()}
            with _about(name):
                check_mergeable(ends)
            return next(iter(ends.values()))
        assert isinstance(recipe, Checkpoint)  # the recipes of merges were checked on reading
        folder = _folder(name, recipe)
        with _about(name):
            weights.describe(folder)
            if not weights.has_tokenizer(folder):
                raise PolicyError(f"{folder} has no tokenizer: save it there with tokenizer.save_pretrained.")
        return folder


@contextmanager
def _about(name: str) -> Generator[None]:
    """Name the policy in an error about its files."""
    try:
        yield
    except PolicyError as error:
        raise PolicyError(f"policy {name!r}: {error}") from error


def _folder(name: str, recipe: Checkpoint) -> Path:
    with _about(name):
        return locate(recipe.source)


def _api_key(name: str, recipe: Remote) -> str | None:
    if recipe.api_key_env is None:
        return None
    key = os.environ.get(recipe.api_key_env)
    if not key:
        raise PolicyError(
            f"policy {name!r} needs a key for {recipe.url}, but the variable {recipe.api_key_env} is unset: "
            f"export {recipe.api_key_env}=… first."
        )
    return key


def _table(recipe: Recipe, relative_to: Path) -> dict[str, Any]:
    if isinstance(recipe, Merge):
        return {"merge": asdict(recipe)}
    if isinstance(recipe, Combination):
        return {"merge": {"base": recipe.base, "weights": recipe.weight_of_input}}
    if isinstance(recipe, Checkpoint):
        if isinstance(recipe.source, Path):
            return {"checkpoint": os.path.relpath(recipe.source, relative_to.resolve())}
        return {"checkpoint": recipe.source}
    return {key: value for key, value in asdict(recipe).items() if value is not None}


def _sha256(content: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
