"""The arithmetic of merges: base + Σ weight·(input − base), in float64, rounded once, for several choices of
weights in one pass.

Works on one piece of one tensor at a time, in memory that each thread keeps. It knows nothing of checkpoints.

Axes: A merges, D inputs after the base, N values.
"""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE, Bytes, Values, kernels, stored, to_float64
from alphamix.policies.checkpoints.safetensors_folder import TensorInfo, read_bytes, refuse_not_finite
from alphamix.policies.types import PolicyError

_VALUES_PER_PIECE = 1 << 18
"""Number of values of a piece, small enough for it to stay in the cache of a core for all its merges."""


@dataclass(frozen=True, slots=True)
class Output:
    """Destination of one merge of a tensor."""

    tensor: TensorInfo
    descriptor: int
    """Descriptor of `tensor.file`, open for writing."""
    weights: tuple[float, ...]
    """Weights of the inputs after the base, `[D]`."""


@dataclass(frozen=True)
class TensorInputs:
    """One tensor in every input."""

    tensors: tuple[TensorInfo, ...]
    """Tensors of the inputs, `[1 + D]`, the base first."""

    @cached_property
    def maps(self) -> list[Bytes]:
        """Bytes of the tensors, mapped once for all pieces and kept until the last piece is merged."""
        return [read_bytes(tensor) for tensor in self.tensors]


@dataclass(frozen=True, slots=True)
class Piece:
    """Range of values of one tensor."""

    inputs: TensorInputs
    outputs: tuple[Output, ...]
    """Destinations, `[A]`."""
    start: int
    """Index of the first value, or of the first byte of a tensor that is not of floats."""
    stop: int

    @property
    def num_bytes(self) -> int:
        """Number of bytes of this piece in the base."""
        return (self.stop - self.start) * BYTES_PER_VALUE.get(self.inputs.tensors[0].dtype, 1)

    def read(self) -> list[Bytes]:
        """Bytes of the piece in every input, `[1 + D]`."""
        sizes = [BYTES_PER_VALUE.get(tensor.dtype, 1) for tensor in self.inputs.tensors]
        return [data[self.start * n : self.stop * n] for data, n in zip(self.inputs.maps, sizes, strict=True)]


def pieces(tensors: tuple[TensorInfo, ...], outputs: tuple[Output, ...]) -> Iterator[Piece]:
    """Cut a tensor into pieces that a thread takes on its own, each small enough to lie in a core's cache."""
    inputs = TensorInputs(tensors)
    length = tensors[0].num_bytes // BYTES_PER_VALUE.get(tensors[0].dtype, 1)
    for start in range(0, length, _VALUES_PER_PIECE):
        yield Piece(inputs, outputs, start, min(start + _VALUES_PER_PIECE, length))


