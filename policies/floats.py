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


def to_float64(data: Bytes, dtype: str) -> Values:
    """`[N * size]` bytes to `[N]` values. Exact: float64 holds every value of the four formats."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is no reason to speak
        if dtype == "BF16":
            return (data.view("<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return data.view({"F64": "<f8", "F32": "<f4", "F16": "<f2"}[dtype]).astype(np.float64)


def from_float64(values: Values, dtype: str) -> Bytes:
    """`[N]` values to `[N * size]` bytes, each rounded once: to nearest, ties to even."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype == "F64":
            return values.astype("<f8").view(np.uint8)
        if dtype == "F32":
            return values.astype("<f4").view(np.uint8)
        if dtype == "F16":
            return _round_to_odd(values).astype("<f2").view(np.uint8)
        return _round_to_bfloat16(_round_to_odd(values)).view(np.uint8)


def _round_to_odd(values: Values) -> NDArray[np.float32]:
    """Float32 that later rounds to a shorter format as the float64 itself would.

    Cut towards zero, and let an odd last bit remember that something was cut off (Boldo and Melquiond, 2008):
    then no tie can arise that was none. Exact as long as the shorter format has at least two bits less than
    float32.
    """
    nearest = values.astype(np.float32)
    widened = nearest.astype(np.float64)
    bits = nearest.view(np.uint32)
    bits -= np.abs(widened) > np.abs(values)  # went away from zero: one step back
    bits |= (widened != values) & ~np.isnan(values)
    return nearest


def _round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = values.view(np.uint32)
    last_kept_bit = (bits >> 16) & 1
    rounded = ((bits + 0x7FFF + last_kept_bit) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)
