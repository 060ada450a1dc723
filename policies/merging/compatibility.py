"""Rules for what may be merged, and what may be mixed at the logits, decided from headers, configs and tokenizers.

Only copies of tied weights are read. Mixing logits asks much less than merging: layers, sizes and architectures may
differ, but token ids must mean the same.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.as_transformers import as_loaded, hint, resolved_config, vocabulary
from alphamix.policies.checkpoints.cache import file_digest
from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE
from alphamix.policies.checkpoints.safetensors_folder import (
    TensorInfo,
    describe,
    read_json,
    tokenizer_files,
)
from alphamix.policies.checkpoints.tied_weights import check_tied, is_equal, ties_embeddings
from alphamix.policies.types import PolicyError

_WITHOUT_EFFECT = frozenset({
    # Where a config comes from, and how a model is loaded, trained and asked.
    "_attn_implementation", "_attn_implementation_autoset", "_name_or_path", "attention_dropout", "attn_pdrop",
    "auto_map", "bos_token_id", "chunk_size_feed_forward", "classifier_dropout", "dropout", "dtype", "embd_pdrop",
    "embedding_dropout", "eos_token_id", "hidden_dropout", "id2label", "init_std", "initializer_factor",
    "initializer_range", "label2id", "layerdrop", "neftune_noise_alpha", "num_nextn_predict_layers",
    "output_attentions", "output_hidden_states", "output_router_logits", "pad_token_id", "pretraining_tp",
    "problem_type", "resid_pdrop", "residual_dropout", "return_dict", "router_aux_loss_coef", "router_jitter_noise",
    "slow_but_exact", "summary_activation", "summary_first_dropout", "summary_proj_to_labels", "summary_type",
    "summary_use_proj", "task_specific_params", "torch_dtype", "transformers_version", "unsloth_fixed",
    "unsloth_version", "use_cache",
    # What transformers resolves into `layer_types` and `sliding_window`.
    "_sliding_window_pattern", "max_window_layers", "sliding_window_pattern", "use_sliding_window",
})  # fmt: skip
"""Keys of the config that change nothing that a checkpoint computes. All others must agree."""
_ROTATIONS_WITHOUT_CONTEXT = {"default", "linear", "llama3"}
"""Types of rotary embeddings that do not depend on `max_position_embeddings`, which otherwise only limits prompts."""
_CURE = "merge only checkpoints that were trained from one initialisation"


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
    for label, folder in inputs.items():
        check_tied(folder, tensors[label])
    if len({_layout(of_input) for of_input in tensors.values()}) > 1:  # the same to transformers, perhaps
        tensors = {label: as_loaded(folder, tensors[label]) for label, folder in inputs.items()}
    (base, folder), *others = inputs.items()
    for label, other in others:
        try:
            _check_tensors(base, tensors[base], label, tensors[label], any_float)
            _check_configs(base, folder, label, other)
            _check_vocabularies(base, folder, label, other)
        except _DifferenceError as difference:
            pair = f"{folder} ({base}) and {other} ({label}) cannot be merged"
            raise PolicyError(f"{pair}: {difference}; {difference.cure}.") from None
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
            difference = f"vocab_size is {sizes[0]} in low and {sizes[1]} in high"
            raise _DifferenceError(difference, "mix only checkpoints that share one vocabulary")
        for folder in (low, high):
            if not tokenizer_files(folder):
                raise PolicyError(f"{folder} has no tokenizer to compare: save it there with save_pretrained.")
        _check_vocabularies("low", low, "high", high)
    except _DifferenceError as difference:
        raise PolicyError(
            f"the logits of {low} (low) and {high} (high) cannot be mixed: {difference}; {difference.cure}."
        ) from None


class _DifferenceError(Exception):
    """Difference between two inputs, described in words, and what can be done about it."""

    def __init__(self, difference: str, cure: str = _CURE) -> None:
        super().__init__(difference)
        self.cure = cure


def _layout(tensors: Mapping[str, TensorInfo]) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset((name, tensor.shape) for name, tensor in tensors.items())


def _check_tensors(
    base: str, tensors: dict[str, TensorInfo], label: str, others: dict[str, TensorInfo], any_float: bool
) -> None:
    for name in sorted(tensors.keys() | others.keys()):
        one, other = tensors.get(name), others.get(name)
        if one is None or other is None:
            where, absent, there = (label, base, others) if one is None else (base, label, tensors)
            if not _is_copy_of_tied(there[name], there):
                raise _DifferenceError(f"tensor {name!r} is in {where} but not in {absent}{hint()}")
            continue
        difference = f"tensor {name!r} is {one} in {base} and {other} in {label}"
        if one.shape != other.shape:
            raise _DifferenceError(difference, _cure_of_shapes(one, other))
        if one.dtype != other.dtype and not {one.dtype, other.dtype} <= BYTES_PER_VALUE.keys():
            raise _DifferenceError(difference, "give both in a float format, as they were before quantization")
        if one.dtype != other.dtype and not any_float:
            cure = (
                "store both in one dtype: alphamix policies merge --dtype does, also with one checkpoint as both ends"
            )
            raise _DifferenceError(difference, cure)


def _cure_of_shapes(*tensors: TensorInfo) -> str:
    sizes = [_vocab_size(read_json(tensor.file.parent / "config.json")) for tensor in tensors]
    if sizes[0] != sizes[1] and all(tensor.shape[:1] == (size,) for tensor, size in zip(tensors, sizes, strict=True)):
        return (
            f"give the one with {min(sizes)} rows the other's tokenizer and resize_token_embeddings({max(sizes)}), "
            "and save it"
        )
    return _CURE


def _is_copy_of_tied(tensor: TensorInfo, tensors: dict[str, TensorInfo]) -> bool:
    """Return whether the config ties weights, and another tensor of the checkpoint has the same bytes."""
    copies = (other for other in tensors.values() if other.name != tensor.name and is_equal(tensor, other))
    return any(copies) and ties_embeddings(tensor.file.parent)


def _check_configs(base: str, folder: Path, label: str, other: Path) -> None:
    configs = [read_json(end / "config.json") for end in (folder, other)]
    if not (different := _different_keys(*configs)):
        return
    resolved = [resolved_config(end) for end in (folder, other)]
    if (one := resolved[0]) is not None and (two := resolved[1]) is not None:
        configs, different = [one, two], _different_keys(one, two)
    if different:
        key, note = different[0], "" if None not in resolved else hint()
        one, two = (config.get(key) for config in configs)
        raise _DifferenceError(
            f"{key} of config.json is {one!r} in {base} and {two!r} in {label}{note}",
            "merge only checkpoints of one architecture, or write into both config.json what holds for both",
        )


def _different_keys(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return the keys with an effect that differ, sorted. An absent key is as good as null."""
    keys = (one.keys() | other.keys()) - _WITHOUT_EFFECT
    if {*_rotations(one), *_rotations(other)} <= _ROTATIONS_WITHOUT_CONTEXT:
        keys -= {"max_position_embeddings"}
    return sorted(key for key in keys if not _is_same(one.get(key), other.get(key)))


