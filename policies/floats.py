"""Floating-point formats of checkpoints: bytes to float64 without loss, and float64 to bytes rounded exactly
once.

numpy alone, no torch: a cast of torch from float64 to bfloat16 or float16 goes through float32 and so rounds
twice. Formats are named as in safetensors.
"""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]

BYTES_PER_VALUE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""The formats that can be merged, with their size."""

FORMAT_OF_DTYPE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Names of torch for the formats that a merge can be written in."""

_NUMPY_OF_FORMAT = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
_EXPONENT = np.uint64(0x7FF0_0000_0000_0000)
_SMALLEST_NORMAL = 2.0**-126
"""Of bfloat16: below it, all its numbers are equally far apart."""
_INFINITY, _SIGN = np.uint16(0x7F80), np.uint16(0x8000)
"""Of bfloat16."""


def to_float64(data: Bytes, dtype: str) -> Values:
    """`[N * size]` bytes to `[N]` values. Exact: float64 holds every value of the four formats."""
    values = np.empty(len(data) // BYTES_PER_VALUE[dtype])
    Converter(len(values)).read(data, dtype, values)
    return values


def from_float64(values: Values, dtype: str) -> Bytes:
    """`[N]` values to `[N * size]` bytes, each rounded once: to nearest, ties to even."""
    data = np.empty(len(values) * BYTES_PER_VALUE[dtype], np.uint8)
    Converter(len(values)).write(values, dtype, data)
    return data


class Converter:
    """Reads and writes up to `length` values at a time, in memory that it keeps.

    Fresh arrays would cost more than the arithmetic: the kernel has to clear every page of theirs.
    """

    def __init__(self, length: int) -> None:
        self._words = np.empty(length, np.uint32)
        self._unit = np.empty(length)
        self._rounded = np.empty(length)

    def read(self, data: Bytes, dtype: str, out: Values) -> None:
        """Write the values of `[N * size]` bytes to `out`, `[N]`."""
        with np.errstate(invalid="ignore"):  # a signalling NaN is no reason to speak
            if dtype != "BF16":
                np.copyto(out, data.view(_NUMPY_OF_FORMAT[dtype]))
                return
            words = self._words[: len(out)]
            np.copyto(words, data.view("<u2"))
            np.left_shift(words, 16, out=words)
            np.copyto(out, words.view(np.float32))

    def write(self, values: Values, dtype: str, out: Bytes) -> Values:
        """Write `[N]` values, each rounded once to nearest, ties to even, to `out`, `[N * size]`.

        Returns:
            What was written, as `[N]` values in memory that is the caller's until the next call.
        """
        rounded = self._rounded[: len(values)]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if dtype == "BF16":
                self._write_bfloat16(values, out.view("<u2"), rounded)
            else:
                np.copyto(out.view(_NUMPY_OF_FORMAT[dtype]), values, casting="same_kind")
                np.copyto(rounded, out.view(_NUMPY_OF_FORMAT[dtype]))
        return rounded

    def _write_bfloat16(self, values: Values, out: NDArray[np.uint16], rounded: Values) -> None:
        """Round by adding and subtracting a number so large that the sum has eight bits left for each value.

        That number is 1.5 * 2**45 times the value's power of two (but not less than that of bfloat16's smallest
        normal number), so the sum's last bit is the value's eighth, and the processor rounds it once.
        """
        unit, words = self._unit[: len(values)], self._words[: len(values)]
        np.bitwise_and(values.view(np.uint64), _EXPONENT, out=unit.view(np.uint64))
        if unit.min(initial=1) < _SMALLEST_NORMAL:
            np.maximum(unit, _SMALLEST_NORMAL, out=unit)
        np.multiply(unit, 1.5 * 2.0**45, out=unit)
        np.add(values, unit, out=rounded)
        np.subtract(rounded, unit, out=rounded)
        _upper_half(rounded, words, out)
        if out.view("<i2").max(initial=0) >= _INFINITY or out.max(initial=0) >= _INFINITY | _SIGN:
            np.copyto(rounded, values, where=unit == np.inf)  # there the difference was no number
            _upper_half(rounded, words, out)
        if out.min(initial=1) == 0:  # a zero has lost its sign
            zeros = np.flatnonzero(out == 0)
            out[zeros] = np.signbit(values[zeros]) * _SIGN


def _upper_half(values: Values, words: NDArray[np.uint32], out: NDArray[np.uint16]) -> None:
    """Bfloat16 is the upper half of float32."""
    np.copyto(words.view(np.float32), values, casting="same_kind")
    np.right_shift(words, 16, out=out, casting="unsafe")
