"""Merges of LoRA adapters of one base: Σ share·ΔW as one adapter, exactly.

The sum of changes `scale · B @ A` is the product of their factors laid side by side, so a merge of adapters of ranks r
and s is an adapter of rank r + s: no cross terms, no approximation. Adding factor to factor, as
`combination_type="linear"` of PEFT does, is another function. Shares need not sum to 1: the base takes the rest.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from alphamix.policies.checkpoints.cache import file_digest
from alphamix.policies.checkpoints.safetensors_folder import TensorInfo
from alphamix.policies.lora.peft_folder import (
    ADAPTER_WEIGHTS,
    BASE_LAYER,
    Adapter,
    LazyTensors,
    Matrix,
    read_adapter,
    read_matrix,
    write_adapter,
)
from alphamix.policies.policy_file.recipes import LARGEST_EXCESS
from alphamix.policies.types import PolicyError

FORMULA = "sum of share * scale * B @ A, factors side by side"


def merge_adapters(low: Path, high: Path, folders: Mapping[float, Path]) -> None:
    """Write `(1 − α)·ΔW_low + α·ΔW_high` into `folders[α]` for every α: `combine_adapters` for two.

    Raises:
        PolicyError: as for `combine_adapters`.
    """
    combine_adapters({"low": low, "high": high}, {(1 - alpha, alpha): folder for alpha, folder in folders.items()})


def combine_adapters(inputs: Mapping[str, Path], folders: Mapping[tuple[float, ...], Path]) -> None:
    """Write `Σ share·ΔW` as one adapter into `folders[shares]`; a folder that has files is left as it is.

    Its rank is the sum of the largest ranks of the inputs, the same for all modules (a module of lower rank is padded
    with zeros). Its scale is 1: scales and shares are folded into B in float64 and rounded once, to float32. A module
    that only some adapters have keeps their shares. Tensors of `modules_to_save` are interpolated as whole weights.

    Raises:
        PolicyError: an adapter is not plain LoRA, or they are not of one base.
    """
    ends = {label: read_adapter(folder) for label, folder in inputs.items()}
    for shares in folders:
        check_combinable(ends, shares)
    adapters = list(ends.values())
    ranks = [max(module.rank for module in adapter.modules.values()) for adapter in adapters]
    names = sorted({name for adapter in adapters for name in adapter.modules})
    digests = {label: file_digest(folder / ADAPTER_WEIGHTS) for label, folder in inputs.items()}
    for shares, folder in folders.items():
        modules = {name: _side_by_side(adapters, ranks, name, shares) for name in names}
        saved = {
            name: (tensor.shape, _interpolated(name, [adapter.saved[name] for adapter in adapters], shares))
            for name, tensor in adapters[0].saved.items()
        }
        line = {"alpha": shares[1]} if len(shares) == 2 and shares[0] == 1 - shares[1] else {}
        record = {"formula": FORMULA, **line, "shares": dict(zip(ends, shares, strict=True))}
        record |= {"ranks": ranks, "inputs": digests}
        write_adapter(folder, adapters[0].config, sum(ranks), modules, saved, lambda record=record: record)


def check_combinable(ends: Mapping[str, Adapter], shares: Sequence[float]) -> None:
    """Check that adapters can be merged.

    Raises:
        PolicyError: names the first difference, with both values.
    """
    for share in shares:
        if not math.isfinite(share):
            raise PolicyError(f"an adapter is to be merged with the share {share}: give a finite number.")
    (label, first), *others = ends.items()
    for other_label, other in others:
        _check_one_base(label, first, other_label, other)
    whole = [name for name in first.saved if BASE_LAYER not in name]
    if whole and abs(math.fsum(shares) - 1) > LARGEST_EXCESS:
        raise PolicyError(
            f"{first.folder} ({label}) has the whole tensor {whole[0]!r}, and shares that sum to {math.fsum(shares):g} "
            "take the rest from the base's: merge the full checkpoints, or train it without modules_to_save."
        )


def _check_one_base(label: str, first: Adapter, other_label: str, other: Adapter) -> None:
    pair = f"{first.folder} ({label}) and {other.folder} ({other_label}) cannot be merged"
    key = "base_model_name_or_path"
    values = first.config.get(key) or None, other.config.get(key) or None
    if values[0] != values[1]:
        cure = "merge adapters of one base (if it is one base under two names, correct one)"
        values_text = f"{values[0]!r} in {label} and {values[1]!r} in {other_label}"
        raise PolicyError(f"{pair}: {key} is {values_text}; {cure}.")
    for name in sorted(first.modules.keys() & other.modules.keys()):
        shapes = [
            (module.b.shape[0], module.a.shape[1], "embedding_" in module.a.name)
            for module in (first.modules[name], other.modules[name])
        ]
        if shapes[0] != shapes[1]:
            values_text = f"{list(shapes[0][:2])} in {label} and {list(shapes[1][:2])} in {other_label}"
            raise PolicyError(f"{pair}: module {name!r} is {values_text}; merge adapters of one base.")
    for name in sorted(first.saved.keys() | other.saved.keys()):
        one, two = first.saved.get(name), other.saved.get(name)
        if one is None or two is None or one.shape != two.shape:
            raise PolicyError(
                f"{pair}: the saved tensor {name!r} is {one} in {label} and {two} in {other_label}, and the base's is "
                "not here; give all the same modules_to_save, or merge the full checkpoints."
            )
        if BASE_LAYER in name and not np.array_equal(read_matrix(one), read_matrix(two)):
            raise PolicyError(f"{pair}: their copies of the base's {name!r} differ; merge adapters of one base.")


def _side_by_side(ends: Sequence[Adapter], ranks: list[int], name: str, shares: Sequence[float]) -> LazyTensors:
    present = [end.modules.get(name) for end in ends]
    known = next(module for module in present if module is not None)
    width_in, width_out = known.a.shape[1], known.b.shape[0]

    def a() -> Matrix:
        parts = [np.zeros((rank, width_in)) for rank in ranks]
        for part, module in zip(parts, present, strict=True):
            if module is not None:
                part[: module.rank] = read_matrix(module.a)
        return np.concatenate(parts)

    def b() -> Matrix:
        parts = [np.zeros((width_out, rank)) for rank in ranks]
        for part, module, share in zip(parts, present, shares, strict=True):
            if module is not None:
                part[:, : module.rank] = share * module.scale * read_matrix(module.b)
        return np.concatenate(parts, axis=1)

    return {known.a.name: ((sum(ranks), width_in), a), known.b.name: ((width_out, sum(ranks)), b)}


def _interpolated(name: str, tensors: Sequence[TensorInfo], shares: Sequence[float]) -> Callable[[], Matrix]:
    if BASE_LAYER in name:
        return lambda: read_matrix(tensors[0])
    terms = list(zip(shares, tensors, strict=True))
    return lambda: np.sum([share * read_matrix(tensor) for share, tensor in terms], axis=0)
