"""Recipes: how each policy of a file is made, as data. Nothing is read, opened or made here.

Where a recipe rests on other policies it names them; `inputs` gives these names by their parts. How recipes are
written in a file is `policies_file`'s affair, how they are followed `materialise`'s.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alphamix.policies.types import PolicyError

_LARGEST_EXCESS = 1e-9
"""Of a sum that is meant to be 1: decimals such as 0.1 + 0.2 + 0.7 miss it a little."""


Method = Literal["lines", "rank-1"]
"""How a trajectory is followed: a line per weight, or the rank-1 direction per tensor."""
Norms = Literal["extrapolate", "copy"]
EngineName = Literal["transformers", "vllm"]
Serve = Literal["servers", "switch", "adapters"]
"""vLLM: a server for each policy, or one whose weights are switched, or one with all policies as adapters."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights in a folder, or on the hub."""

    source: Path | str
    """An absolute folder, or a hub id."""

    @property
    def inputs(self) -> dict[str, str]:
        """None."""
        return {}


@dataclass(frozen=True, slots=True)
class LineRecipe:
    """low + α·(high − low) of two other policies, by their names."""

    low: str
    high: str
    alpha: float

    @property
    def inputs(self) -> dict[str, str]:
        """The policies by their parts, the base first."""
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Merge(LineRecipe):
    """θ_low + α·(θ_high − θ_low) of weights."""

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
class Trajectory:
    """Where the checkpoints of one training run lead to at a step."""

    checkpoints: dict[int, str | Checkpoint]
    """By step: the name of another policy, or a checkpoint."""
    step: float
    method: Method = "lines"
    norms: Norms = "extrapolate"
    """Whether normalisation layers move on, or stay the last checkpoint's."""

    @property
    def inputs(self) -> dict[str, str]:
        """The policies among the checkpoints, by step."""
        return {f"step {step}": name for step, name in self.checkpoints.items() if isinstance(name, str)}


@dataclass(frozen=True, slots=True)
class AdapterRecipe:
    """A LoRA adapter on another policy."""

    source: Path | str
    """An absolute folder, or a hub id."""
    base: str

    @property
    def inputs(self) -> dict[str, str]:
        """The base."""
        return {"base": self.base}


@dataclass(frozen=True, slots=True)
class Logits(LineRecipe):
    """z_low + α·(z_high − z_low) of logits, at every token."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A model behind an OpenAI-compatible URL."""

    url: str | tuple[str, ...]
    """Several serve the same model, and share the work."""
    model: str
    api_key_env: str | None
    """Name of the variable that holds the key."""

    @property
    def inputs(self) -> dict[str, str]:
        """None."""
        return {}


Recipe = Checkpoint | Merge | Combination | Trajectory | AdapterRecipe | Logits | Remote


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What runs the policies that have weights here."""

    name: EngineName = "transformers"
    serve: Serve = "servers"
    interpreter: Path | str | None = None
    """vLLM: an absolute path, or the name of a program, of a Python that has it."""
    arguments: tuple[str, ...] = ()
    """vLLM: more arguments for its servers."""


@dataclass(frozen=True, slots=True)
class PoliciesFile:
    """A policies file, read."""

    source: Path
    recipes: dict[str, Recipe]
    sweeps: dict[str, tuple[str, ...]]
    """Names that each sweep expands to."""
    mixtures: dict[str, dict[str, float]]
    engine: EngineChoice = field(default_factory=EngineChoice)


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
