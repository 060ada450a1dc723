"""LoRA adapters as PEFT folders: read and written. A module's change of weights is `scale · B @ A`.

Only adapters that change nothing else are read; any other (DoRA, PiSSA, trained biases, …) is refused by the key of
its config that says so. `merge_adapters` merges them.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphamix.atomic import whole_folder
from alphamix.policies.checkpoints.cache import file_digest
from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE, to_float64
from alphamix.policies.checkpoints.safetensors_folder import (
    TensorInfo,
    companions,
    lay_out,
    read_bytes,
    read_header,
    read_json,
    refuse_not_finite,
    write_json,
    write_values,
)
from alphamix.policies.checkpoints.target_folder import has_files
from alphamix.policies.types import PolicyError

CONFIG, ADAPTER_WEIGHTS, RECORD = "adapter_config.json", "adapter_model.safetensors", "adapter.json"
PREFIX = "base_model.model."
"""Prefix that PEFT puts before the name of every module."""
BASE_LAYER = ".base_layer."
"""Part of the name of a copy of the base's own tensor: PEFT saves one of an embedding that has factors."""

Matrix = NDArray[np.float64]
LazyTensors = Mapping[str, tuple[tuple[int, ...], Callable[[], Matrix]]]
"""Tensors to be written: the shape of each by its stored name, and a function that returns its values."""

_NAMES_OF_BASE = ("base_model_name_or_path", "revision")
_WITHOUT_EFFECT = frozenset({
    # Where the adapter comes from and how it was trained.
    *_NAMES_OF_BASE, "auto_mapping", "inference_mode", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "runtime_config", "task_type",
    # Settings of an initialisation or a variant that is refused by a key of its own.
    "corda_config", "eva_config", "loftq_config", "lora_ga_config", "qalora_group_size",
    # Which modules have factors or are saved whole: the names of the tensors tell.
    "ensure_weight_tying", "exclude_modules", "layers_pattern", "layers_to_transform", "modules_to_save",
    "target_modules",
    # PEFT decides by the class of the module, and so does `fold_into_base`.
    "fan_in_fan_out",
    # Read below.
    "alpha_pattern", "init_lora_weights", "lora_alpha", "r", "rank_pattern", "use_rslora",
})  # fmt: skip
"""Keys of the config of PEFT that leave a module's change of weights at `scale · B @ A`. Any other key that is set is
refused: a later PEFT may mean anything by it."""
_INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal", "mica")
"""Values of `init_lora_weights` that leave the base as it is. Others (PiSSA, OLoRA, CorDA, LoRA-GA, LoftQ) also change
the weights of the base, which the adapter's files do not say."""
_NOT_MERGED_BY_PEFT = ("alora_invocation_tokens", "arrow_config", "layer_replication", "use_qalora")
"""Keys of adapters that no checkpoint of the base's architecture can hold."""


@dataclass(frozen=True, slots=True)
class Module:
    """Factors of one module as they are stored."""

    a: TensorInfo
    """`[rank, in]`"""
    b: TensorInfo
    """`[out, rank]`"""
    scale: float

    @property
    def rank(self) -> int:
        """Rank: the number of rows of A."""
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """Folder of an adapter, read without its weights."""

    folder: Path
    config: dict[str, Any]
    modules: dict[str, Module]
    """Modules by their name in the base model."""
    saved: dict[str, TensorInfo]
    """Whole tensors of `modules_to_save`, and copies of the base's (`BASE_LAYER`), by their stored names."""


