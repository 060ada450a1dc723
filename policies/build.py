"""Building policies from recipes: fingerprints, checks that write nothing, and folders of weights made on demand.

Folders are named by their fingerprint in `$ALPHAMIX_CACHE` or `~/.cache/alphamix`: checkpoints under `merges`, merged
adapters under `adapters`. Each is made once, and appears whole or not at all.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

from alphamix.policies.checkpoints import safetensors_folder as weights
from alphamix.policies.checkpoints.cache import cache_folder
from alphamix.policies.checkpoints.locate import ADAPTER_FILES, locate
from alphamix.policies.checkpoints.target_folder import check_room
from alphamix.policies.checkpoints.tied_weights import check_tied
from alphamix.policies.lora import fold_into_base as fold
from alphamix.policies.lora import merge_adapters as adapter_merge
from alphamix.policies.lora import peft_folder as adapters
from alphamix.policies.merging import provenance
from alphamix.policies.merging.affine_form import adapter_base, adapter_shares, coefficients
from alphamix.policies.merging.compatibility import check_mergeable, check_mixable
from alphamix.policies.merging.merge import combine
from alphamix.policies.merging.trajectory import extrapolate
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


class CheckpointBuilder:
    """Builder of the policies of one file, whose names must all be known there."""

    def __init__(self, recipes: Mapping[str, Recipe]) -> None:
        self._recipes = recipes
        self._fingerprints: dict[str, str] = {}

    def fingerprint(self, name: str) -> str:
        """Return the SHA-256 of what is sampled: contents of files, recipes, URL and model, but never paths."""
        if name not in self._fingerprints:
            self._fingerprints[name] = self._fingerprint(name)
        return self._fingerprints[name]

    def model(self, name: str) -> object:
        """Return what a policy computes with, equal for policies that are the same model: the contents of checkpoints
        with their coefficients, or else the fingerprint of its recipe."""
        recipe = self._recipes[name]
        if isinstance(recipe, Logits) and recipe.alpha in (0, 1):
            return self.model(recipe.high if recipe.alpha else recipe.low)
        shares = coefficients(self._recipes, name)
        if shares is None:
            return self.fingerprint(name)
        total: defaultdict[str, Fraction] = defaultdict(Fraction)
        for source, share in shares.items():
            total[weights.fingerprint(self._entry(name, Checkpoint(source)))] += share
        return frozenset((contents, float(share)) for contents, share in total.items() if share)

    def check(self, names: Sequence[str]) -> None:
        """Check policies with weights, and everything that they depend on, without writing anything.

        Raises:
            PolicyError: a folder is missing or is not a checkpoint, or parts do not match.
        """
        checked: dict[object, Path] = {}
        for name in names:
            self._check(name, checked)

    def check_servable(self, name: str) -> None:
        """Check that an adapter holds low-rank factors only, which is all that servers apply.

        Raises:
            PolicyError: it holds whole tensors as well.
        """
        for leaf in adapter_shares(self._recipes, name):
            saved = adapters.read_adapter(self.adapter(leaf)).saved
            if saved:
                raise PolicyError(
                    f"policy {leaf!r} has whole tensors in its adapter (modules_to_save), first {next(iter(saved))!r}: "
                    'write serve = "servers", or train it without them.'
                )

    def folder(self, name: str, along: Sequence[str] = ()) -> Path:
        """Return the folder of a policy's checkpoint, which is made or fetched if need be.

        Merges among `along` that have the same inputs are made in the same pass.

        Raises:
            PolicyError: the checkpoint is unavailable or cannot be made, or the policy has no weights of its own here.
        """
        recipe = self._recipes[name]
        if isinstance(recipe, Remote):
            raise PolicyError(f"policy {name!r} is served at {recipe.url}: only policies with weights have a folder.")
        if isinstance(recipe, Logits):
            raise PolicyError(
                f"policy {name!r} mixes logits of two policies: only policies with weights have a folder."
            )
        if isinstance(recipe, Checkpoint):
            folder = self._entry(name, recipe)
            with _about(name):
                weights.describe(folder)  # refuses what engines would read in different ways
            return folder
        made = self._made(name)
        if not made.is_dir():
            self._make(name, recipe, made, along)
        return made

    def adapter(self, name: str, along: Sequence[str] = ()) -> Path:
        """Return the folder of the adapter that a policy is on its base (see `adapter_base`), made or fetched if need
        be.

        Raises:
            PolicyError: the adapter is unavailable, or the adapters that it merges have different bases.
        """
        recipe = self._recipes[name]
        if isinstance(recipe, AdapterRecipe):
            with _about(name):
                return locate(recipe.source, ADAPTER_FILES)
        made = self._made_adapter(name)
        if not made.is_dir():
            shares = adapter_shares(self._recipes, name)
            folders = {_floats(shares): made}
            for other in along:
                if adapter_base(self._recipes, other) is not None:
                    of_other = adapter_shares(self._recipes, other)
                    if list(of_other) == list(shares) and not isinstance(self._recipes[other], AdapterRecipe):
                        folders.setdefault(_floats(of_other), self._made_adapter(other))
            inputs = {leaf: self.adapter(leaf) for leaf in shares}
            with _about(name):
                adapter_merge.combine_adapters(inputs, folders)
        return made

    def _check(self, name: str, checked: dict[object, Path]) -> Path:
        """Check one policy, unless another policy with the same ends has been checked.

        Returns:
            A checkpoint with its tensors, config and tokenizer. A merge has those of its base, so that merges of
            merges can be checked before any is made.
        """
        recipe = self._recipes[name]
        is_line = isinstance(recipe, Merge | Combination | Logits) and adapter_base(self._recipes, name) is None
        key: object = (type(recipe), tuple(recipe.inputs.items())) if is_line else name
        if key not in checked:
            checked[key] = self._check_parts(name, recipe, checked)
        return checked[key]

    def _check_parts(self, name: str, recipe: Recipe, checked: dict[object, Path]) -> Path:
        if isinstance(recipe, Checkpoint):
            return self._check_checkpoint(name, recipe)
        if isinstance(recipe, Trajectory):  # the last checkpoint first: it gives config and tokenizer
            ends = {
                f"step {s}": self._check(entry, checked)
                if isinstance(entry, str)
                else self._check_checkpoint(name, entry)
                for s, entry in reversed(recipe.checkpoints.items())
            }
        else:
            ends = {part: self._check(below, checked) for part, below in recipe.inputs.items()}
        base = next(iter(ends.values()))
        if isinstance(recipe, Logits):
            with _about(name):
                check_mixable(ends["low"], ends["high"])
        elif isinstance(recipe, AdapterRecipe):
            folder = self.adapter(name)
            with _about(name):
                fold.changes_of(base, adapters.read_adapter(folder))
        elif adapter_base(self._recipes, name) is not None:
            shares = adapter_shares(self._recipes, name)
            folders = {leaf: self.adapter(leaf) for leaf in shares}
            with _about(name):
                terms = {leaf: adapters.read_adapter(folder) for leaf, folder in folders.items()}
                adapter_merge.check_combinable(terms, _floats(shares))
        else:
            with _about(name):
                check_mergeable(ends)
        return base

    def _make(
        self, name: str, recipe: Merge | Combination | Trajectory | AdapterRecipe, made: Path, along: Sequence[str]
    ) -> None:
        base = adapter_base(self._recipes, name)
        if base is not None:
            folder, adapter = self.folder(base), self.adapter(name, along)
            with _about(name):
                check_room(made, weights.size(folder))
                fold.fold_adapter(folder, adapter, made)
        elif isinstance(recipe, Trajectory):
            run = {step: self._entry(name, entry) for step, entry in recipe.checkpoints.items()}
            with _about(name):
                check_room(made, weights.size(run[max(run)]))
                extrapolate(run, recipe.step, made, method=recipe.method, norms=recipe.norms == "extrapolate")
        elif isinstance(recipe, Merge | Combination):
            inputs = {part: self.folder(below) for part, below in recipe.inputs.items()}
            folders = {recipe.weights: made}
            for other in along:
                sibling = self._recipes[other]
                if isinstance(sibling, Merge | Combination) and sibling.inputs == recipe.inputs:
                    folders.setdefault(sibling.weights, self._made(other))
            with _about(name):
                num_new = sum(not folder.is_dir() for folder in folders.values())
                check_room(made, num_new * weights.size(next(iter(inputs.values()))))
                combine(inputs, folders)

    def _made(self, name: str) -> Path:
        return cache_folder() / "merges" / self.fingerprint(name)

    def _made_adapter(self, name: str) -> Path:
        return cache_folder() / "adapters" / self._adapter_fingerprint(name)

    def _entry(self, name: str, entry: str | Checkpoint) -> Path:
        """Return the folder of a checkpoint that a recipe names, or of a policy."""
        if isinstance(entry, str):
            return self.folder(entry)
        with _about(name):
            return locate(entry.source)

    def _check_checkpoint(self, name: str, checkpoint: Checkpoint) -> Path:
        folder = self._entry(name, checkpoint)
        with _about(name):
            check_tied(folder, weights.describe(folder))
            if not weights.tokenizer_files(folder):
                raise PolicyError(f"{folder} has no tokenizer: save it there with tokenizer.save_pretrained.")
        return folder

    def _fingerprint(self, name: str) -> str:
        recipe = self._recipes[name]
        if isinstance(recipe, Checkpoint):
            return weights.fingerprint(self._entry(name, recipe))
        if isinstance(recipe, Remote):
            url = recipe.url if isinstance(recipe.url, str) else sorted(recipe.url)
            return _sha256({"url": url, "model": recipe.model})
        base = adapter_base(self._recipes, name)
        if base is not None:
            adapter = self._adapter_fingerprint(name)
            return _sha256({"formula": fold.FORMULA, "adapter": adapter, "base": self.fingerprint(base)})
        if isinstance(recipe, Trajectory):
            run = {f"step {step}": self._entry_fingerprint(name, entry) for step, entry in recipe.checkpoints.items()}
            options = {"step": float(recipe.step).hex(), "method": recipe.method, "norms": recipe.norms}
            return _sha256({"formula": "trajectory", **options, **run})
        inputs = {part: self.fingerprint(below) for part, below in recipe.inputs.items()}
        if isinstance(recipe, Combination):
            base_of_all, *terms = inputs.values()
            text = ", ".join(f"{w.hex()} {term}" for w, term in zip(recipe.weights, terms, strict=True))
            return _sha256({"formula": provenance.FORMULA_OF_MANY, "base": base_of_all, "terms": text})
        assert isinstance(recipe, Merge | Logits)
        formula = provenance.FORMULA if isinstance(recipe, Merge) else "logits of low + alpha * (high - low)"
        return _sha256({"formula": formula, "alpha": recipe.alpha.hex(), **inputs})

    def _entry_fingerprint(self, name: str, entry: str | Checkpoint) -> str:
        return self.fingerprint(entry) if isinstance(entry, str) else weights.fingerprint(self._entry(name, entry))

    def _adapter_fingerprint(self, name: str) -> str:
        if not isinstance(self._recipes[name], AdapterRecipe):
            shares = adapter_shares(self._recipes, name)
            terms = [f"{float(share).hex()} {self._adapter_fingerprint(leaf)}" for leaf, share in shares.items()]
            return _sha256({"formula": adapter_merge.FORMULA, "terms": ", ".join(terms)})
        folder = self.adapter(name)
        with _about(name):
            return adapters.fingerprint(folder)


@contextmanager
def _about(name: str) -> Generator[None]:
    """Name the policy in an error about its files."""
    try:
        yield
    except PolicyError as error:
        raise type(error)(f"policy {name!r}: {error}") from error


def _floats(shares: Mapping[str, Fraction]) -> tuple[float, ...]:
    return tuple(map(float, shares.values()))


def _sha256(content: Mapping[str, str | list[str]]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
