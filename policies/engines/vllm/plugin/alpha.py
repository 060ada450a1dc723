"""A worker of vLLM that changes its weights in place: base + Σ weight·(other − base), as merges on disk are.

vLLM mixes `AlphaExtension` into its worker class (`--worker-extension-cls`). The checkpoints stay on disk, read
through memory maps; each tensor is merged by `merging.affine` (float64, rounded once to the base's dtype) and goes
through the model's own loader, so that the weights are those that vLLM would load from the merged checkpoint. Every
worker of a model merges all tensors and keeps its part.
"""

import json
import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm.model_executor.layers.vocab_parallel_embedding import (  # pyright: ignore[reportMissingImports]
    UnquantizedEmbeddingMethod,
)

from alphamix.policies.checkpoints.safetensors_folder import TensorInfo
from alphamix.policies.merging.affine import Output, merge_piece, pieces
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.types import PolicyError

Tensors = Iterator[tuple[str, Tensor]]

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""Torch dtype of each format of safetensors."""


class AlphaExtension:
    """Calls that a client makes through `/collective_rpc`, which passes and returns only strings and JSON.

    A call returns `{"digest": checksum}` of the weights in the model's dtype, or `{"error": message}`.
    """

    model_config: Any
    reload_weights: Any
    get_model: Any

    def alphamix_switch(self, base: str, terms: str) -> dict[str, str]:
        """Load the merge of a base's folder and `terms`, the JSON of [[folder, weight], …]."""
        return self._alphamix_run(base, terms, self._alphamix_load)

    def alphamix_digest(self, base: str, terms: str) -> dict[str, str]:
        """Compute the checksum of that merge without loading it."""
        return self._alphamix_run(base, terms, lambda tensors: sum(1 for _ in tensors))

    def _alphamix_load(self, tensors: Tensors) -> None:
        self.reload_weights(weights_iterator=tensors)
        # On a CPU vLLM multiplies by a packed copy of the output layer. A reload does not update that copy if the layer
        # is tied to the embeddings. Elsewhere, packing again does nothing.
        for layer in self.get_model().modules():
            if isinstance(getattr(layer, "quant_method", None), UnquantizedEmbeddingMethod):
                layer.quant_method.process_weights_after_loading(layer)

    def _alphamix_run(self, base: str, terms: str, use: Callable[[Tensors], object]) -> dict[str, str]:
        checksum = [0]

        def summed(tensors: Tensors) -> Tensors:
            for name, tensor in tensors:
                checksum[0] = zlib.crc32(name.encode(), checksum[0])
                seen = tensor.to(self.model_config.dtype) if tensor.is_floating_point() else tensor
                data: Any = seen.flatten().view(torch.uint8).numpy()
                checksum[0] = zlib.crc32(data, checksum[0])
                yield name, tensor

        try:
            use(summed(_merged(base, json.loads(terms))))
        except PolicyError as error:
            return {"error": str(error)}
        return {"digest": f"{checksum[0]:08x}"}


@lru_cache(maxsize=64)
def _tensors(folders: tuple[str, ...]) -> list[tuple[TensorInfo, ...]]:
    return check_mergeable({folder: Path(folder) for folder in folders})


def _merged(base: str, terms: Sequence[tuple[str, float]]) -> Tensors:
    """Yield every tensor of base + Σ weight·(input − base), one at a time, each in memory of its own.

    Raises:
        PolicyError: the folders cannot be merged. It is raised before any tensor is loaded.
    """
    if terms:
        tensors, weights = _tensors((base, *(folder for folder, _ in terms))), tuple(weight for _, weight in terms)
    else:  # merging needs another input: with weight 0, any input gives the base back bit for bit
        tensors, weights = [(tensor, tensor) for (tensor,) in _tensors((base,))], (0.0,)
    unknown = next((inputs[0] for inputs in tensors if inputs[0].dtype not in _DTYPES), None)
    if unknown is not None:
        raise PolicyError(f'tensor {unknown.name!r} is {unknown}: serve its merges with serve = "servers".')

    def merged() -> Tensors:
        with ThreadPoolExecutor() as threads:
            for inputs in tensors:
                yield inputs[0].name, _merge(inputs, weights, threads)

    return merged()


def _merge(inputs: tuple[TensorInfo, ...], weights: tuple[float, ...], threads: ThreadPoolExecutor) -> Tensor:
    tensor = inputs[0]
    if tensor.num_bytes == 0:
        return torch.empty(tensor.shape, dtype=_DTYPES[tensor.dtype])
    descriptor = os.memfd_create(tensor.name[-200:])
    try:
        os.ftruncate(descriptor, tensor.num_bytes)
        output = (Output(replace(tensor, start=0), descriptor, weights),)
        list(threads.map(merge_piece, pieces(inputs, output)))
        memory = mmap.mmap(descriptor, tensor.num_bytes)  # lives as long as the tensor
    finally:
        os.close(descriptor)
    return torch.frombuffer(memory, dtype=_DTYPES[tensor.dtype]).reshape(tensor.shape)
