"""An adapter folded into its base: W + scale·B·A in float64, rounded once to the base's own format, as a checkpoint
that every engine loads.

The base's files are copied as they are, and what the adapter changes is written over. Where embeddings and output
layer are tied, an adapter that changes one of the two is refused: a checkpoint has one table for both.
"""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alphamix.atomic import whole_folder
from alphamix.policies.checkpoints.as_transformers import as_loaded
from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE, Values, to_float64
from alphamix.policies.checkpoints.safetensors_folder import (
    INDEX,
    TensorInfo,
    copy_companions,
    describe,
    fingerprint,
    read_bytes,
    read_json,
    read_values,
    write_json,
    write_values,
)
from alphamix.policies.checkpoints.target_folder import has_files
from alphamix.policies.checkpoints.tied_weights import EMBEDDINGS, OUTPUT_LAYER, ties_embeddings
from alphamix.policies.lora import peft_folder as adapters
from alphamix.policies.lora.peft_folder import (
    BASE_LAYER,
    PREFIX,
    Adapter,
    Module,
    read_adapter,
    read_matrix,
    stores_in_out,
)
from alphamix.policies.types import PolicyError

FORMULA = "W + scale * B @ A, in float64, rounded once"
_VALUES_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Change:
    """Change of one tensor of the base."""

    tensor: TensorInfo
    source: Module | TensorInfo
    """Factors to add, or a tensor that replaces it."""
    turned: bool
    """Whether the base stores the transpose of B·A: Conv1D of GPT-2, and embeddings."""


def fold_adapter(base: Path, adapter: Path, folder: Path) -> None:
    """Write base and adapter as one checkpoint, which appears whole or not at all. A folder that has files is left as
    it is.

    Config, tokenizer and chat template are the base's; files that only the adapter has are added. `fold.json` records
    the fingerprints of both.

    Raises:
        PolicyError: the adapter is not plain LoRA or not for this base, or a value leaves the range of its format.
    """
    changes = changes_of(base, read_adapter(adapter))
    if has_files(folder):
        return
    with whole_folder(folder) as temporary:
        for path in {tensor.file for tensor in describe(base).values()} | {base / INDEX}:
            if path.is_file():
                shutil.copyfile(path, temporary / path.name)
        copy_companions(base, temporary)
        copy_companions(adapter, temporary)
        for change in changes:
            written = replace(change.tensor, file=temporary / change.tensor.file.name)
            write_values(written, _new_values(change), "lower the adapter's lora_alpha", [change.tensor])
        inputs = {"base": fingerprint(base), "adapter": adapters.fingerprint(adapter)}
        write_json(temporary / "fold.json", {"formula": FORMULA, "inputs": inputs})


def changes_of(base: Path, adapter: Adapter) -> list[Change]:
    """List what an adapter changes of a base; nothing is computed.

    Raises:
        PolicyError: names the first module or tensor that the base does not have in this shape, or has tied.
    """
    place = f"the adapter {adapter.folder} does not fit the base {base}"
    saved = {name.removeprefix(PREFIX): tensor for name, tensor in adapter.saved.items()}
    tensors = _named_as_in(adapter, base)
    left_out = _tied_heads(place, base, tensors, adapter, saved)
    config = read_json(base / "config.json")
    changes: list[Change] = []
    for module, factors in adapter.modules.items():
        if f"{module}.weight" in left_out:
            continue
        turned = stores_in_out(config, module) or "embedding_" in factors.a.name
        shape = (factors.a.shape[1], factors.b.shape[0]) if turned else (factors.b.shape[0], factors.a.shape[1])
        changes.append(Change(_matching(place, tensors, f"{module}.weight", shape), factors, turned))
    for name, tensor in saved.items():
        of_base = name.replace(BASE_LAYER, ".")
        if of_base in left_out:
            continue
        if BASE_LAYER in name:
            _check_copy(place, _matching(place, tensors, of_base, tensor.shape), tensor)
        else:
            changes.append(Change(_matching(place, tensors, name, tensor.shape), tensor, turned=False))
    return changes


