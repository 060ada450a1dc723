"""Trajectories: checkpoints of one training run by their steps, how straight they are, and where the line leads.

Both ways to extrapolate are affine combinations of the checkpoints, tensor by tensor. *lines*: a least-squares line
per weight; its value at step s is Σ wᵢ·θᵢ with wᵢ = 1/T + (s − t̄)(tᵢ − t̄) / Σ(tⱼ − t̄)². *rank-1* (RELEX,
arXiv 2605.21468): per tensor the changes since the first checkpoint are projected on their first singular direction
u, a line a + b·t is fitted to the coordinates, and the weights are θ₀ + (a + b·s)·u.

R² of a weight is that of its least-squares line, 1 − SSE/SST over the checkpoints. Selected are the weights whose
range over the checkpoints is above `min_range`: one that never moves has no R². RLVR-Linearity (arXiv 2601.04537)
takes 10⁻⁴ and a sample; here every selected weight counts. `mean` weighs weights alike, `pooled` = 1 − ΣSSE/ΣSST
weighs them by how far they moved. Two checkpoints always lie on a line, so they have no R² at all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np

from alphamix.atomic import whole_folder
from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE, Values
from alphamix.policies.checkpoints.safetensors_folder import (
    INDEX,
    TensorInfo,
    copy_companions,
    fingerprint,
    lay_out,
    read_bytes,
    read_values,
    write_index,
    write_json,
    write_values,
)
from alphamix.policies.checkpoints.target_folder import has_files
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.policy_file.recipes import Method
from alphamix.policies.types import PolicyError

STRAIGHT = 0.7
"""R² from which the paper calls a weight linear."""


@dataclass(frozen=True, slots=True)
class Linearity:
    """Linearity of the selected weights of a tensor, or of all tensors. None where a figure is undefined."""

    num_weights: int
    num_selected: int
    mean: float | None
    pooled: float | None
    straight: float | None
    """Share of the selected weights with R² ≥ 0.7."""


def linearity(checkpoints: Mapping[int, Path], *, min_range: float = 0.0) -> dict[str, Linearity]:
    """Return R² by tensor, and under the empty name that of all weights together.

    Raises:
        PolicyError: fewer than two checkpoints, or they do not match.
    """
    steps_T, tensors = _aligned(checkpoints)
    sums = {tensor[-1].name: _sums(tensor, steps_T, min_range) for tensor in tensors}
    defined = len(steps_T) > 2
    rows = {name: _linearity(row, defined) for name, row in sums.items()}
    return {**rows, "": _linearity(np.sum(list(sums.values()), axis=0), defined)}


def extrapolate(
    checkpoints: Mapping[int, Path], step: float, folder: Path, *, method: Method = "lines", norms: bool = True
) -> None:
    """Write the weights that the trajectory leads to at `step` as a checkpoint, whole or not at all.

    Arithmetic is float64, rounded once to the dtype of the last checkpoint. Files, config and tokenizer are the last
    one's, and so are normalisation layers unless `norms` is true. `trajectory.json` records how the weights were made.
    A folder that has files is left as it is.

    Raises:
        PolicyError: the checkpoints do not match, or a value leaves the range of its dtype.
    """
    if not np.isfinite(step):
        raise PolicyError(f"the step is {step}: give a finite number.")
    steps_T, tensors = _aligned(checkpoints)
    if has_files(folder):
        return
    last = checkpoints[int(steps_T[-1])]
    with whole_folder(folder) as temporary:
        for file, group in groupby(tensors, key=lambda tensor: tensor[-1].file):
            of_file = {tensor[-1].name: tensor for tensor in group}
            header = [(name, tensor[-1].dtype, tensor[-1].shape) for name, tensor in of_file.items()]
            for written in lay_out(temporary / file.name, header):
                tensor = of_file[written.name]
                is_copied = not norms and "norm" in written.name.lower()
                weights_T = np.eye(len(tensor))[-1] if is_copied else _weights(tensor, steps_T, step, method)
                if written.dtype in BYTES_PER_VALUE:
                    pieces = (weights_T @ values_TN for values_TN in _chunks(tensor))
                    write_values(written, pieces, "choose a nearer step", tensor)
                else:
                    _copy(tensor, written)
        if (last / INDEX).is_file():
            files = {tensor[-1].name: tensor[-1].file.name for tensor in tensors}
            write_index(temporary, files, sum(tensor[-1].num_bytes for tensor in tensors))
        copy_companions(last, temporary)
        prints = {str(s): fingerprint(checkpoints[int(s)]) for s in steps_T}
        record = {"method": method, "step": step, "norms": "extrapolated" if norms else "copied", "inputs": prints}
        write_json(temporary / "trajectory.json", record)


def _aligned(checkpoints: Mapping[int, Path]) -> tuple[Values, list[tuple[TensorInfo, ...]]]:
    """Return the steps in order, and every tensor at every step, in the order of the last checkpoint's files."""
    if len(checkpoints) < 2:
        raise PolicyError(f"a trajectory of {len(checkpoints)} checkpoints has no direction: give two or more.")
    steps = sorted(checkpoints)
    backwards = check_mergeable({f"step {step}": checkpoints[step] for step in reversed(steps)})
    return np.array(steps, float), [tensor[::-1] for tensor in backwards]


