"""Policies without a run: merge checkpoints, and sample from a policy of a file."""

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from types import TracebackType
from typing import Self

from alphamix.policies.checkpoints.dtypes import check_dtype
from alphamix.policies.checkpoints.locate import locate, source
from alphamix.policies.checkpoints.safetensors_folder import size
from alphamix.policies.checkpoints.target_folder import check_room, refuse_taken
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.merging.merge import merge as merge_checkpoints
from alphamix.policies.policy_file.recipes import alpha_folder
from alphamix.policies.registry import Registry
from alphamix.policies.types import Completion, PolicyError, Prompt, Request, SamplingParameters


def merge(
    low: str | Path, high: str | Path, alphas: Sequence[float], output: str | Path, *, dtype: str | None = None
) -> dict[float, Path]:
    """Write θ(α) = θ_low + α·(θ_high − θ_low) for every α, exactly and in one pass over the weights.

    Args:
        low: Checkpoint at α = 0: a folder or a hub id.
        high: Checkpoint at α = 1, trained from the same initialisation.
        alphas: Values of α; below 0 and above 1 they extrapolate.
        output: Folder that gets a folder for each α. None of these may exist.
        dtype: Data type of all float tensors, such as `bfloat16`; that of the inputs if None.

    Returns:
        The folder of each merge, which transformers and vLLM load. Needs the extra `merge`.

    Raises:
        PolicyError: the checkpoints cannot be merged, a folder exists, or the disk has no room.

    Example:
        >>> low, high = "examples/ladder/checkpoints/low", "examples/ladder/checkpoints/high"
        >>> folders = alphamix.merge(low, high, [0.5, 1.5], "results/merges")
        >>> sorted(folder.name for folder in folders.values())
        ['alpha_0.50', 'alpha_1.50']
    """
    if not alphas or not all(map(isfinite, alphas)):
        raise PolicyError(f"alphas are {list(alphas)}: give one finite number or more.")
    check_dtype(dtype)
    ends = [locate(source(str(end), Path.cwd())) for end in (low, high)]
    folders = {alpha: Path(output) / alpha_folder(alpha) for alpha in alphas}
    for folder in folders.values():
        refuse_taken(folder)
    check_room(Path(output), len(folders) * size(ends[0], dtype))
    merge_checkpoints(ends[0], ends[1], folders, dtype=dtype)
    return folders


class Policy:
    """A policy that is ready to be sampled from. Make one with `open_policy`, and close it, best by `with`.

    Example:
        >>> with alphamix.open_policy("examples/ladder/policies.toml", "low") as policy:
        ...     answers = policy.sample([{"role": "user", "content": "Given n, print n."}], n=2, max_tokens=8)
        >>> len(answers)
        2
    """

    def __init__(self, registry: Registry, name: str, options: EngineOptions) -> None:
        self.name = name
        self._registry = registry
        self._engine = registry.open(name, options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sample(
        self,
        prompt: Prompt,
        n: int = 1,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        top_p: float = 1.0,
        max_tokens: int = 512,
        stop: Sequence[str] = (),
    ) -> list[Completion]:
        """Draw completions of one prompt, with the seeds `seed`, `seed` + 1, …

        Args:
            prompt: Messages of a chat, which go through the policy's own template, or plain text to be continued.
            n: Number of completions.
            seed: Seed of the first.
            temperature: Divisor of the logits; 0 takes the likeliest token.
            top_p: Least probability mass of the tokens that are drawn from.
            max_tokens: Greatest number of tokens of a completion.
            stop: Strings that end a completion and are left out of it.

        Raises:
            PolicyError: the prompt does not fit the policy, or an answer did not come. A failure is never returned as
                a completion; a run keeps what came and asks again.
        """
        if n < 1 or max_tokens < 1 or not temperature >= 0 or not 0 < top_p <= 1:
            raise PolicyError(
                f"n = {n}, max_tokens = {max_tokens}, temperature = {temperature} and top_p = {top_p} do not hold: "
                "give n ≥ 1, max_tokens ≥ 1, temperature ≥ 0 and 0 < top_p ≤ 1."
            )
        parameters = SamplingParameters(temperature, top_p, max_tokens, tuple(stop))
        requests = [Request(prompt, (seed + index) % 2**31, parameters) for index in range(n)]
        answers = {reply.index: reply.outcome for reply in self._engine.sample(requests)}
        completions: list[Completion] = []
        for index in range(n):
            outcome = answers[index]
            if not isinstance(outcome, Completion):
                raise PolicyError(f"policy {self.name!r} did not answer ({outcome.cause}): {outcome.message}")
            completions.append(outcome)
        return completions

    def close(self) -> None:
        """Free the model, or the connection. Safe to call twice."""
        self._engine.close()
        self._registry.close()


def open_policy(file: str | Path, name: str, *, batch_size: int = 256, device: str | None = None) -> Policy:
    """Open a policy of a policies file: a checkpoint, a merge, an adapter, or a model behind a URL.

    Args:
        file: Policies file (TOML); docs/policies.md has its form.
        name: Name of the policy; members of a sweep are named as `coverage@+0.50`.
        batch_size: Rows of one batch, for a model in this process.
        device: Device of a model in this process; the GPU if there is one if None.

    Raises:
        PolicyError: the name is unknown, or the policy cannot be made or reached.

    Example:
        >>> with alphamix.open_policy("examples/ladder/policies.toml", "coverage@+0.50") as policy:
        ...     answers = policy.sample("def", n=1, max_tokens=4, temperature=0)
        >>> answers[0].completion_tokens <= 4
        True
    """
    registry = Registry.load(Path(file))
    try:
        return Policy(registry, name, EngineOptions(batch_size=batch_size, device=device))
    except BaseException:
        registry.close()
        raise
