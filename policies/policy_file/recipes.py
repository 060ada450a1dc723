"""Recipes: how each policy of a file is made, as data. Nothing is read, opened or made here.

A recipe that depends on other policies names them; `inputs` gives these names by their parts. `toml` reads and writes
recipes, and `build` follows them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from alphamix.policies.types import PolicyError

LARGEST_EXCESS = 1e-9
"""Tolerance for a sum that is meant to be 1: decimals such as 0.1 + 0.2 + 0.7 miss it slightly."""


Method = Literal["lines", "rank-1"]
"""Method of extrapolating a trajectory: a line per weight, or the rank-1 direction per tensor."""
Norms = Literal["extrapolate", "copy"]
EngineName = Literal["transformers", "vllm"]
Serve = Literal["servers", "switch", "adapters"]
Dtype = Literal["float32", "bfloat16", "float16"]
"""Way of serving on vLLM: a server for each policy, one whose weights are switched, or one with all policies as
adapters."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights in a folder, or on the hub."""

    inputs: ClassVar[dict[str, str]] = {}
    source: Path | str
    """An absolute folder, or a hub id."""


@dataclass(frozen=True, slots=True)
class LineRecipe:
    """Point low + α·(high − low) on the line through two other policies, given by their names."""

    low: str
    high: str
    alpha: float

    @property
    def inputs(self) -> dict[str, str]:
        """Policies by their part, the base first."""
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True)
class Merge(LineRecipe):
    """Merge θ_low + α·(θ_high − θ_low) of weights."""

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each input after the base."""
        return (self.alpha,)


@dataclass(frozen=True, slots=True)
class Combination:
    """Combination base + Σ weight·(input − base) of other policies, given by their names."""

    base: str
    weight_of_input: dict[str, float]

    @property
    def inputs(self) -> dict[str, str]:
        """Policies by their part, which is their name here."""
        return {name: name for name in (self.base, *self.weight_of_input)}

    @property
    def weights(self) -> tuple[float, ...]:
        """Weight of each input after the base."""
        return tuple(self.weight_of_input.values())


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Extrapolation of the checkpoints of one training run to a step."""

    checkpoints: dict[int, str | Checkpoint]
    """Checkpoints by step: the name of another policy, or a checkpoint."""
    step: float
    method: Method = "lines"
    norms: Norms = "extrapolate"
    """Whether normalisation layers are extrapolated, or copied from the last checkpoint."""

    @property
    def inputs(self) -> dict[str, str]:
        """Policies among the checkpoints, by step."""
        return {f"step {step}": name for step, name in self.checkpoints.items() if isinstance(name, str)}


@dataclass(frozen=True, slots=True)
class AdapterRecipe:
    """LoRA adapter on another policy."""

    source: Path | str
    """An absolute folder, or a hub id."""
    base: str

    @property
    def inputs(self) -> dict[str, str]:
        """Policies by their part: the base."""
        return {"base": self.base}


@dataclass(frozen=True, slots=True)
class Logits(LineRecipe):
    """Mixture z_low + α·(z_high − z_low) of logits, at every token."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Model behind an OpenAI-compatible URL."""

    inputs: ClassVar[dict[str, str]] = {}
    url: str | tuple[str, ...]
    """One URL, or several that serve the same model and share the work."""
    model: str
    api_key_env: str | None
    """Name of the environment variable that holds the key."""
    headers: dict[str, str] | None = None
    """Headers of each request."""
    headers_env: dict[str, str] | None = None
    """Names of environment variables with the values of further headers, by header."""


Recipe = Checkpoint | Merge | Combination | Trajectory | AdapterRecipe | Logits | Remote


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Engine for the policies that have weights here."""

    name: EngineName = "transformers"
    serve: Serve = "servers"
    interpreter: Path | str | None = None
    """For vLLM, the Python that has it: an absolute path, or the name of a program."""
    arguments: tuple[str, ...] = ()
    """For vLLM, additional arguments for its servers."""
    dtype: Dtype | None = None
    """For transformers, the number format of models; None selects float32 on a CPU, and on a GPU that of the
    checkpoint."""


@dataclass(frozen=True, slots=True)
class PoliciesFile:
    """Content of a policies file."""

    source: Path
    recipes: dict[str, Recipe]
    sweeps: dict[str, tuple[str, ...]]
    """Names of the policies that each sweep expands to."""
    mixtures: dict[str, dict[str, float]]
    engine: EngineChoice = field(default_factory=EngineChoice)
    alphas: dict[str, float] = field(default_factory=dict)
    """α that the file gives a policy which is not made on a line, such as an end of a line that is not in the file."""


_MOST_WRITTEN_OUT = 1e16


def alpha_suffix(alpha: float) -> str:
    """Write α for the name of a policy: a sign and two decimals, or more if it needs them: `+0.25`, `+1.375`.

    A number that would take too many digits is written with an exponent, as `+1e+300`.
    """
    for decimals in range(2, 18) if abs(alpha) < _MOST_WRITTEN_OUT else ():
        label = f"{alpha + 0.0:+.{decimals}f}"  # + 0.0 makes -0.0 positive
        if float(label) == alpha:
            return label
    return f"{alpha:+}"


def alpha_folder(alpha: float) -> str:
    """Name the folder of a merge among those at other α: `alpha_0.25`, `alpha_-0.50`."""
    return f"alpha_{alpha_suffix(alpha).removeprefix('+')}"


def combination(base: str | None, weights: Mapping[str, float], place: str) -> Combination:
    """Make a recipe from weights. Without a base they are coefficients, and the first policy serves as the base.

    Raises:
        PolicyError: coefficients do not sum to 1, or nothing is left to merge.
    """
    if base is None:
        total = math.fsum(weights.values())
        if abs(total - 1) > LARGEST_EXCESS:
            raise PolicyError(
                f"{place} has weights that sum to {total:g}: "
                "make it 1, or give a base for base + Σ weight·(input − base)."
            )
        base = next(iter(weights))
    others = {name: weight + 0.0 for name, weight in weights.items() if name != base}
    if not others:
        raise PolicyError(f"{place} merges {base!r} with nothing: give the weight of another checkpoint too.")
    return Combination(base, others)
