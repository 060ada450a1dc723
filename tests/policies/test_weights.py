"""Checkpoints are described and written as the safetensors library would, and damage is told."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alphamix.policies.checkpoints.safetensors_folder import describe, fingerprint, lay_out, read_bytes
from alphamix.policies.types import PolicyError

from .conftest import MakeCheckpoint


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_headers_and_bytes_are_those_of_the_library(make_checkpoint: MakeCheckpoint, shard: str) -> None:
    folder = make_checkpoint("low", dtype=torch.bfloat16, shard=shard)
    files = sorted(folder.glob("*.safetensors"))
    assert (len(files) > 1) == (shard == "20KB")
    expected = {name: tensor for file in files for name, tensor in load_file(file).items()}
    tensors = describe(folder)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == "BF16"
        assert tensor.shape == tuple(expected[name].shape)
        assert bytes(read_bytes(tensor)) == expected[name].contiguous().view(torch.uint8).numpy().tobytes()


def test_what_is_written_is_read_by_the_library(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    laid_out = {
        tensor.name: tensor for tensor in lay_out(path, [("a", "F32", (2, 3)), ("s", "I64", ()), ("e", "F32", (0, 4))])
    }
    with path.open("r+b") as file:
        for name, data in (("s", np.array(7, "<i8")), ("a", np.arange(6, dtype="<f4"))):
            file.seek(laid_out[name].start)
            file.write(data.tobytes())
    tensors = load_file(path)
    assert torch.equal(tensors["a"], torch.arange(6.0).reshape(2, 3))
    assert tensors["s"].item() == 7
    assert tensors["e"].shape == (0, 4)


def test_tied_weights_are_stored_once(make_checkpoint: MakeCheckpoint) -> None:
    assert "lm_head.weight" not in describe(make_checkpoint("tied", tie_word_embeddings=True))
    assert "lm_head.weight" in describe(make_checkpoint("untied", tie_word_embeddings=False))


def test_the_fingerprint_follows_weights_and_tokenizer_only(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint("low")
    before = fingerprint(folder)
    copy = shutil.copytree(folder, folder.with_name("copy"))
    (copy / "README.md").write_text("a card")
    assert fingerprint(copy) == before
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    assert fingerprint(copy) != before
    shutil.copy(folder / "tokenizer.json", tokenizer)
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    assert fingerprint(copy) != before


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def with_an_endless_header(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")


def with_lying_offsets(folder: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


def with_a_shard_missing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("damage", "part"),
    [
        (truncated, "is damaged"),
        (without_weights, "has no model.safetensors"),
        (without_config, "has no config.json"),
        (with_an_endless_header, "is damaged"),
        (with_lying_offsets, "is damaged"),
        (with_a_shard_missing, "has no model-00001-of-00002.safetensors"),
    ],
)
def test_damage_is_told_in_one_line(make_checkpoint: MakeCheckpoint, damage: object, part: str) -> None:
    folder = make_checkpoint("low")
    assert callable(damage)
    damage(folder)
    with pytest.raises(PolicyError, match=part) as told:
        describe(folder)
    assert "\n" not in str(told.value)