def _named_as_in(adapter: Adapter, base: Path) -> dict[str, TensorInfo]:
    """Return the base's tensors by their stored names and, if the adapter has others, also by those of the parameters
    that they become: GPT-2 of the hub stores `h.0.…` and is loaded as `transformer.h.0.…`."""
    tensors = describe(base)
    is_stored = all(f"{module}.weight" in tensors for module in adapter.modules)
    return tensors if is_stored else as_loaded(base, tensors) | tensors


def _matching(place: str, tensors: Mapping[str, TensorInfo], name: str, shape: tuple[int, ...]) -> TensorInfo:
    tensor = tensors.get(name)
    if tensor is None or tensor.shape != shape or tensor.dtype not in BYTES_PER_VALUE:
        there = "is not in the base" if tensor is None else f"is {tensor} in the base"
        raise PolicyError(
            f"{place}: {name!r} {there} and {list(shape)} for the adapter; name the policy that it was trained on."
        )
    return tensor


def _check_copy(place: str, tensor: TensorInfo, copy: TensorInfo) -> None:
    """Check that a copy of the base's tensor beside its factors is what the base has."""
    for values, copied in zip(read_values(tensor), read_values(copy), strict=True):
        if not np.array_equal(values, copied):
            raise PolicyError(
                f"{place}: its copy of the base's {tensor.name!r} differs; name the policy that it was trained on."
            )


def _tied_heads(
    place: str, base: Path, tensors: Mapping[str, TensorInfo], adapter: Adapter, saved: Mapping[str, TensorInfo]
) -> set[str]:
    """Return the output layers that a tied base does not store, and that an adapter changes as it does the embeddings.

    Raises:
        PolicyError: it changes only one of the two, or each in its own way.
    """
    stores_head = any(OUTPUT_LAYER.search(name) for name in tensors)
    if stores_head and not ties_embeddings(base):
        return set()
    whole = {name: tensor for name, tensor in saved.items() if BASE_LAYER not in name}
    changed: dict[str, Module | TensorInfo] = {f"{name}.weight": module for name, module in adapter.modules.items()}
    changed |= whole
    tables = [change for name, change in changed.items() if EMBEDDINGS.search(name)]
    heads = {name: change for name, change in changed.items() if OUTPUT_LAYER.search(name)}
    if (tables or heads) and not (len(tables) == len(heads) == 1 and _is_same(tables[0], next(iter(heads.values())))):
        first = next(name for name in changed if EMBEDDINGS.search(name) or OUTPUT_LAYER.search(name))
        raise PolicyError(
            f"{place}: it changes {first!r}, which in the base is embeddings and output layer in one; "
            "untie them in the base (tie_word_embeddings = false, both tensors stored), or leave it out of the adapter."
        )
    return heads.keys() - tensors.keys()


def _is_same(table: Module | TensorInfo, head: Module | TensorInfo) -> bool:
    """Return whether embeddings and output layer are changed alike: PEFT writes both with `ensure_weight_tying`."""
    if isinstance(table, TensorInfo) and isinstance(head, TensorInfo):
        return np.array_equal(read_bytes(table), read_bytes(head))
    if isinstance(table, TensorInfo) or isinstance(head, TensorInfo):
        return False
    is_mirrored = np.array_equal(read_matrix(table.a), read_matrix(head.b).T) and np.array_equal(
        read_matrix(table.b), read_matrix(head.a).T
    )
    return is_mirrored and table.scale == head.scale


def _new_values(change: Change) -> Iterator[Values]:
    """Yield the new values of the tensor, some rows at a time."""
    tensor, source = change.tensor, change.source
    if isinstance(source, TensorInfo):
        yield from read_values(source)
        return
    a, b = read_matrix(source.a), read_matrix(source.b)
    left, right = (a.T, b.T) if change.turned else (b, a)
    height, width = tensor.shape
    rows = max(1, _VALUES_AT_ONCE // width)
    row_size = width * BYTES_PER_VALUE[tensor.dtype]
    for start in range(0, height, rows):
        values = to_float64(read_bytes(tensor, start * row_size, (start + rows) * row_size), tensor.dtype)
        yield values + (source.scale * (left[start : start + rows] @ right)).ravel()
