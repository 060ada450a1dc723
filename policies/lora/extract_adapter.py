"""The low-rank part of what training changed: the difference of two checkpoints as a LoRA adapter, by SVD.

Nothing is dropped silently: every changed tensor is reported with its energy, the squared Frobenius norm of its change,
and with the share of it that the adapter keeps.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import svds

from alphamix.policies.checkpoints.as_transformers import as_loaded
from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE
from alphamix.policies.checkpoints.safetensors_folder import TensorInfo, fingerprint, read_bytes, read_json, read_values
from alphamix.policies.checkpoints.target_folder import has_files
from alphamix.policies.checkpoints.tied_weights import ties_embeddings
from alphamix.policies.lora.peft_folder import (
    PREFIX,
    RECORD,
    LazyTensors,
    Matrix,
    read_matrix,
    stores_in_out,
    write_adapter,
)
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.types import PolicyError

_EMBEDDING = re.compile(r"(^|[._])(embed\w*|\w*embeddings?|wte|wpe|lm_head|embed_out)\.weight$")
"""Names of embeddings and heads: engines do not serve LoRA on them."""
_SHARE_FOR_LANCZOS = 1 / 8
"""Share of the full rank below which Lanczos iteration is cheaper than a full decomposition."""

Pair = tuple[TensorInfo, TensorInfo]


@dataclass(slots=True)
class Kept:
    """Part of the change of one tensor that an adapter keeps."""

    tensor: str
    energy: float
    """Energy ‖Δ‖², the squared Frobenius norm of the change."""
    kept: float
    """Share of the energy that the written adapter has: 1 − ‖Δ − B·A‖² / ‖Δ‖², after rounding."""
    how: str
    """`factors`, `saved` whole, or `lost`."""


def extract_adapter(
    base: Path, tuned: Path, folder: Path, *, rank: int, target: str | None = None, save_rest: bool = False
) -> list[Kept]:
    """Write the best rank-`rank` adapter from `base` towards `tuned` as a PEFT folder; one that has files stays.

    Each matrix of a linear module is decomposed in float64 (Eckart and Young, 1936: no other factors of the rank come
    nearer); both factors take the square roots of the singular values and are rounded once, to float32. The rank is
    the same for all modules, as vLLM requires: at most the largest full rank, and smaller matrices are padded with
    zeros. Modules are those that the regular expression `target` matches somewhere, or every linear one.

    With `save_rest`, what factors do not cover (norms, embeddings with their tied head) is kept whole, as PEFT's
    `modules_to_save`. PEFT loads that, vLLM does not. Biases of modules with factors are lost even so.

    Returns:
        One entry for every tensor that differs, in the order of the checkpoint.

    Raises:
        PolicyError: the checkpoints do not match or do not differ, or no module is left.
    """
    if rank < 1:
        raise PolicyError(f"the rank of an adapter is {rank}: give 1 or more.")
    energies = {(one, other): _energy((one, other)) for one, other in check_mergeable({"base": base, "tuned": tuned})}
    pairs = [pair for pair, energy in energies.items() if energy]
    config = read_json(base / "config.json")
    covered = [pair for pair in pairs if _is_linear(pair[0], config) and re.search(target or "", pair[0].name)]
    if not covered:
        reason = "no linear module differs" if target is None else f"no linear module that differs matches {target!r}"
        raise PolicyError(f"{base} and {tuned} give no adapter: {reason}; give two checkpoints of one training run.")
    if has_files(folder):
        return [Kept(**entry) for entry in read_json(folder / RECORD)["tensors"]]
    rank = min(rank, max(min(pair[0].shape) for pair in covered))
    report = {pair[0].name: Kept(pair[0].name, energies[pair], 0.0, "lost") for pair in pairs}
    names = {tensor.name: name for name, tensor in as_loaded(base, {pair[0].name: pair[0] for pair in pairs}).items()}
    modules: dict[str, LazyTensors] = {}
    for pair in covered:
        module = names[pair[0].name].removesuffix(".weight")
        modules[module] = _factors(pair, module, rank, stores_in_out(config, module), report[pair[0].name])
    saved: dict[str, tuple[tuple[int, ...], Callable[[], Matrix]]] = {}
    for pair in (pair for pair in pairs if pair not in covered):
        entry = report[pair[0].name]
        name = names.get(pair[0].name)
        if save_rest and name is not None and name.rpartition(".")[0] not in modules:
            entry.kept, entry.how = 1.0, "saved"
            for copy in _with_tied_head(name, base):
                saved[PREFIX + copy] = (pair[1].shape, lambda tensor=pair[1]: read_matrix(tensor))
    provenance = {"formula": "truncated SVD of tuned - base, in float64, rounded once", "rank": rank}
    provenance |= {"inputs": {"base": fingerprint(base), "tuned": fingerprint(tuned)}}
    write_adapter(
        folder,
        {"base_model_name_or_path": str(base), "fan_in_fan_out": any(stores_in_out(config, m) for m in modules)},
        rank,
        modules,
        saved,
        lambda: provenance | {"tensors": [asdict(entry) for entry in report.values()]},
    )
    return list(report.values())


def _is_linear(tensor: TensorInfo, config: dict[str, Any]) -> bool:
    """Return whether the tensor is the matrix of a linear module, and neither an embedding nor the head."""
    is_matrix = len(tensor.shape) == 2 and tensor.name.endswith(".weight")
    return is_matrix and not _EMBEDDING.search(tensor.name) and config.get("vocab_size") != tensor.shape[0]


def _with_tied_head(name: str, base: Path) -> list[str]:
    """Return a saved embedding together with its tied head: PEFT copies the embedding, and would leave the head
    unchanged."""
    is_tied = name == "model.embed_tokens.weight" and ties_embeddings(base)
    return [name, "lm_head.weight"] if is_tied else [name]


def _factors(pair: Pair, module: str, rank: int, turned: bool, entry: Kept) -> LazyTensors:
    """Decompose when A is asked for, keep B until it is asked for, and record the energy kept."""
    name = PREFIX + module
    width_out, width_in = reversed(pair[0].shape) if turned else pair[0].shape
    b_of_module: list[Matrix] = []

    def a() -> Matrix:
        change = read_matrix(pair[1]) - read_matrix(pair[0])
        if turned:
            change = change.T
        a, b = truncated(change, rank)
        b_of_module.append(b)
        entry.energy = float(np.vdot(change, change))
        rest = change - b.astype(np.float32).astype(np.float64) @ a.astype(np.float32).astype(np.float64)
        entry.kept, entry.how = 1 - float(np.vdot(rest, rest)) / entry.energy, "factors"
        return a

    return {
        f"{name}.lora_A.weight": ((rank, width_in), a),
        f"{name}.lora_B.weight": ((width_out, rank), b_of_module.pop),
    }


def truncated(change: Matrix, rank: int) -> tuple[Matrix, Matrix]:
    """Return A, `[rank, in]`, and B, `[out, rank]`, whose product B·A is nearest to `change`, `[out, in]`.

    Below an eighth of the full rank, Lanczos bidiagonalisation (PROPACK) is as accurate and much quicker. A matrix of
    lower rank is padded with zeros.
    """
    full = min(change.shape)
    if rank < _SHARE_FOR_LANCZOS * full:
        u, s, vt = svds(change, k=rank, solver="propack", rng=np.random.default_rng(0))
        order = np.argsort(-s)
        u, s, vt = u[:, order], s[order], vt[order]
    else:
        u, s, vt = scipy.linalg.svd(change, full_matrices=False, check_finite=False)
    width = min(rank, full)
    a, b = np.zeros((rank, change.shape[1])), np.zeros((change.shape[0], rank))
    a[:width] = np.sqrt(s[:width, None]) * vt[:width]
    b[:, :width] = u[:, :width] * np.sqrt(s[:width])
    return a, b


def _energy(pair: Pair) -> float:
    """Return ‖Δ‖², computed piece by piece; 0 for a tensor that is not of floats."""
    one, other = pair
    if one.dtype not in BYTES_PER_VALUE:
        if not np.array_equal(read_bytes(one), read_bytes(other)):
            raise PolicyError(f"tensor {one.name!r} is {one} and differs: give checkpoints in a float format.")
        return 0.0
    changes = (after - before for before, after in zip(read_values(one), read_values(other), strict=True))
    return sum(float(np.vdot(change, change)) for change in changes)
