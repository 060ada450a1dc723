"""Form of a policies file: its tables and their keys, and which keys of one table go together.

The form is a contract, see `docs/policies.md`. `toml` checks what tables say about each other.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from alphamix.environment import VariableName
from alphamix.policies.policy_file.recipes import Dtype, EngineName, Logits, Merge, Method, Norms, Serve

_KINDS = ("checkpoint", "merge", "trajectory", "adapter", "logits", "url")

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Weight = Annotated[float, Field(strict=True, allow_inf_nan=False, ge=0)]
Text = Annotated[str, Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EndsTable(_Table):
    """Table of two policies."""

    low: str
    high: str


class LineTable(EndsTable):
    """Table of a point on the line through two policies."""

    alpha: Number


class CombinationTable(_Table):
    """Table of weights of policies."""

    base: str | None = None
    weights: Annotated[dict[str, Number], Field(min_length=1)]


def _steps(checkpoints: object) -> object:
    """Accept steps as TOML has them, keys of text, if they are whole numbers in their usual form."""
    if isinstance(checkpoints, dict):
        for key in checkpoints:
            if not re.fullmatch(r"0|[1-9][0-9]*", str(key)):
                raise ValueError(f"the step {key!r} is not a whole number; write steps such as 200")
        if len(checkpoints) < 2:
            raise ValueError("a trajectory needs a direction; give the checkpoints of two steps or more")
    return checkpoints


class TrajectoryTable(_Table):
    """Table of the checkpoints of one run, and a step."""

    checkpoints: Annotated[dict[int, Text], BeforeValidator(_steps)]
    step: Number
    method: Method = "lines"
    norms: Norms = "extrapolate"


def _urls(given: str | list[str]) -> str | list[str]:
    """Check one URL, or several different URLs of one model."""
    urls = [given] if isinstance(given, str) else given
    if not urls or len(set(urls)) < len(urls):
        raise ValueError("a list of URLs names each once; write at least one")
    for url in urls:
        if not re.match(r"https?://", url):
            raise ValueError(f"{url!r} is not the URL of a server; write http://… or https://…")
    return given


class PolicyTable(_Table):
    """Table of one policy, with the keys of exactly one kind."""

    checkpoint: Text | None = None
    merge: dict[str, Any] | None = None
    """A `LineTable`, or with `weights` a `CombinationTable`; validated separately, so that errors name its own keys."""
    trajectory: TrajectoryTable | None = None
    adapter: Text | None = None
    base: str | None = None
    logits: LineTable | None = None
    url: Annotated[str | list[str], AfterValidator(_urls)] | None = None
    model: str | None = None
    api_key_env: VariableName | None = None
    headers: Annotated[dict[str, str] | None, Field(repr=False)] = None
    """Headers for the URL, by name."""
    headers_env: Annotated[dict[str, VariableName] | None, Field(repr=False)] = None
    """Names of environment variables with the values of further headers."""
    alpha: Number | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "PolicyTable":
        kinds = [key for key in _KINDS if getattr(self, key) is not None]
        if len(kinds) != 1:
            known, given = f"{', '.join(_KINDS[:-1])} or {_KINDS[-1]}", " and ".join(kinds) or "none of them"
            raise ValueError(f"a policy is one of {known}, and here is {given}; give exactly one")
        if (self.model is None) == (self.url is not None):
            raise ValueError("url and model go together: name the model that the URL serves, or leave out both")
        if (self.base is None) == (self.adapter is not None):
            raise ValueError("adapter and base go together: name the policy that the adapter is for, or leave out both")
        for key in ("api_key_env", "headers", "headers_env"):
            if getattr(self, key) is not None and self.url is None:
                raise ValueError(f"{key} goes with a url: leave it out")
        for name, value in {**(self.headers or {}), **(self.headers_env or {})}.items():
            if not re.fullmatch(r"[A-Za-z0-9-]+", name) or not (value.isascii() and value.isprintable()):
                raise ValueError(
                    f"the header {name!r} cannot be sent; use letters, digits and - in its name, and "
                    "printable ASCII in its value"
                )
        if self.alpha is not None and (self.logits is not None or "alpha" in (self.merge or ())):
            raise ValueError("this policy has its α from the line that it is made on: leave alpha out")
        return self


class SweepTable(_Table):
    """Table of a line, and points on it."""

    merge: EndsTable | None = None
    logits: EndsTable | None = None
    alphas: Annotated[list[Number], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_kind(self) -> "SweepTable":
        if (self.merge is None) == (self.logits is None):
            given = "neither" if self.merge is None else "both"
            raise ValueError(f"a sweep is of merge or of logits, and here is {given}; give exactly one")
        return self

    def recipe(self, alpha: float) -> Merge | Logits:
        """Return the recipe of the member at α."""
        kind, ends = (Merge, self.merge) if self.merge is not None else (Logits, self.logits)
        assert ends is not None
        return kind(ends.low, ends.high, alpha + 0.0)  # + 0.0 makes -0.0 positive


class MixtureTable(_Table):
    """Table of the weights of policies that are served as one."""

    weights: Annotated[dict[str, Weight], Field(min_length=1)]

    @model_validator(mode="after")
    def _some_weight(self) -> "MixtureTable":
        if sum(self.weights.values()) <= 0:
            raise ValueError("all weights are 0: give at least one policy a weight above 0")
        return self


class EngineTable(_Table):
    """Table of the engine for policies that have weights."""

    name: EngineName = "transformers"
    serve: Serve = "servers"
    interpreter: Text | None = None
    arguments: list[str] = Field(default_factory=list)
    dtype: Dtype | None = None

    @model_validator(mode="after")
    def _only_for_its_engine(self) -> "EngineTable":
        others = sorted(self.model_fields_set - {"name", "dtype"})
        if self.name != "vllm" and others:
            raise ValueError(f'{others[0]} goes with name = "vllm"; write that, or leave {others[0]} out')
        if self.name == "vllm" and self.dtype is not None:
            raise ValueError(
                f'dtype goes with name = "transformers"; for vLLM write arguments = ["--dtype", "{self.dtype}"]'
            )
        return self


class FileTable(_Table):
    """All tables of a file."""

    engine: EngineTable = Field(default_factory=EngineTable)
    policies: dict[str, PolicyTable] = Field(default_factory=dict)
    sweeps: dict[str, SweepTable] = Field(default_factory=dict)
    mixtures: dict[str, MixtureTable] = Field(default_factory=dict)
    keys: Annotated[dict[str, dict[str, Any]], Field(repr=False)] = Field(default_factory=dict)
    """Keys of clients, which only the server reads."""
