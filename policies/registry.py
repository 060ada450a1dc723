"""The policies of an experiment: by name, checked, their weights made when needed, opened on an engine.

`policy_file` reads the file, `build` makes weights, and `merging.affine_form` says what one server can run of a family.
This module joins them under the names of the policies.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from alphamix.environment import read_secret
from alphamix.policies.build import CheckpointBuilder
from alphamix.policies.checkpoints.locate import locate
from alphamix.policies.engines.load import load_engine
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.merging.affine_form import (
    AdaptedForm,
    AffineForm,
    LogitPair,
    PolicyForm,
    WholeForm,
    adapter_base,
    check_serving,
    coefficients,
    inputs_of_switch,
)
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.policy_file.recipes import (
    Checkpoint,
    EngineChoice,
    LineRecipe,
    Logits,
    Merge,
    PoliciesFile,
    Recipe,
    Remote,
    alpha_suffix,
)
from alphamix.policies.policy_file.toml import read_policies, write_policies
from alphamix.policies.policy_file.toml_errors import nearest
from alphamix.policies.types import Engine, PolicyError


class Registry:
    """Policies that can be listed, checked and opened. They may depend on others that are not listed.

    A registry is a context manager. Its owner closes it.
    """

    def __init__(self, file: PoliciesFile, names: Sequence[str]) -> None:
        self.names = tuple(names)
        """Names in the order of the file, with sweeps expanded in place."""
        self.mixtures = {
            mixture: dict(shares) for mixture, shares in file.mixtures.items() if shares.keys() <= set(names)
        }
        """Weights by policy, for the mixtures whose policies are all listed."""
        self._file = file
        self._recipes = file.recipes
        self._materialiser = CheckpointBuilder(file.recipes)
        self._family: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @classmethod
    def load(cls, path: Path) -> "Registry":
        """Read a policies file.

        Raises:
            PolicyError: names the place and what to write there.
        """
        file = read_policies(path)
        return cls(file, list(file.recipes))

    def select(self, names: Sequence[str] | None) -> "Registry":
        """Return a registry of some policies, in the order of the file. The name of a sweep stands for all its members,
        and None for all policies.

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
        """Return the α of a merge of weights or logits, 0 or 1 for an end of such a line, or what the file says; None
        for any other policy."""
        recipe = self._recipe(name)
        if name in self._file.alphas:
            return self._file.alphas[name]
        if isinstance(recipe, LineRecipe):
            return recipe.alpha
        lines = [other for other in self._recipes.values() if isinstance(other, LineRecipe)]
        ends = {0.0 for other in lines if other.low == name} | {1.0 for other in lines if other.high == name}
        return ends.pop() if len(ends) == 1 else None

    @property
    def open_sweeps(self) -> dict[str, tuple[float, ...]]:
        """Return the sweeps that `at` can extend, with the α of their listed members, none of which needs a server of
        its own."""
        listed = {sweep: [name for name in names if name in self.names] for sweep, names in self._file.sweeps.items()}
        return {
            sweep: tuple(recipe.alpha for name in names if isinstance(recipe := self._recipes[name], LineRecipe))
            for sweep, names in listed.items()
            if names and not self.needs_server(names[0])
        }

    def at(self, sweep: str, alpha: float) -> str:
        """Return the name of the member of a sweep at any α. It can be opened from now on, but is not listed.

        Raises:
            PolicyError: there is no such sweep, or each of its members needs a server of its own.
        """
        if sweep not in self.open_sweeps:
            open_now = ", ".join(self.open_sweeps) or "none of this file"
            raise PolicyError(f"no member can be added to the sweep {sweep!r}: add one to {open_now}.")
        name = f"{sweep}@{alpha_suffix(alpha)}"
        line = self._recipes[self._file.sweeps[sweep][0]]
        assert isinstance(line, Merge | Logits)
        self._recipes.setdefault(name, replace(line, alpha=alpha + 0.0))
        return name

    def needs_server(self, name: str) -> bool:
        """Return whether a policy needs a server of its own."""
        is_pair = isinstance(self._recipe(name), Logits)
        return self.engine.name == "vllm" and self.engine.serve == "servers" and not is_pair

    @property
    def is_switched(self) -> bool:
        """Whether one server is switched between all policies with weights here."""
        return self.engine.serve == "switch"

    def is_made(self, name: str) -> bool:
        """Return whether a checkpoint is written to disk before a policy is run."""
        is_whole = self.engine.name == "transformers" or self.needs_server(name)
        return is_whole and not isinstance(self._recipe(name), Checkpoint | Logits | Remote)

    @property
    def names_of_file(self) -> frozenset[str]:
        """Names of all policies and mixtures of the file, listed or not."""
        return frozenset((*self._recipes, *self._file.mixtures))

    @property
    def source(self) -> Path:
        """Path of the policies file."""
        return self._file.source

    @property
    def engine(self) -> EngineChoice:
        """Engine of the policies that have weights here."""
        return self._file.engine

    def check(self) -> None:
        """Check everything that can be known without sampling. Only downloads from the hub are written.

        Raises:
            PolicyError: a folder is missing or is not a checkpoint, parts of a policy do not match, they cannot be
                served the way that the file asks for, or a key's variable is unset.
        """
        self._materialiser.check([name for name in self.names if not isinstance(self._recipes[name], Remote)])
        for name in self.names:
            recipe = self._recipes[name]
            if isinstance(recipe, Remote):
                Credentials.of(name, recipe)
        self._check_serving()

    def materialise(self, name: str) -> Path:
        """Return the folder of a policy's checkpoint, made or fetched if need be. An adapter is folded into its base.

        All listed merges of the same policies are made as well, in the same pass over their weights.

        Raises:
            PolicyError: the checkpoint is unavailable or cannot be made, or the policy has no weights of its own here.
        """
        self._recipe(name)
        return self._materialiser.folder(name, self.names)

    def fingerprint(self, name: str) -> str:
        """Return the SHA-256 of what is sampled: contents of files, recipe and its inputs, URL and model, but never
        paths."""
        self._recipe(name)
        return self._materialiser.fingerprint(name)

    def twins(self) -> dict[str, str]:
        """Return the listed policies that are the same model as one before them, with its name: the same contents of
        weights, in whatever folders, or the same URL and model. Policies that are not there are passed over."""
        firsts: dict[object, str] = {}
        twins: dict[str, str] = {}
        for name in self.names:
            with suppress(PolicyError):
                first = firsts.setdefault(self._materialiser.model(name), name)
                if first != name:
                    twins[name] = first
        return twins

    def is_remote(self, name: str) -> bool:
        """Return whether a policy is a model behind a URL, whose weights are not here."""
        return self.remote(name) is not None

    def remote(self, name: str) -> Remote | None:
        """Return the recipe of a policy behind a URL, or None if its weights are here."""
        recipe = self._recipe(name)
        return recipe if isinstance(recipe, Remote) else None

    def family(self) -> dict[str, PolicyForm]:
        """Return what each listed policy with weights is made of, by name: an `AffineForm` wherever possible.

        All folders that they name exist afterwards: checkpoints are fetched, adapters are merged, and the checkpoint of
        a `WholeForm` and those of a `LogitPair` are made. A merge that is an `AffineForm` is not.

        Raises:
            PolicyError: as for `materialise`.
        """
        return {name: self._member(name) for name in self.names if not isinstance(self._recipes[name], Remote)}

    def open(self, name: str, options: EngineOptions) -> Engine:
        """Open a policy on its engine: a URL through `openai`, weights through the engine that the file's `[engine]`
        names.

        Servers of vLLM are shared by policies as `[engine]` says; the options of the first that is opened hold for all.

        Raises:
            PolicyError: the weights are unavailable or cannot be loaded, an optional package or a key is missing.
        """
        recipe = self._recipe(name)
        if isinstance(recipe, Remote):
            key, headers = Credentials.of(name, recipe)
            return load_engine("openai")(recipe.url, recipe.model, key, options, headers=headers)
        if self.engine.name == "vllm":
            if self._family is None:
                make_family = load_engine("vllm")
                self._family = make_family(self.engine, self.family(), self.materialise, options)
            if name not in self._family.names:  # at an α that is not listed
                self._family.join(name, self._member(name))
            return self._family.open(name)
        engine, options = load_engine("transformers"), replace(options, dtype=self.engine.dtype)
        if isinstance(recipe, Logits):
            low, high = self.materialise(recipe.low), self.materialise(recipe.high)
            return engine.from_checkpoints(low, high, recipe.alpha, options)
        return engine.from_checkpoint(self.materialise(name), options)

    def close(self) -> None:
        """Close the servers that policies share. Safe to call twice."""
        if self._family is not None:
            self._family.close()
            self._family = None

    def to_toml(self, relative_to: Path) -> dict[str, Any]:
        """Return the listed policies, and those that they depend on, as a table that `load` reads again.

        Sweeps are written out, folders relative to `relative_to`, hub ids as they are, keys as names of
        variables.
        """
        table = write_policies(self._file, set(self.names), relative_to, self._alphas_of_lost_lines())
        if self.mixtures:
            table["mixtures"] = {name: {"weights": shares} for name, shares in self.mixtures.items()}
        return table

    def _alphas_of_lost_lines(self) -> dict[str, float]:
        """Return α of listed policies that no listed line gives."""
        lines = [recipe for name in self.names if isinstance(recipe := self._recipes[name], LineRecipe)]
        given = {end for line in lines for end in (line.low, line.high)}
        alphas = {name: self.alpha(name) for name in self.names if not isinstance(self._recipes[name], LineRecipe)}
        return {name: alpha for name, alpha in alphas.items() if alpha is not None and name not in given}

    def _recipe(self, name: str) -> Recipe:
        if name not in self._recipes:
            if name in self._file.sweeps:
                member = self._file.sweeps[name][0]
                raise PolicyError(f"{name!r} of {self._file.source} is a sweep: name a member, such as {member}.")
            known = nearest(name, [*self._recipes, *self._file.sweeps])
            raise PolicyError(f"unknown policy {name!r} for {self._file.source}: {known}")
        return self._recipes[name]

    def _check_serving(self) -> None:
        """Check that all listed policies belong to one family, where one server is to run them."""
        serve = self.engine.serve
        try:
            check_serving(serve, self._recipes, self.names)
            if serve == "switch":
                inputs = list(inputs_of_switch(self._recipes, self.names).items())
                for source, user in inputs[1:]:
                    check_mergeable({f"of {inputs[0][1]!r}": locate(inputs[0][0]), f"of {user!r}": locate(source)})
            elif serve == "adapters":
                for name in self.names:
                    if adapter_base(self._recipes, name) is not None:
                        self._materialiser.check_servable(name)
        except PolicyError as error:
            raise PolicyError(f"[engine] of {self._file.source}: {error}") from error

    def _member(self, name: str) -> PolicyForm:
        recipe = self._recipes[name]
        shares = coefficients(self._recipes, name)
        if shares is not None:
            return AffineForm({locate(source): share for source, share in shares.items()})
        base = adapter_base(self._recipes, name)
        if base is not None:
            return AdaptedForm(self.materialise(base), self._materialiser.adapter(name, self.names))
        if isinstance(recipe, Logits):
            return LogitPair(self.materialise(recipe.low), self.materialise(recipe.high), recipe.alpha)
        return WholeForm(self.materialise(name))


class Credentials(NamedTuple):
    """What a policy behind a URL is asked with."""

    api_key: str | None
    headers: dict[str, str]

    @classmethod
    def of(cls, name: str, recipe: Remote) -> "Credentials":
        """Read them from the environment.

        Raises:
            PolicyError: a variable is unset, or holds what no header can.
        """
        variable = recipe.api_key_env
        api_key = None if variable is None else _header_value(variable, f"policy {name!r} needs an API key")
        headers = {
            header: _header_value(variable, f"policy {name!r} needs the header {header}")
            for header, variable in (recipe.headers_env or {}).items()
        }
        return cls(api_key, {**(recipe.headers or {}), **headers})


def _header_value(variable: str, need: str) -> str:
    value = read_secret(variable, need, PolicyError)
    if not (value.isascii() and value.isprintable()):
        raise PolicyError(f"{need}, but the value of {variable} cannot be sent: export it as printable ASCII.")
    return value
