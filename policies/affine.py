"""The arithmetic of merges: base + Σ weight·(input − base), in float64, rounded once, for several choices of
weights in one pass.

Works on one piece of one tensor at a time, in memory that each thread keeps. It knows nothing of checkpoints.

Axes: A merges, D inputs after the base, N values.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from policies.floats import BYTES_PER_VALUE, Bytes, Values, kernels, read, write
from policies.types import PolicyError
from policies.weights import TensorInfo, read_bytes

_VALUES_PER_CHUNK = 1 << 15
"""Values worked on at once: the arrays of this length that are in use fit into a core's cache."""


@dataclass(frozen=True, slots=True)
class Output:
    """Where one merge of a tensor goes."""

    tensor: TensorInfo
    descriptor: int
    """Of `tensor.file`, open for writing."""
    weights: tuple[float, ...]
    """`[D]`"""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of values of one tensor."""

    inputs: tuple[TensorInfo, ...]
    """`[1 + D]`, the base first."""
    outputs: tuple[Output, ...]
    """`[A]`"""
    start: int
    """First value; first byte of a tensor that is no float."""
    stop: int


@dataclass(frozen=True, slots=True)
class Sums:
    """What the rounded weights are, seen along the way from the base to the first other input."""

    squared_length: float
    """|input − base|²"""
    rounding_A: NDArray[np.float64]
    """(rounded − exact)·(input − base) of each merge"""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.squared_length + other.squared_length, self.rounding_A + other.rounding_A)


def merge_piece(piece: Piece) -> Sums:
    """Write a piece of every merge to its file.

    Raises:
        PolicyError: a value leaves the range of the output's dtype, or what is no float differs.
    """
    base = piece.inputs[0]
    sums = Sums(0.0, np.zeros(len(piece.outputs)))
    if base.dtype not in BYTES_PER_VALUE:
        _copy(piece)
        return sums
    data = [_read(tensor, piece.start, piece.stop) for tensor in piece.inputs]
    workspace = _workspace(len(data) - 1)
    length = piece.stop - piece.start
    for start in range(0, length, _VALUES_PER_CHUNK):
        stop = min(start + _VALUES_PER_CHUNK, length)
        chunks = [_part(part, tensor, start, stop) for part, tensor in zip(data, piece.inputs, strict=True)]
        sums += workspace.merge(piece, chunks, piece.start + start, stop - start)
    return sums


class _Workspace:
    """Arrays for one chunk; a thread has its own.

    Fresh ones would cost more than the arithmetic: the system has to clear every page of theirs.
    """

    def __init__(self, num_others: int) -> None:
        self._base_N = np.empty(_VALUES_PER_CHUNK)
        self._deltas_DN = np.empty((num_others, _VALUES_PER_CHUNK))
        self._merged_N = np.empty(_VALUES_PER_CHUNK)
        self._term_N = np.empty(_VALUES_PER_CHUNK)
        self._rounded_N = np.empty(_VALUES_PER_CHUNK)
        self._data = np.empty(8 * _VALUES_PER_CHUNK, np.uint8)

    def merge(self, piece: Piece, chunks: Sequence[Bytes], position: int, length: int) -> Sums:
        base_N, deltas_DN = self._base_N[:length], self._deltas_DN[:, :length]
        merged_N, rounded_N = self._merged_N[:length], self._rounded_N[:length]
        rounding_A = np.zeros(len(piece.outputs))
        read(chunks[0], piece.inputs[0].dtype, base_N)
        with np.errstate(over="ignore", invalid="ignore"):  # told below, with the tensor's name
            for delta_N, chunk, tensor in zip(deltas_DN, chunks[1:], piece.inputs[1:], strict=True):
                read(chunk, tensor.dtype, delta_N)
                np.subtract(delta_N, base_N, out=delta_N)
            for a, output in enumerate(piece.outputs):
                same = _input_that_it_is(output.weights)
                if same is None:
                    _combine(output.weights, base_N, deltas_DN, merged_N, self._term_N[:length])
                elif piece.inputs[same].dtype == output.tensor.dtype:
                    _write(output, position, chunks[same])
                    continue
                else:  # not computed: base + (input − base) need not be the input, in floating point
                    read(chunks[same], piece.inputs[same].dtype, merged_N)
                data = self._data[: length * BYTES_PER_VALUE[output.tensor.dtype]]
                write(merged_N, output.tensor.dtype, data, rounded_N)
                rounding_A[a] = kernels().dot_difference(rounded_N, merged_N, deltas_DN[0])
                if not np.isfinite(rounding_A[a]):
                    _check_range(merged_N, rounded_N, output, is_copy=same is not None)
                _write(output, position, data)
            return Sums(float(np.einsum("n,n->", deltas_DN[0], deltas_DN[0])), rounding_A)


_threads = threading.local()


def _workspace(num_others: int) -> _Workspace:
    kept: dict[int, _Workspace] = _threads.__dict__.setdefault("workspaces", {})
    if num_others not in kept:
        kept.clear()
        kept[num_others] = _Workspace(num_others)
    return kept[num_others]


def _combine(
    weights: Sequence[float],
    base_N: Values,
    deltas_DN: NDArray[np.float64],
    merged_N: Values,
    term_N: Values,
) -> None:
    """base + Σ weight·delta, the sum first. `term_N` is room for it."""
    if len(weights) == 1:
        kernels().add_scaled(base_N, deltas_DN[0], weights[0], merged_N)
        return
    np.multiply(deltas_DN[0], weights[0], out=term_N)
    for delta_N, weight in zip(deltas_DN[1:], weights[1:], strict=True):
        kernels().add_scaled(term_N, delta_N, weight, term_N)
    np.add(term_N, base_N, out=merged_N)


def _input_that_it_is(weights: Sequence[float]) -> int | None:
    """Index of the input that a merge with these weights gives back unchanged."""
    positions = [index for index, weight in enumerate(weights, 1) if weight != 0]
    if not positions:
        return 0
    return positions[0] if len(positions) == 1 and weights[positions[0] - 1] == 1 else None


def _check_range(merged_N: Values, rounded_N: Values, output: Output, *, is_copy: bool) -> None:
    lost_N = ~np.isfinite(rounded_N)
    if is_copy:
        lost_N &= np.isfinite(merged_N)
    if lost_N.any():
        word, values = "weights" if len(output.weights) > 1 else "alpha", ", ".join(f"{w:g}" for w in output.weights)
        raise PolicyError(
            f"tensor {output.tensor.name!r} leaves the range of {output.tensor.dtype} at {word} = {values}: "
            f"choose {word} nearer to 0 or 1, or write the merge as float32."
        )


def _copy(piece: Piece) -> None:
    data, *others = (_read(tensor, piece.start, piece.stop) for tensor in piece.inputs)
    for tensor, other in zip(piece.inputs[1:], others, strict=True):
        if not np.array_equal(data, other):
            raise PolicyError(
                f"tensor {tensor.name!r} is {tensor} and differs between {piece.inputs[0].file.parent} and "
                f"{tensor.file.parent}: only float tensors can be merged, others must be equal."
            )
    for output in piece.outputs:
        _write(output, piece.start, data)


def _write(output: Output, start: int, data: Bytes) -> None:
    rest = data.data
    position = output.tensor.start + start * BYTES_PER_VALUE.get(output.tensor.dtype, 1)
    while len(rest):
        written = os.pwrite(output.descriptor, rest, position)
        rest, position = rest[written:], position + written


def _read(tensor: TensorInfo, start: int, stop: int) -> Bytes:
    size = BYTES_PER_VALUE.get(tensor.dtype, 1)
    return read_bytes(tensor, start * size, stop * size)


def _part(data: Bytes, tensor: TensorInfo, start: int, stop: int) -> Bytes:
    size = BYTES_PER_VALUE[tensor.dtype]
    return data[start * size : stop * size]
