"""Record of a merge: `merge.json`, and a config with which mergekit makes the same weights."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE, FORMAT_OF_DTYPE
from alphamix.policies.checkpoints.safetensors_folder import TensorInfo, write_json
from alphamix.policies.merging.affine import Sums

FORMULA = "low + alpha * (high - low), in float64, rounded once"
FORMULA_OF_MANY = "base + sum of weight * (input - base), in float64, rounded once"


def write_records(
    folders: Mapping[tuple[float, ...], Path],
    inputs: Mapping[str, Path],
    fingerprints: Mapping[str, str],
    tensors: Sequence[TensorInfo],
    dtype: str | None,
    sums: Sums,
) -> None:
    """Write both files of every merge of one pass. `tensors` are those of the base."""
    copied = [tensor.name for tensor in tensors if tensor.dtype not in BYTES_PER_VALUE]
    shared = {"dtype": dtype or "as the inputs", "inputs": dict(fingerprints), "copied": copied}
    base, *others = inputs
    length = sums.squared_length
    for (weights, folder), rounding in zip(folders.items(), sums.rounding_A.tolist(), strict=True):
        record: dict[str, Any]
        if len(weights) == 1:
            effective = weights[0] + rounding / length if 0 < length < float("inf") else None
            record = {"formula": FORMULA, "alpha": weights[0], "alpha_effective": effective}
        else:
            record = {"formula": FORMULA_OF_MANY, "base": base, "weights": dict(zip(others, weights, strict=True))}
        write_json(folder / "merge.json", record | shared)
        (folder / "mergekit_config.yml").write_text(_mergekit(inputs, weights, dtype or _main_dtype(tensors)))


def _mergekit(inputs: Mapping[str, Path], weights: Sequence[float], dtype: str) -> str:
    """Return YAML for mergekit ≥ 0.1, which rounds twice where it narrows, through float32, because torch does."""
    base, *others = map(_model, inputs.values())
    models = "".join(
        f"  - model: {model}\n    parameters:\n      weight: {weight!r}\n"
        for model, weight in zip(others, weights, strict=True)
    )
    head = f"merge_method: task_arithmetic\nbase_model: {base}\nmodels:\n{models}"
    return head + f"dtype: float64\nout_dtype: {dtype}\n"


def _model(folder: Path) -> str:
    """Return the name of a checkpoint for mergekit: a hub id and its revision if it came from there, else a folder."""
    snapshot = re.search(r"/models--([^/]+)/snapshots/([0-9a-f]+)$", str(folder))
    if snapshot is None:
        path: dict[str, str] = {"path": str(folder.resolve())}
    else:
        path = {"path": snapshot[1].replace("--", "/"), "revision": snapshot[2]}
    return json.dumps({"model": path})  # JSON is YAML


def _main_dtype(tensors: Sequence[TensorInfo]) -> str:
    """Return the float dtype of most bytes."""
    sizes = {dtype: sum(t.num_bytes for t in tensors if t.dtype == dtype) for dtype in BYTES_PER_VALUE}
    largest = max(sizes, key=lambda dtype: sizes[dtype])
    return next((dtype for dtype, format_ in FORMAT_OF_DTYPE.items() if format_ == largest), "float64")
