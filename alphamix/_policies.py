"""Policies without a run: merge checkpoints, and sample from a policy of a file."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, get_args, get_type_hints

from alphamix import _checks as checks
from alphamix.policies.checkpoints.dtypes import check_dtype
from alphamix.policies.checkpoints.locate import locate, source
from alphamix.policies.checkpoints.safetensors_folder import size
from alphamix.policies.checkpoints.target_folder import check_room, refuse_taken
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.merging.merge import merge as merge_checkpoints
from alphamix.policies.policy_file.recipes import alpha_folder
from alphamix.policies.registry import Registry
from alphamix.policies.types import Completion, Message, PolicyError, Prompt, Request, SamplingParameters
from alphamix.wording import shown

_ROLES: tuple[str, ...] = get_args(get_type_hints(Message)["role"])
_PROMPT = 'give text, or messages such as [{"role": "user", "content": "Print 1."}]'


def merge(
    low: str | Path, high: str | Path, alphas: Iterable[float], output: str | Path, *, dtype: str | None = None
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
        AlphamixError: a value does not hold, the checkpoints cannot be merged, a folder exists or cannot be made, or
            the disk has no room.

    Example:
        >>> low, high = "examples/ladder/checkpoints/low", "examples/ladder/checkpoints/high"
        >>> folders = alphamix.merge(low, high, [0.5, 1.5], "results/merges")
        >>> sorted(folder.name for folder in folders.values())
        ['alpha_0.50', 'alpha_1.50']
    """
    numbers = _numbers(alphas)
    check_dtype(dtype)
    target = checks.path("output", output)
    ends = [locate(source(str(checks.path(name, end)), Path.cwd())) for name, end in (("low", low), ("high", high))]
    folders = {alpha: target / alpha_folder(alpha) for alpha in numbers}
    for folder in folders.values():
        refuse_taken(folder)
    check_room(target, len(folders) * size(ends[0], dtype))
    merge_checkpoints(ends[0], ends[1], folders, dtype=dtype)
    return folders


def _numbers(alphas: Any) -> list[float]:
    """Return the values of α, which may come from an iterator that gives them once."""
    if isinstance(alphas, str) or not isinstance(alphas, Iterable):
        raise PolicyError(f"alphas is {shown(alphas)}: give a list of numbers, such as [0.5].")
    given: list[Any] = list(alphas)
    if not given:
        raise PolicyError("alphas is empty: give one finite number or more.")
    return [checks.finite(f"alphas[{index}]", alpha) for index, alpha in enumerate(given)]


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

    def __repr__(self) -> str:
        return f"Policy({self.name!r} of {str(self._registry.source)!r})"

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
        stop: str | Sequence[str] = (),
    ) -> list[Completion]:
        """Draw completions of one prompt, with the seeds `seed`, `seed` + 1, …

        Args:
            prompt: Messages of a chat, which go through the policy's own template, or plain text to be continued.
            n: Number of completions.
            seed: Seed of the first.
            temperature: Divisor of the logits; 0 takes the likeliest token.
            top_p: Least probability mass of the tokens that are drawn from.
            max_tokens: Greatest number of tokens of a completion.
            stop: Text that ends a completion and is left out of it, or several such texts.

        Raises:
            AlphamixError: a value does not hold, the prompt does not fit the policy, or an answer did not come. A
                failure is never returned as a completion; a run keeps what came and asks again.
        """
        _check_prompt(prompt)
        n = checks.whole_number("n", n, 1, thing="number of completions")
        first = checks.whole_number("seed", seed, 0)
        parameters = _parameters(temperature, top_p, max_tokens, stop)
        requests = [Request(prompt, (first + index) % 2**31, parameters) for index in range(n)]
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
        AlphamixError: a value does not hold, the name is unknown, or the policy cannot be made or reached.

    Example:
        >>> with alphamix.open_policy("examples/ladder/policies.toml", "coverage@+0.50") as policy:
        ...     answers = policy.sample("def", n=1, max_tokens=4, temperature=0)
        >>> answers[0].completion_tokens <= 4
        True
    """
    options = EngineOptions(
        batch_size=checks.whole_number("batch_size", batch_size, 1, thing="number of rows"),
        device=None if device is None else checks.text("device", device),
    )
    registry = Registry.load(checks.path("file", file))
    try:
        return Policy(registry, checks.text("name", name), options)
    except BaseException:
        registry.close()
        raise


def _parameters(temperature: Any, top_p: Any, max_tokens: Any, stop: Any) -> SamplingParameters:
    """Return the parameters of sampling, or raise one line about the first that does not hold."""
    if checks.finite("temperature", temperature) < 0:
        raise PolicyError(f"temperature is {temperature}: give 0 or more.")
    if not 0 < checks.finite("top_p", top_p) <= 1:
        raise PolicyError(f"top_p is {top_p}: give a number above 0, and at most 1.")
    most = checks.whole_number("max_tokens", max_tokens, 1, thing="number of tokens")
    return SamplingParameters(float(temperature), float(top_p), most, _stop_texts(stop))


def _stop_texts(stop: Any) -> tuple[str, ...]:
    """Return the texts that end a completion: one that was given alone, or several."""
    texts = [stop] if isinstance(stop, str) else checks.texts("stop", stop)
    for index, text in enumerate(texts):
        _check_unicode(f"stop[{index}]", text)
        if not text:
            raise PolicyError("stop has an empty text, which would end every completion at once: leave it out.")
    return tuple(texts)


def _check_prompt(prompt: Any) -> None:
    """Check that a prompt is text, or messages of roles that a chat has.

    Raises:
        PolicyError: it is neither; names the message at fault.
    """
    if isinstance(prompt, str):
        _check_unicode("the prompt", prompt)
        return
    if isinstance(prompt, bytes) or not isinstance(prompt, Sequence):
        raise PolicyError(f"the prompt is {shown(prompt)}: {_PROMPT}.")
    messages: list[Any] = list(prompt)
    if not messages:
        raise PolicyError("the prompt has no messages: give one or more.")
    for index, message in enumerate(messages):
        _check_message(f"message {index} of the prompt", message)


def _check_message(place: str, message: Any) -> None:
    if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
        raise PolicyError(f"{place} is {shown(message)}, without a role and a content: {_PROMPT}.")
    checks.one_of(f"the role of {place}", message["role"], _ROLES)
    content: Any = message["content"]
    if not isinstance(content, str):
        raise PolicyError(f"the content of {place} is {shown(content)}: give text.")
    _check_unicode(f"the content of {place}", content)


def _check_unicode(place: str, text: str) -> None:
    """Check that a text can be encoded: a half of a surrogate pair stands for no character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PolicyError(
            f"{place} has {text[error.start]!r} at index {error.start}, half of a character: remove it."
        ) from None
