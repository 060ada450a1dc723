"""Checkpoints on disk: the tensors of a folder, their bytes and fingerprint, and how to write another like it.

safetensors, one file or sharded with an index, read through memory maps and written as a stream: no tensor is
ever held in memory as a whole. It knows nothing of merging.
"""

import hashlib
import json
import math
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alphamix.policies.checkpoints.cache import file_digest
from alphamix.policies.checkpoints.dtypes import (
    BYTES_PER_VALUE,
    FORMAT_OF_DTYPE,
    Bytes,
    Values,
    from_float64,
    to_float64,
)
from alphamix.policies.types import PolicyError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

COMPANIONS = (
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "*.jinja",
)
"""Patterns of the files beside the weights that affect how a policy samples."""

_BITS_PER_ITEM = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F4": 4,
    "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32, "U16": 16, "U8": 8, "BOOL": 8, "C64": 64,
}  # fmt: skip
_VALUES_AT_ONCE = 1 << 18
_LONGEST_HEADER = 100_000_000
"""Maximum length of a header, as in the safetensors library."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Name, format and location of one tensor."""

    name: str
    dtype: str
    """Format as safetensors names it: `F32`, `BF16`, `I64`, …"""
    shape: tuple[int, ...]
    file: Path
    start: int
    """Offset of the first byte from the start of the file."""
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def describe(folder: Path) -> dict[str, TensorInfo]:
    """Read the headers of a checkpoint: every stored tensor by its name, in the order of files and offsets.

    Tied weights appear as often as they are stored, which is once in what transformers writes.

    Raises:
        PolicyError: the folder has no config, or its safetensors files are missing or damaged.
    """
    if not (folder / "config.json").is_file():
        raise PolicyError(
            f"{folder} is not a checkpoint, it has no config.json: give a folder that save_pretrained wrote."
        )
    tensors: dict[str, TensorInfo] = {}
    for file in _weight_files(folder):
        for tensor in read_header(file):
            if tensor.name in tensors:
                other = tensors[tensor.name].file.name
                raise PolicyError(
                    f"tensor {tensor.name!r} is in both {other} and {file.name} of {folder}: copy the checkpoint again."
                )
            tensors[tensor.name] = tensor
    return tensors


def read_bytes(tensor: TensorInfo, start: int = 0, stop: int | None = None) -> Bytes:
    """Return `[stop - start]` bytes of a tensor, from `start` on and to the end by default, as a read-only memory
    map."""
    length = min(tensor.num_bytes if stop is None else stop, tensor.num_bytes) - start
    if length <= 0:
        return np.zeros(0, np.uint8)
    return np.asarray(np.memmap(tensor.file, np.uint8, "r", tensor.start + start, (length,)))


def read_values(tensor: TensorInfo) -> Iterator[Values]:
    """Yield the values of a tensor of floats, `[N]`, in pieces that are equally long for all tensors."""
    size = _VALUES_AT_ONCE * BYTES_PER_VALUE[tensor.dtype]
    for start in range(0, tensor.num_bytes, size):
        yield to_float64(read_bytes(tensor, start, start + size), tensor.dtype)


def write_values(tensor: TensorInfo, pieces: Iterable[Values], cure: str, inputs: Iterable[TensorInfo] = ()) -> None:
    """Write the values of a tensor of floats over those in its file, each rounded once to the tensor's format.

    Raises:
        PolicyError: a value is not finite in one of the `inputs` that it was computed from, or leaves the range of the
            format; `cure` then ends the message.
    """
    with tensor.file.open("r+b") as file:
        file.seek(tensor.start)
        for values in pieces:
            data = from_float64(values, tensor.dtype)
            if not np.isfinite(to_float64(data, tensor.dtype)).all():
                refuse_not_finite(inputs)
                raise PolicyError(f"tensor {tensor.name!r} leaves the range of {tensor.dtype}: {cure}.")
            file.write(data.data)


def refuse_not_finite(inputs: Iterable[TensorInfo]) -> None:
    """Refuse the first tensor that has infinite values or NaN, for which no arithmetic has a cure.

    Raises:
        PolicyError: names the tensor and its file.
    """
    for tensor in inputs:
        if not all(np.isfinite(values).all() for values in read_values(tensor)):
            raise PolicyError(
                f"tensor {tensor.name!r} of {tensor.file} has values that are not finite: copy that checkpoint again, "
                "or leave it out if training broke it."
            )


def num_bytes(dtype: str, shape: Iterable[int]) -> int:
    """Return the number of bytes of a tensor."""
    return math.prod(shape) * _BITS_PER_ITEM[dtype] // 8


def size(folder: Path, dtype: str | None = None) -> int:
    """Return the number of bytes of all tensors of a checkpoint, as if its floats were stored as `dtype` if that is
    given."""
    return sum(num_bytes(written_dtype(tensor, dtype), tensor.shape) for tensor in describe(folder).values())