def _is_same(one: Any, other: Any) -> bool:
    """Compare two values of a config, and the configs that are nested in it by the keys that have an effect."""
    if isinstance(one, dict) and isinstance(other, dict):
        return not _different_keys(one, other)
    return one == other


def _rotations(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the types of rotary embeddings, of which some models have one for each type of layer."""
    for key, value in config.items():
        if key in ("rope_type", "type") and isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _rotations(value)


def _check_vocabularies(base: str, folder: Path, label: str, other: Path) -> None:
    """Check that two vocabularies are equal, unless one of the folders has none."""
    files = [{path.name: file_digest(path) for path in tokenizer_files(end)} for end in (folder, other)]
    if not all(files) or files[0] == files[1]:
        return
    tokens, others = (_tokens(end) for end in (folder, other))
    if tokens is None or others is None:
        names = [", ".join(sorted(of_end)) for of_end in files]
        raise _DifferenceError(
            f"the tokenizer is {names[0]} in {base} and {names[1]} in {label}, whose tokens cannot be compared{hint()}",
            "save both with AutoTokenizer.from_pretrained(folder).save_pretrained(folder), which writes tokenizer.json",
        )
    different = [token for token in tokens.keys() | others.keys() if tokens.get(token) != others.get(token)]
    if different:
        first = min(different)
        raise _DifferenceError(
            f"token {first} is {tokens.get(first)!r} in {base} and {others.get(first)!r} in {label}",
            "give checkpoints of one vocabulary, or both the same tokenizer if only that was changed",
        )


def _vocab_size(config: dict[str, Any]) -> Any:
    """Return the vocabulary size of the language model, which has a config of its own in a multimodal model."""
    return config.get("vocab_size", config.get("text_config", {}).get("vocab_size"))


def _tokens(folder: Path) -> dict[int, Any] | None:
    """Return the tokens by id, from tokenizer.json or else as transformers loads them; None if neither is possible."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return vocabulary(folder)
    tokenizer = read_json(path)
    tokens = tokenizer.get("model", {}).get("vocab", {})
    if isinstance(tokens, dict):
        by_id: dict[int, Any] = {token: text for text, token in tokens.items()}
    else:  # a unigram model lists pairs of text and score
        by_id = {token: text for token, (text, _) in enumerate(tokens)}
    return by_id | {entry["id"]: entry["content"] for entry in tokenizer.get("added_tokens", [])}
