"""Embeddings and output layers that are one weight: whether a checkpoint ties them, and whether its files agree."""

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from alphamix.policies.checkpoints.as_transformers import resolved_config
from alphamix.policies.checkpoints.safetensors_folder import TensorInfo, read_bytes, read_json
from alphamix.policies.types import PolicyError

EMBEDDINGS = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|embed_in)\.weight$")
OUTPUT_LAYER = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
"""Names of both, in the models of transformers."""

_BYTES_COMPARED_AT_ONCE = 1 << 22


def ties_embeddings(folder: Path) -> bool:
    """Return whether a config ties the output layer to the embeddings; True if that cannot be told."""
    config: Mapping[str, Any] = read_json(folder / "config.json")
    if "tie_word_embeddings" not in config:
        config = resolved_config(folder) or {}
    return bool(config.get("tie_word_embeddings", True))


def check_tied(folder: Path, tensors: Mapping[str, TensorInfo]) -> None:
    """Check that embeddings and output layer are equal where both are stored and the config says that they are one.

    Raises:
        PolicyError: they differ. vLLM would run the embeddings as output layer, transformers the stored one.
    """
    heads = [tensor for name, tensor in tensors.items() if OUTPUT_LAYER.search(name)]
    tables = [tensor for name, tensor in tensors.items() if EMBEDDINGS.search(name)]
    for table, head in zip(tables, heads, strict=False):
        if not is_equal(table, head) and ties_embeddings(folder):
            raise PolicyError(
                f"{folder} stores {table.name!r} and {head.name!r}, which differ although its config ties them: write "
                '"tie_word_embeddings": false into its config.json if both are meant, or remove the output layer.'
            )


def is_equal(one: TensorInfo, other: TensorInfo) -> bool:
    """Return whether two tensors have the same format, shape and bytes."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    edges = [*range(0, one.num_bytes, _BYTES_COMPARED_AT_ONCE), one.num_bytes]
    return all(np.array_equal(read_bytes(one, *edge), read_bytes(other, *edge)) for edge in pairwise(edges))