def _chunks(tensor: tuple[TensorInfo, ...]) -> Iterator[Values]:
    """Yield `[T, N]` values, a range at a time."""
    yield from map(np.stack, zip(*map(read_values, tensor), strict=True))


def _sums(tensor: tuple[TensorInfo, ...], steps_T: Values, min_range: float) -> Values:
    """Return [weights, selected, ΣR², ΣSSE, ΣSST, number with R² ≥ 0.7]."""
    total = np.zeros(6)
    if tensor[0].dtype not in BYTES_PER_VALUE:
        return total
    centred_T = (steps_T - steps_T.mean()) / np.linalg.norm(steps_T - steps_T.mean())
    for values_TN in _chunks(tensor):
        moving = np.ptp(values_TN, axis=0) > min_range
        values_TM = values_TN[:, moving] - values_TN[0, moving]
        values_TM -= values_TM.mean(axis=0)
        sst_M = (values_TM**2).sum(axis=0)
        sse_M = ((values_TM - np.outer(centred_T, centred_T @ values_TM)) ** 2).sum(axis=0)
        r2_M = 1 - sse_M / sst_M
        sums = (len(moving), moving.sum(), r2_M.sum(), sse_M.sum(), sst_M.sum(), (r2_M >= STRAIGHT).sum())
        total += np.array(sums, float)
    return total


def _linearity(sums: Values, defined: bool) -> Linearity:
    weights, selected, r2, sse, sst, straight = map(float, sums)
    if not defined or selected == 0:
        return Linearity(int(weights), int(selected), None, None, None)
    return Linearity(int(weights), int(selected), r2 / selected, 1 - sse / sst, straight / selected)


def line_weights(steps: Sequence[int], step: float) -> list[Fraction]:
    """Return the weights of the checkpoints at `steps` that give the least-squares line's value at `step`. They sum to
    1."""
    mean = Fraction(sum(steps), len(steps))
    spread = sum((s - mean) ** 2 for s in steps)
    return [Fraction(1, len(steps)) + (Fraction(step) - mean) * (s - mean) / spread for s in steps]


def _weights(tensor: tuple[TensorInfo, ...], steps_T: Values, step: float, method: Method) -> Values:
    """Return the weights of the checkpoints, `[T]`, which sum to 1."""
    line_T = np.array(line_weights([int(s) for s in steps_T], step), float)
    if method == "lines" or tensor[0].dtype not in BYTES_PER_VALUE:
        return line_T
    gram_TT = np.zeros((len(tensor), len(tensor)))
    for values_TN in _chunks(tensor):
        changes_TN = values_TN - values_TN[0]
        gram_TT += changes_TN @ changes_TN.T
    first_T = np.linalg.eigh(gram_TT)[1][:, -1]
    # u = Σ vᵢ·Dᵢ / σ and cᵢ = σ·vᵢ: σ falls out of (a + b·s)·u.
    weights_T = (line_T @ first_T) * first_T
    weights_T[0] = 1 - weights_T[1:].sum()  # D₀ is 0
    return weights_T


def _copy(tensor: tuple[TensorInfo, ...], written: TensorInfo) -> None:
    data = read_bytes(tensor[-1])
    if not all(np.array_equal(read_bytes(other), data) for other in tensor):
        raise PolicyError(f"tensor {written.name!r} is {written} and differs: give checkpoints in a float format.")
    with written.file.open("r+b") as file:
        file.seek(written.start)
        file.write(data.data)