def written_dtype(tensor: TensorInfo, dtype: str | None) -> str:
    """Return the format that a tensor is written in if floats are to be `dtype`, a key of `FORMAT_OF_DTYPE`; None keeps
    it."""
    return FORMAT_OF_DTYPE[dtype] if dtype and tensor.dtype in BYTES_PER_VALUE else tensor.dtype


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a checkpoint.

    Raises:
        PolicyError: it cannot be read, or is something else.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path} cannot be read as JSON ({error}): copy the checkpoint again.") from error
    if not isinstance(content, dict):
        raise PolicyError(f"{path} does not hold a JSON object: copy the checkpoint again.")
    return content


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object in the form that checkpoints have."""
    path.write_text(json.dumps(content, indent=2) + "\n")


def companions(folder: Path) -> list[Path]:
    """Return the config, generation config, tokenizer and chat template of a checkpoint, sorted by name."""
    return sorted({path for pattern in COMPANIONS for path in folder.glob(pattern) if path.is_file()})


def copy_companions(source: Path, folder: Path) -> None:
    """Copy the `companions` of a checkpoint, except those that the folder already has."""
    for path in companions(source):
        if not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


def tokenizer_files(folder: Path) -> list[Path]:
    """Return the files with the vocabulary of a tokenizer: tokenizer.json alone if it is there."""
    files = [
        path
        for path in companions(folder)
        if path.name in ("tokenizer.json", "vocab.json", "vocab.txt") or path.suffix in (".model", ".tiktoken")
    ]
    return [path for path in files if path.name == "tokenizer.json"] or files


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over names and contents of weights and companions, which is equal exactly if sampling is."""
    total = hashlib.sha256()
    for path in sorted([*_weight_files(folder), *companions(folder)]):
        total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()


def lay_out(path: Path, tensors: Iterable[tuple[str, str, tuple[int, ...]]]) -> list[TensorInfo]:
    """Create a safetensors file for (name, dtype, shape) in this order: its header, then zeros in place of the
    bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, dtype, shape in tensors:
        start, end = end, end + num_bytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin on whole words
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return read_header(path)


def write_index(folder: Path, file_of_tensor: Mapping[str, str], total_size: int) -> None:
    """Write the index of a sharded checkpoint."""
    index = {"metadata": {"total_size": total_size}, "weight_map": dict(sorted(file_of_tensor.items()))}
    write_json(folder / INDEX, index)


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that every engine reads as the weights of a checkpoint.

    Raises:
        PolicyError: there are none, or engines would read different ones.
    """
    single, index = folder / WEIGHTS, folder / INDEX
    files = [single]
    if index.is_file():
        names = read_json(index).get("weight_map")
        if not isinstance(names, dict) or not names:
            raise PolicyError(f"{index} has no weight_map: copy the checkpoint again.")
        files = [folder / name for name in sorted(set(names.values()))]
    others = [index] if single not in files else sorted({*folder.glob("model-*-of-*.safetensors")} - {*files})
    if others and single.is_file():  # transformers would read the single file, vLLM the others or both
        raise PolicyError(
            f"{folder} has both {single.name} and {others[0].name}, and engines differ in which they read: "
            "remove the one that is left over from another checkpoint."
        )
    named = (
        read_json(folder / "config.json").get("transformers_weights") if (folder / "config.json").is_file() else None
    )
    if named not in (None, single.name, index.name):
        raise PolicyError(
            f"{folder / 'config.json'} names {named} as its weights, which only transformers reads: "
            f"rename the file to {single.name} and remove the key transformers_weights."
        )
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise PolicyError(
            f"{folder} has no {absent[0].name}: give a checkpoint in safetensors (save_pretrained writes it)."
        )
    return files


def read_header(path: Path) -> list[TensorInfo]:
    """Read the tensors of one file in the order of their offsets. Offsets outside the file are reported as damage.

    Raises:
        PolicyError: the file is damaged.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _LONGEST_HEADER):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            entries: dict[str, Any] = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        tensors = [_tensor(path, 8 + length, name, entry) for name, entry in entries.items()]
        for tensor in tensors:
            if tensor.start + tensor.num_bytes > size:
                raise ValueError(f"tensor {tensor.name!r} ends beyond the file's {size} bytes")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyError(f"{path} is damaged ({error}): copy the checkpoint again.") from error
    return sorted(tensors, key=lambda tensor: tensor.start)


def _tensor(path: Path, data_start: int, name: str, entry: dict[str, Any]) -> TensorInfo:
    start, end = entry["data_offsets"]
    tensor = TensorInfo(name, entry["dtype"], tuple(entry["shape"]), path, data_start + start, end - start)
    if start < 0 or tensor.num_bytes != num_bytes(tensor.dtype, tensor.shape):
        raise ValueError(f"tensor {name!r} is {tensor} but takes {tensor.num_bytes} bytes")
    return tensor
