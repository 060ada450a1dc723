"""Merges: θ(α) = θ_low + α·(θ_high − θ_low), or any affine combination of checkpoints, exact and streaming,
several in one pass over the inputs.

`compatibility` decides what may be merged, `affine` does the arithmetic, and `provenance` records the merge. This
module plans the files and writes them.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import numpy as np

from alphamix.atomic import whole_folder
from alphamix.policies.checkpoints.dtypes import check_dtype
from alphamix.policies.checkpoints.safetensors_folder import (
    WEIGHTS,
    TensorInfo,
    copy_companions,
    fingerprint,
    lay_out,
    num_bytes,
    read_json,
    write_index,
    write_json,
    written_dtype,
)
from alphamix.policies.checkpoints.target_folder import has_files
from alphamix.policies.merging.affine import Output, Sums, merge_piece, pieces
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.merging.provenance import write_records

_MOST_THREADS = 8

Tensors = tuple[TensorInfo, ...]
"""One tensor in every input."""


def merge(low: Path, high: Path, folders: Mapping[float, Path], *, dtype: str | None = None) -> None:
    """Write θ(α) into `folders[α]` for every α: `combine` for the line through two checkpoints.

    Raises:
        PolicyError: as for `combine`.
    """
    combine({"low": low, "high": high}, {(alpha,): folder for alpha, folder in folders.items()}, dtype=dtype)


def combine(
    inputs: Mapping[str, Path],
    folders: Mapping[tuple[float, ...], Path],
    *,
    dtype: str | None = None,
    shard_size: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> None:
    """Write base + Σ weight·(input − base) into `folders[weights]`, as checkpoints that transformers and vLLM load.

    Arithmetic is float64 and is rounded once, on writing; weights that choose one input give it bit for bit. Each
    folder appears whole or not at all. Config, tokenizer and chat template are those of the base; files that only
    others have are added. Tensors that are not of floats must be equal and are copied. `merge.json` records formula,
    weights, the inputs' fingerprints, and for two inputs the α that is left after rounding; `mergekit_config.yml` is
    the same merge for mergekit.

    Args:
        inputs: Two or more checkpoints by their labels, the base first.
        folders: Folder of each merge, by the weights of the inputs after the base. One that has files is left as it is.
        dtype: `float32`, `float16` or `bfloat16` for all float tensors; None keeps that of each tensor of the base.
        shard_size: Maximum bytes of tensors in a file, unless one tensor has more; None keeps the base's files.
        advance: Called now and then with the number of bytes of each input that have been merged since.

    Raises:
        PolicyError: the checkpoints do not match, or a value leaves the range of the output's dtype.
    """
    check_dtype(dtype)
    tensors = check_mergeable(inputs, any_float=dtype is not None)
    wanted = {weights: folder for weights, folder in folders.items() if not has_files(folder)}
    if not wanted:
        return
    with ExitStack() as stack:
        targets = {weights: stack.enter_context(whole_folder(folder)) for weights, folder in wanted.items()}
        threads = stack.enter_context(_threads())
        prints = {label: threads.submit(fingerprint, folder) for label, folder in inputs.items()}
        sums = _write_weights(threads, _sharded(tensors, dtype, shard_size), targets, dtype, advance)
        _write_companions(inputs, list(targets.values()), dtype)
        fingerprints = {label: future.result() for label, future in prints.items()}
        write_records(targets, inputs, fingerprints, [tensor[0] for tensor in tensors], dtype, sums)


@contextmanager
def _threads() -> Generator[ThreadPoolExecutor]:
    """Provide a pool of threads that starts nothing more once something has failed."""
    pool = ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), _MOST_THREADS))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _sharded(tensors: list[Tensors], dtype: str | None, shard_size: int | None) -> dict[str, list[Tensors]]:
    """Return the tensors by the file that they go to."""
    if shard_size is None:
        return {file.name: list(group) for file, group in groupby(tensors, key=lambda tensor: tensor[0].file)}
    shards: list[list[Tensors]] = []
    room = 0
    for tensor in tensors:
        size = num_bytes(written_dtype(tensor[0], dtype), tensor[0].shape)
        if not shards or size > room:
            shards.append([])
            room = shard_size
        shards[-1].append(tensor)
        room -= size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {f"model-{n:05}-of-{len(shards):05}.safetensors": shard for n, shard in enumerate(shards, 1)}


def _write_weights(
    threads: ThreadPoolExecutor,
    shards: Mapping[str, list[Tensors]],
    targets: Mapping[tuple[float, ...], Path],
    dtype: str | None,
    advance: Callable[[int], object],
) -> Sums:
    total = Sums(0.0, np.zeros(len(targets)))
    for name, tensors in shards.items():
        # Wide formats first, so that every tensor of a file lies aligned.
        tensors.sort(key=lambda tensor: -num_bytes(written_dtype(tensor[0], dtype), (8,)))
        with _files(name, tensors, targets, dtype) as outputs:
            todo = (piece for tensor in tensors for piece in pieces(tensor, outputs[tensor[0].name]))
            # No piece is kept once it is merged: with the last of its tensor, the tensor's maps go.
            futures = [(threads.submit(merge_piece, piece), piece.num_bytes) for piece in todo]
            for future, size in futures:
                total += future.result()
                advance(size)
    if len(shards) > 1 or WEIGHTS not in shards:
        files = {tensor[0].name: name for name, tensors in shards.items() for tensor in tensors}
        sizes = [num_bytes(written_dtype(t[0], dtype), t[0].shape) for tensors in shards.values() for t in tensors]
        for folder in targets.values():
            write_index(folder, files, sum(sizes))
    return total


@contextmanager
def _files(
    name: str, tensors: Sequence[Tensors], targets: Mapping[tuple[float, ...], Path], dtype: str | None
) -> Generator[dict[str, tuple[Output, ...]]]:
    """Lay out one file of every merge, and return the place of each tensor by its name."""
    header = [(tensor[0].name, written_dtype(tensor[0], dtype), tensor[0].shape) for tensor in tensors]
    outputs: dict[str, list[Output]] = {tensor[0].name: [] for tensor in tensors}
    with ExitStack() as stack:
        for weights, folder in targets.items():
            laid_out = lay_out(folder / name, header)
            file = stack.enter_context((folder / name).open("r+b"))
            for tensor in laid_out:
                outputs[tensor.name].append(Output(tensor, file.fileno(), weights))
        yield {name: tuple(of_tensor) for name, of_tensor in outputs.items()}


def _write_companions(inputs: Mapping[str, Path], folders: Sequence[Path], dtype: str | None) -> None:
    for folder in folders:
        for source in inputs.values():
            copy_companions(source, folder)
        if dtype is not None:
            config = read_json(folder / "config.json")
            config["torch_dtype" if "torch_dtype" in config else "dtype"] = dtype
            write_json(folder / "config.json", config)