def read_adapter(folder: Path) -> Adapter:
    """Read the config and the header of a LoRA adapter that PEFT wrote.

    Raises:
        PolicyError: the folder is not an adapter, or the adapter changes more than `scale · B @ A` does.
    """
    config = _read_config(folder)
    _check_plain(folder, config)
    factors: dict[str, dict[str, TensorInfo]] = {}
    saved: dict[str, TensorInfo] = {}
    for tensor in read_header(folder / ADAPTER_WEIGHTS):
        match = re.fullmatch(re.escape(PREFIX) + r"(.+)\.lora_(embedding_)?([AB])(?:\.weight)?", tensor.name)
        if tensor.dtype not in BYTES_PER_VALUE or (match is None and "lora_" in tensor.name):
            raise PolicyError(
                f"tensor {tensor.name!r} of {folder} is {tensor}, not a factor of plain LoRA: save it anew."
            )
        if match is None:
            saved[tensor.name] = tensor
        else:
            factors.setdefault(match[1], {})[match[3]] = tensor
    modules = {name: _module(folder, config, name, pair) for name, pair in sorted(factors.items())}
    if not modules:
        raise PolicyError(f"{folder} has no factors of any module: give an adapter that changes something.")
    return Adapter(folder, config, modules, saved)


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over what an adapter changes and a tokenizer beside it, but not over the name of its base."""
    config = {key: value for key, value in _read_config(folder).items() if key not in _NAMES_OF_BASE}
    files = {path.name: file_digest(path) for path in (folder / ADAPTER_WEIGHTS, *companions(folder))}
    return hashlib.sha256(json.dumps({"config": config, "files": files}, sort_keys=True).encode()).hexdigest()


def write_adapter(
    folder: Path,
    config: Mapping[str, Any],
    rank: int,
    modules: Mapping[str, LazyTensors],
    saved: LazyTensors,
    record: Callable[[], Mapping[str, Any]],
) -> None:
    """Write an adapter of scale 1 as PEFT does, whole or not at all. A folder that has files is left as it is.

    Every module has two factors: A, `[rank, in]`, which is computed first, and B, `[out, rank]`. `saved` are whole
    tensors, `config` adds keys such as the base. `record` is called for the content of `adapter.json` once all tensors
    are written.

    Raises:
        PolicyError: a value leaves the range of float32.
    """
    if has_files(folder):
        return
    with whole_folder(folder) as temporary:
        tensors = dict(chain.from_iterable(part.items() for part in (*modules.values(), saved)))
        header = [(name, "F32", shape) for name, (shape, _) in tensors.items()]
        for tensor in lay_out(temporary / ADAPTER_WEIGHTS, header):
            _, values = tensors[tensor.name]
            write_values(tensor, [np.ascontiguousarray(values()).ravel()], "choose an alpha nearer to 0 or 1")
        own = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(modules)}
        own |= {"rank_pattern": {}, "alpha_pattern": {}, "use_rslora": False, "bias": "none", "inference_mode": True}
        own |= {"layers_to_transform": None, "layers_pattern": None, "exclude_modules": None}
        own |= {"init_lora_weights": True}  # others limit the rank: "orthogonal" to even ones
        whole = {name.removeprefix(PREFIX).rpartition(".")[0] for name in saved if BASE_LAYER not in name}
        own["modules_to_save"] = sorted(whole) or None
        write_json(temporary / CONFIG, {"task_type": "CAUSAL_LM", "lora_dropout": 0.0, **config, **own})
        write_json(temporary / RECORD, record())


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise PolicyError(
                f"{folder} has no {name}: give a folder that PEFT's save_pretrained wrote, with weights in safetensors."
            )
    return read_json(folder / CONFIG)


def _check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse an adapter that changes its base by anything else than `scale · B @ A`."""
    if config.get("peft_type") != "LORA":
        raise PolicyError(
            f"{folder} is an adapter of type {config.get('peft_type')}: "
            "give a LORA adapter, or as a checkpoint what PEFT's merge_and_unload makes of this one."
        )
    start = config.get("init_lora_weights", True) or False
    if (start.lower() if isinstance(start, str) else start) not in _INITIALISATIONS:
        raise PolicyError(
            f"{folder} has init_lora_weights = {start!r}, which changes the base's weights before training: save it "
            "with PEFT's path_initial_model_for_weight_conversion as a plain adapter, or save the model that was "
            "trained with merge_and_unload and give that checkpoint."
        )
    for key, value in config.items():
        if key in _WITHOUT_EFFECT or not value or value == "none":
            continue
        told = f"{folder} has {key} = {value!r}, which changes more than B @ A does"
        if key in _NOT_MERGED_BY_PEFT:
            raise PolicyError(f"{told}: serve base and adapter with a server that knows it, and give its url.")
        raise PolicyError(
            f"{told}: fold the adapter into its base with PEFT's merge_and_unload and give that checkpoint, "
            "or delete the key if it is not one of PEFT's."
        )


def _module(folder: Path, config: Mapping[str, Any], name: str, pair: Mapping[str, TensorInfo]) -> Module:
    if len(pair) != 2:
        raise PolicyError(f"module {name!r} of {folder} has only one of the factors A and B: copy the adapter again.")
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or a.shape[0] == 0:
        raise PolicyError(f"module {name!r} of {folder} has A {a} and B {b}: only factors of matrices can be merged.")
    alpha = _of_module(config, name, "alpha_pattern", "lora_alpha")
    if not isinstance(alpha, int | float):
        raise PolicyError(f"{folder / CONFIG} has lora_alpha = {alpha!r}: write the number that it was trained with.")
    rank = a.shape[0]
    if (stated := _of_module(config, name, "rank_pattern", "r")) not in (rank, None):
        raise PolicyError(
            f"{folder / CONFIG} states rank {stated} for {name!r} and its factors have {rank}: "
            "give config and weights of one training run."
        )
    return Module(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _of_module(config: Mapping[str, Any], name: str, patterns: str, default: str) -> Any:
    """Return a setting of one module as PEFT does: of the first pattern that matches the end of its name."""
    values: Mapping[str, Any] = config.get(patterns) or {}
    return next((values[key] for key in values if re.match(rf"(.*\.)?({key})$", name)), config.get(default))


def stores_in_out(config: Mapping[str, Any], module: str) -> bool:
    """Return whether a base with this config stores the matrix of a module as `[in, out]`.

    It does so in the layers of GPT-2, which are of the class Conv1D. Embeddings and heads are not.
    """
    return config.get("model_type") in ("gpt2", "openai-gpt") and re.search(r"(^|\.)h\.\d+\.", module) is not None


def read_matrix(tensor: TensorInfo) -> Matrix:
    """Return a tensor of any float format, in its shape.

    Raises:
        PolicyError: it has values that are not finite.
    """
    refuse_not_finite([tensor])
    return to_float64(read_bytes(tensor), tensor.dtype).reshape(tensor.shape)
