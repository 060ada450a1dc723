"""LoRA adapters as PEFT folders: read and written. A module's change of weights is `scale · B @ A`.

Only plain LoRA is read; other adapters of PEFT (DoRA, trained biases, …) are refused. `merge_adapters` merges them.
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
_REFUSED = (
    "use_dora",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
)
"""Keys of the config that make the change of weights something other than `scale · B @ A`."""


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
        PolicyError: the folder is not an adapter, or the adapter is not plain LoRA (DoRA, for example).
    """
    config = _read_config(folder)
    if config.get("peft_type") != "LORA":
        raise PolicyError(f"{folder} is an adapter of type {config.get('peft_type')}: give a LORA adapter.")
    special = [key for key in _REFUSED if config.get(key)]
    if config.get("bias", "none") != "none":
        special.append("bias")
    if special:
        raise PolicyError(
            f"{folder} has {special[0]} = {config[special[0]]!r}, which changes more than B @ A does: "
            "fold the adapter into its base with PEFT's merge_and_unload and merge the checkpoints."
        )
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
        whole = {name.removeprefix(PREFIX).rpartition(".")[0] for name in saved if BASE_LAYER not in name}
        own["modules_to_save"] = sorted(whole) or None
        write_json(temporary / CONFIG, {"task_type": "CAUSAL_LM", "lora_dropout": 0.0, **config, **own})
        write_json(temporary / RECORD, record())


def _read_config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, ADAPTER_WEIGHTS):
        if not (folder / name).is_file():
            raise PolicyError(
                f"{folder} is not an adapter, it has no {name}: give a folder that PEFT's save_pretrained wrote."
            )
    return read_json(folder / CONFIG)


def _module(folder: Path, config: Mapping[str, Any], name: str, pair: Mapping[str, TensorInfo]) -> Module:
    if len(pair) != 2:
        raise PolicyError(f"module {name!r} of {folder} has only one of the factors A and B: copy the adapter again.")
    a, b = pair["A"], pair["B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or a.shape[0] == 0:
        raise PolicyError(f"module {name!r} of {folder} has A {a} and B {b}: only factors of matrices can be merged.")
    patterns = config.get("alpha_pattern") or {}
    # As PEFT finds it: the first pattern that matches the end of the module's name.
    alpha = next((patterns[key] for key in patterns if re.match(rf"(.*\.)?({key})$", name)), config.get("lora_alpha"))
    if not isinstance(alpha, int | float):
        raise PolicyError(f"{folder / CONFIG} has lora_alpha = {alpha!r}: write the number that it was trained with.")
    rank = a.shape[0]
    return Module(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def read_matrix(tensor: TensorInfo) -> Matrix:
    """Return a tensor of any float format, in its shape."""
    return to_float64(read_bytes(tensor), tensor.dtype).reshape(tensor.shape)