@dataclass(slots=True)
class Sums:
    """Sums that describe the rounded weights along the way from the base to the first other input."""

    squared_length: float
    """|input − base|²; 0 if there is more than one input after the base, since such merges have no α."""
    rounding_A: NDArray[np.float64]
    """(rounded − exact)·(input − base) of each merge, `[A]`."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.squared_length + other.squared_length, self.rounding_A + other.rounding_A)


def merge_piece(piece: Piece) -> Sums:
    """Write a piece of every merge to its file.

    Raises:
        PolicyError: a value leaves the range of the output's dtype, or tensors that are not of floats differ.
    """
    tensors = piece.inputs.tensors
    sums = Sums(0.0, np.zeros(len(piece.outputs)))
    if tensors[0].dtype not in BYTES_PER_VALUE:
        _copy(piece)
        return sums
    inputs = piece.read()
    values = [stored(data, tensor.dtype) for data, tensor in zip(inputs, tensors, strict=True)]
    for a, output in enumerate(piece.outputs):
        same = _unchanged_input(output.weights)
        if same is not None and tensors[same].dtype == output.tensor.dtype:
            _write(output, piece.start, inputs[same])
            continue
        data = _room("data", len(values[0]) * BYTES_PER_VALUE[output.tensor.dtype])
        merged = stored(data, output.tensor.dtype)
        if same is None:
            sums.rounding_A[a], sums.squared_length = _combine(values, output.weights, merged)
            if not np.isfinite(sums.rounding_A[a]):
                _check_range(data, output, tensors)
        else:  # not computed: base + (input − base) need not be the input, in floating point
            kernels().convert(values[same], merged)
            sums.rounding_A[a] = kernels().dot(merged, values[same], values[0], values[1])
            _check_range(data, output, (), to_float64(inputs[same], tensors[same].dtype))
        _write(output, piece.start, data)
    if len(values) == 2 and not sums.squared_length:  # every merge is one of the inputs
        sums.squared_length = kernels().dot(values[1], values[0], values[0], values[1])
    return sums


def _combine(values: Sequence[Any], weights: Sequence[float], merged: Any) -> tuple[float, float]:
    """Write base + Σ weight·(input − base), where the sum is computed first, and return the sums that `Sums` adds
    up."""
    base, first, *others = values
    if not others:
        return kernels().merge_line(base, first, weights[0], merged)
    term_N = _room("term", 8 * len(base)).view(np.float64)
    term_N.fill(0)
    for value, weight in zip((first, *others), weights, strict=True):
        kernels().add_term(base, value, weight, term_N)
    return kernels().merge_term(base, term_N, first, merged), 0.0


_threads = threading.local()


def _room(name: str, size: int) -> Bytes:
    """Return bytes that this thread keeps: new ones would cost more than the arithmetic, since the system must clear
    every page of them."""
    kept: dict[str, Bytes] = _threads.__dict__
    if name not in kept or len(kept[name]) < size:
        kept[name] = np.empty(size, np.uint8)
    return kept[name][:size]


def _unchanged_input(weights: Sequence[float]) -> int | None:
    """Return the index of the input that a merge with these weights returns unchanged, or None."""
    positions = [index for index, weight in enumerate(weights, 1) if weight != 0]
    if not positions:
        return 0
    return positions[0] if len(positions) == 1 and weights[positions[0] - 1] == 1 else None


def _check_range(data: Bytes, output: Output, inputs: Sequence[TensorInfo], source: Values | None = None) -> None:
    """Refuse values that are not finite, except those that were not finite in `source` either."""
    lost_N = ~np.isfinite(to_float64(data, output.tensor.dtype))
    if source is not None:
        lost_N &= np.isfinite(source)
    if lost_N.any():
        refuse_not_finite(inputs)
        word, values = "weights" if len(output.weights) > 1 else "alpha", ", ".join(f"{w:g}" for w in output.weights)
        is_short = BYTES_PER_VALUE[output.tensor.dtype] < BYTES_PER_VALUE["F32"]
        cures = [f"choose {word} nearer to 0 or 1"] if source is None else ["keep the dtype of the inputs"]
        cures += ["write it as float32 (alphamix policies merge --dtype float32)"] if is_short else []
        raise PolicyError(
            f"tensor {output.tensor.name!r} leaves the range of {output.tensor.dtype} at {word} = {values}: "
            f"{', or '.join(cures)}."
        )


def _copy(piece: Piece) -> None:
    base, *tensors = piece.inputs.tensors
    data, *others = piece.read()
    for tensor, other in zip(tensors, others, strict=True):
        if not np.array_equal(data, other):
            raise PolicyError(
                f"tensor {tensor.name!r} is {tensor} and differs between {base.file.parent} and "
                f"{tensor.file.parent}: only float tensors can be merged, give both as they were before quantization."
            )
    for output in piece.outputs:
        _write(output, piece.start, data)


def _write(output: Output, start: int, data: Bytes) -> None:
    rest = data.data
    position = output.tensor.start + start * BYTES_PER_VALUE.get(output.tensor.dtype, 1)
    while len(rest):
        written = os.pwrite(output.descriptor, rest, position)
        rest, position = rest[written:], position + written
