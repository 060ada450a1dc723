"""Rules for what may be merged, and what may be mixed at the logits, decided from headers, configs and tokenizers.

Only copies of tied weights are read. Mixing logits asks much less than merging: layers, sizes and architectures may
differ, but token ids must mean the same.
"""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE
from alphamix.policies.checkpoints.safetensors_folder import TensorInfo, describe, read_bytes, read_json
from alphamix.policies.types import PolicyError

_SAME_IN_ALL = (
    "architectures",
    "model_type",
    "vocab_size",
    "hidden_act",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_parameters",
    "rope_scaling",
    "tie_word_embeddings",
)
"""Keys of the config that change the meaning of weights, most of them without changing any shape."""
_CURE = "merge only checkpoints that were trained from one initialisation."
_BYTES_COMPARED_AT_ONCE = 1 << 22


def check_mergeable(inputs: Mapping[str, Path], *, any_float: bool = False) -> list[tuple[TensorInfo, ...]]:
    """Check that checkpoints, the base first, have the same tensors, architecture and vocabulary.

    With `any_float`, the float formats of a tensor may differ.

    Returns:
        The tensors, each as it is in every input, in the order of the base's files. A copy of a tied weight that only
        some inputs store (an output layer equal to the embeddings) is left out.

    Raises:
        PolicyError: names the first tensor, config key or token that differs, with both values.
    """
    tensors = {label: describe(folder) for label, folder in inputs.items()}
    (base, folder), *others = inputs.items()
    for label, other in others:
        try:
            _check_tensors(base, tensors[base], label, tensors[label], any_float)
            _check_configs(base, read_json(folder / "config.json"), label, read_json(other / "config.json"))
            _check_vocabularies(base, _vocabulary(folder), label, _vocabulary(other))
        except _DifferenceError as difference:
            pair = f"{folder} ({base}) and {other} ({label}) cannot be merged"
            raise PolicyError(f"{pair}: {difference}; {_CURE}") from None
    return [
        tuple(of_input[name] for of_input in tensors.values())
        for name in tensors[base]
        if all(name in of_input for of_input in tensors.values())
    ]


def check_mixable(low: Path, high: Path) -> None:
    """Check that two checkpoints have equal vocabularies, so that their logits may be mixed.

    Raises:
        PolicyError: names the size or the first token that differs, with both values.
    """
    try:
        sizes = [_vocab_size(read_json(folder / "config.json")) for folder in (low, high)]
        if sizes[0] != sizes[1]:
            raise _DifferenceError(f"vocab_size is {sizes[0]} in low and {sizes[1]} in high")
        _check_vocabularies("low", _tokens(low), "high", _tokens(high))
    except _DifferenceError as difference:
        raise PolicyError(
            f"the logits of {low} (low) and {high} (high) cannot be mixed: {difference}; "
            "mix only checkpoints that share one vocabulary."
        ) from None


class _DifferenceError(Exception):
    """Difference between two inputs, described in words."""


def _check_tensors(
    base: str, tensors: dict[str, TensorInfo], label: str, others: dict[str, TensorInfo], any_float: bool
) -> None:
    for name in sorted(tensors.keys() | others.keys()):
        one, other = tensors.get(name), others.get(name)
        if one is None or other is None:
            where, absent, there = (label, base, others) if one is None else (base, label, tensors)
            if not _is_copy_of_tied(there[name], there):
                raise _DifferenceError(f"tensor {name!r} is in {where} but not in {absent}")
            continue
        both_float = one.dtype in BYTES_PER_VALUE and other.dtype in BYTES_PER_VALUE
        if one.shape != other.shape or (one.dtype != other.dtype and not (any_float and both_float)):
            cure = ", ask for a dtype to mix them" if both_float and one.shape == other.shape else ""
            raise _DifferenceError(f"tensor {name!r} is {one} in {base} and {other} in {label}{cure}")


def _is_copy_of_tied(tensor: TensorInfo, tensors: dict[str, TensorInfo]) -> bool:
    """Return whether the config ties weights, and another tensor of the checkpoint has the same bytes."""
    config = read_json(tensor.file.parent / "config.json")
    return config.get("tie_word_embeddings") is True and any(
        (other.dtype, other.shape) == (tensor.dtype, tensor.shape) and _same_bytes(tensor, other)
        for other in tensors.values()
        if other.name != tensor.name
    )


def _same_bytes(one: TensorInfo, other: TensorInfo) -> bool:
    edges = [*range(0, one.num_bytes, _BYTES_COMPARED_AT_ONCE), one.num_bytes]
    return all(np.array_equal(read_bytes(one, *edge), read_bytes(other, *edge)) for edge in pairwise(edges))


def _check_configs(base: str, config: dict[str, Any], label: str, other: dict[str, Any]) -> None:
    for key in _SAME_IN_ALL:
        if key in config and key in other and config[key] != other[key]:
            values = f"{config[key]!r} in {base} and {other[key]!r} in {label}"
            raise _DifferenceError(f"{key} of config.json is {values}")


def _check_vocabularies(base: str, tokens: dict[int, Any], label: str, others: dict[int, Any]) -> None:
    """Check that two vocabularies are equal, unless one of them is unknown."""
    different = [token for token in tokens.keys() | others.keys() if tokens.get(token) != others.get(token)]
    if tokens and others and different:
        first = min(different)
        raise _DifferenceError(f"token {first} is {tokens.get(first)!r} in {base} and {others.get(first)!r} in {label}")


def _vocab_size(config: dict[str, Any]) -> Any:
    """Return the vocabulary size of the language model, which has a config of its own in a multimodal model."""
    return config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))


def _tokens(folder: Path) -> dict[int, Any]:
    tokens = _vocabulary(folder)
    if not tokens:
        raise PolicyError(
            f"{folder} has no tokenizer.json to compare: load its tokenizer with AutoTokenizer and save it there."
        )
    return tokens


def _vocabulary(folder: Path) -> dict[int, Any]:
    """Return the tokens by id, from tokenizer.json; empty if the tokenizer is stored in another form."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return {}
    tokenizer = read_json(path)
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(vocabulary, dict):
        tokens: dict[int, Any] = {token: text for text, token in vocabulary.items()}
    else:  # a unigram model lists pairs of text and score
        tokens = {token: text for token, (text, _) in enumerate(vocabulary)}
    return tokens | {entry["id"]: entry["content"] for entry in tokenizer.get("added_tokens", [])}
