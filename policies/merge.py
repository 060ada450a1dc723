"""Merges: θ(α) = θ_low + α·(θ_high − θ_low), exact and streaming, several α in one pass over the two
checkpoints.

Arithmetic is float64 and is rounded once, on writing. α = 0 and α = 1 give the inputs bit for bit.
What may be merged is decided by `check_mergeable`, from headers and configs alone.
"""

import json
import shutil
import uuid
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from policies.floats import BYTES_PER_VALUE, FORMAT_OF_DTYPE, Bytes, Values, from_float64, to_float64
from policies.types import PolicyError
from policies.weights import (
    INDEX,
    TensorInfo,
    companions,
    describe,
    fingerprint,
    num_bytes,
    read_bytes,
    read_json,
    start_file,
    write_index,
)

FORMULA = "low + alpha * (high - low), in float64, rounded once"

_VALUES_PER_CHUNK = 1 << 18
"""Values worked on at once: a few arrays of this length fit into a core's cache."""

_SAME_IN_BOTH = (
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
"""Keys of the config that change what weights mean, most of them without changing any shape."""


@dataclass(slots=True)
class _Output:
    """One merge on its way to disk. The sums give the α that the rounded weights really have."""

    alpha: float
    folder: Path
    files: dict[str, BinaryIO] = field(default_factory=dict)
    along: float = 0.0
    """Σ (merged − low)·(high − low)"""


def check_mergeable(low: Path, high: Path) -> None:
    """Check that two checkpoints have the same tensors, architecture and vocabulary, without reading weights.

    Raises:
        PolicyError: names the first tensor, config key or token that differs, with both values.
    """
    low_tensors, high_tensors = describe(low), describe(high)
    pair = f"{low} (low) and {high} (high) cannot be merged"
    for name in sorted(low_tensors.keys() | high_tensors.keys()):
        one, other = low_tensors.get(name), high_tensors.get(name)
        if one is None or other is None:
            where, absent = ("high", "low") if one is None else ("low", "high")
            raise PolicyError(f"{pair}: tensor {name!r} is in {where} but not in {absent}; {_CURE}")
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            raise PolicyError(f"{pair}: tensor {name!r} is {one} in low and {other} in high; {_CURE}")
    low_config, high_config = read_json(low / "config.json"), read_json(high / "config.json")
    for key in _SAME_IN_BOTH:
        if key in low_config and key in high_config and low_config[key] != high_config[key]:
            values = f"{low_config[key]!r} in low and {high_config[key]!r} in high"
            raise PolicyError(f"{pair}: {key} of config.json is {values}; {_CURE}")
    low_tokens, high_tokens = _vocabulary(low), _vocabulary(high)
    for token in sorted(low_tokens.keys() | high_tokens.keys()) if low_tokens and high_tokens else ():
        if low_tokens.get(token) != high_tokens.get(token):
            values = f"{low_tokens.get(token)!r} in low and {high_tokens.get(token)!r} in high"
            raise PolicyError(f"{pair}: token {token} is {values}; {_CURE}")


_CURE = "merge only checkpoints that were trained from one initialisation."


def merge(low: Path, high: Path, folders: Mapping[float, Path], *, dtype: str | None = None) -> None:
    """Write θ(α) into `folders[α]` for every α, as checkpoints that transformers and vLLM load.

    Each folder appears whole or not at all. Shards, config, tokenizer and chat template are those of `low`;
    files that only `high` has are added. Integer tensors must be equal. `merge.json` records the formula, the
    inputs' fingerprints and the α that is left after rounding.

    Args:
        low: The checkpoint at α = 0.
        high: The checkpoint at α = 1.
        folders: Where each α goes. One that exists is left as it is.
        dtype: `float32`, `float16` or `bfloat16` for all float tensors; None keeps each tensor's own.

    Raises:
        PolicyError: the checkpoints do not match, or a value leaves the range of the output's dtype.
    """
    check_mergeable(low, high)
    if dtype is not None and dtype not in FORMAT_OF_DTYPE:
        raise PolicyError(f"a merge cannot be written as {dtype!r}: choose one of {', '.join(FORMAT_OF_DTYPE)}.")
    with ExitStack() as stack:
        outputs = [
            _Output(alpha, stack.enter_context(_appearing(folder)))
            for alpha, folder in folders.items()
            if not folder.exists()
        ]
        if outputs:
            length = _write_weights(low, high, outputs, FORMAT_OF_DTYPE.get(dtype or ""))
            prints = {"low": fingerprint(low), "high": fingerprint(high)}
            for output in outputs:
                _write_companions(low, high, output.folder, dtype)
                effective = output.along / length if 0 < length < np.inf else None
                record = {"formula": FORMULA, "alpha": output.alpha, "alpha_effective": effective}
                record |= {"dtype": dtype or "as the inputs", "inputs": prints}
                (output.folder / "merge.json").write_text(json.dumps(record, indent=2) + "\n")


@contextmanager
def _appearing(folder: Path) -> Generator[Path]:
    """Give a temporary folder that becomes `folder` in one step at the end, and vanishes on failure."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
    temporary.mkdir()
    try:
        yield temporary
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process made the same merge first
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_weights(low: Path, high: Path, outputs: list[_Output], out_dtype: str | None) -> float:
    """Stream all tensors into every output; return |high − low|²."""
    high_tensors = describe(high)
    squared_length = 0.0
    file_of_tensor: dict[str, str] = {}
    total_size = 0
    for file, group in groupby(describe(low).values(), key=lambda tensor: tensor.file):
        # Wide formats first, so that every tensor of a file lies aligned.
        tensors = sorted(group, key=lambda tensor: -num_bytes(_written_dtype(tensor, out_dtype), (8,)))
        header = [(tensor.name, _written_dtype(tensor, out_dtype), tensor.shape) for tensor in tensors]
        file_of_tensor |= {name: file.name for name, _, _ in header}
        total_size += sum(num_bytes(dtype, shape) for _, dtype, shape in header)
        with ExitStack() as stack:
            for output in outputs:
                output.files[file.name] = stack.enter_context(start_file(output.folder / file.name, header))
            for tensor in tensors:
                squared_length += _write_tensor(tensor, high_tensors[tensor.name], outputs, out_dtype)
    if (low / INDEX).is_file():
        for output in outputs:
            write_index(output.folder, file_of_tensor, total_size)
    return squared_length


def _write_tensor(low: TensorInfo, high: TensorInfo, outputs: list[_Output], out_dtype: str | None) -> float:
    """Append one tensor to every output; return its part of |high − low|²."""
    low_bytes, high_bytes = read_bytes(low), read_bytes(high)
    if low.dtype not in BYTES_PER_VALUE:
        if not np.array_equal(low_bytes, high_bytes):
            raise PolicyError(
                f"tensor {low.name!r} is {low} and differs between {low.file.parent} and {high.file.parent}: "
                f"only float tensors can be merged, others must be equal."
            )
        for output in outputs:
            output.files[low.file.name].write(low_bytes.data)
        return 0.0
    step = _VALUES_PER_CHUNK * BYTES_PER_VALUE[low.dtype]
    squared_length = 0.0
    for start in range(0, low.num_bytes, step):
        low_chunk, high_chunk = low_bytes[start : start + step], high_bytes[start : start + step]
        low_values, high_values = to_float64(low_chunk, low.dtype), to_float64(high_chunk, high.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # told below, with the tensor's name
            difference = high_values - low_values
            squared_length += float(difference @ difference)
        for output in outputs:
            dtype = _written_dtype(low, out_dtype)
            if output.alpha in (0, 1):  # low + (high − low) need not be high, in floating point
                chunk, values = (low_chunk, low_values) if output.alpha == 0 else (high_chunk, high_values)
                data = chunk if dtype == low.dtype else from_float64(values, dtype)
            else:
                data = _merged(output.alpha, low_values, difference, low, dtype)
            output.along += float((to_float64(data, dtype) - low_values) @ difference)
            output.files[low.file.name].write(data.data)
    return squared_length


def _merged(alpha: float, low: Values, difference: Values, tensor: TensorInfo, dtype: str) -> Bytes:
    with np.errstate(over="ignore", invalid="ignore"):
        data = from_float64(low + alpha * difference, dtype)
    if not np.isfinite(to_float64(data, dtype)).all():
        raise PolicyError(
            f"tensor {tensor.name!r} leaves the range of {dtype} at alpha = {alpha:g}: "
            "choose an alpha nearer to 0 or 1, or write the merge as float32."
        )
    return data


def _written_dtype(tensor: TensorInfo, out_dtype: str | None) -> str:
    return out_dtype if out_dtype and tensor.dtype in BYTES_PER_VALUE else tensor.dtype


def _write_companions(low: Path, high: Path, folder: Path, dtype: str | None) -> None:
    for path in [*companions(low), *companions(high)]:
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    if dtype is not None:
        config = read_json(folder / "config.json")
        config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _vocabulary(folder: Path) -> dict[int, Any]:
    """Token by id, from tokenizer.json; empty where the tokenizer is kept in another form."""
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
