"""The loops over weights, compiled by numba at their first use and kept on disk: one pass, rounding included, where
numpy needs more than ten.

Values stay in the format of their file until they are in a register: arrays are `[N]` of float64, float32, uint16
(the bits of bfloat16) or int16 (the bits of float16), in any combination. Arithmetic is float64 and is rounded
once, to nearest, ties to even. The module is imported only where weights are made, since numba is not part of the core;
`dtypes` defines the formats, `affine` what is computed.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import types
from numba.extending import overload
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Stored = NDArray[Any]
Values = NDArray[np.float64]

_EXPONENT = np.uint64(0x7FF0_0000_0000_0000)
_SIGN = np.uint32(0x8000)
_BEYOND = 2.0**200
"""Bound far above the largest number of the short formats, and far below where `value + unit` overflows."""
_HALF_TO_SINGLE = np.float32(2.0**112)
"""Ratio of a float32 to the float16 whose exponent has the same bits."""


def _compiled(**options: Any) -> Callable[[Function], Function]:
    return cast("Callable[[Function], Function]", numba.njit(nogil=True, cache=True, error_model="numpy", **options))


@_compiled(fastmath={"reassoc"})  # of the sum over n alone: functions that are called keep their own order
def merge_line(base_N: Stored, other_N: Stored, weight: float, out_N: Stored) -> tuple[float, float]:
    """Write base + weight·(other − base), and return Σ (written − exact)·(other − base) and Σ (other − base)²."""
    rounding = squared_length = 0.0
    for n in range(len(base_N)):
        delta = _difference(other_N[n], base_N[n])
        exact = _sum(base_N[n], weight * delta)
        out_N[n] = _narrow(exact, out_N[n])
        rounding += _difference(out_N[n], exact) * delta
        squared_length += delta * delta
    return rounding, squared_length


@_compiled(fastmath={"reassoc"})
def merge_term(base_N: Stored, term_N: Values, other_N: Stored, out_N: Stored) -> float:
    """Write base + term, and return Σ (written − exact)·(other − base)."""
    rounding = 0.0
    for n in range(len(base_N)):
        exact = _sum(base_N[n], term_N[n])
        out_N[n] = _narrow(exact, out_N[n])
        rounding += _difference(out_N[n], exact) * _difference(other_N[n], base_N[n])
    return rounding


@_compiled(fastmath={"reassoc"})
def dot(head_N: Stored, tail_N: Stored, base_N: Stored, other_N: Stored) -> float:
    """Return Σ (head − tail)·(other − base)."""
    total = 0.0
    for n in range(len(base_N)):
        total += _difference(head_N[n], tail_N[n]) * _difference(other_N[n], base_N[n])
    return total


@_compiled()
def add_term(base_N: Stored, other_N: Stored, weight: float, term_N: Values) -> None:
    """Add weight·(other − base) to `term_N`."""
    for n in range(len(base_N)):
        term_N[n] += weight * _difference(other_N[n], base_N[n])


@_compiled()
def convert(values_N: Stored, out_N: Stored) -> None:
    """Write the same numbers in another format."""
    for n in range(len(values_N)):
        out_N[n] = _narrow(_widen(values_N[n]), out_N[n])


@_compiled()
def _difference(one: Any, other: Any) -> float:
    return _widen(one) - _widen(other)


@_compiled()
def _sum(one: Any, other: Any) -> float:
    return _widen(one) + _widen(other)


@_compiled()
def _nearest(value: float, num_bits: float, smallest_normal: float) -> np.float32:
    """Round to `num_bits` bits after the leading one.

    Adding and subtracting 1.5 · 2^(52 − bits) times the value's power of two, but not less than that of the smallest
    normal number, leaves just these: the processor rounds the sum, once. The result is exact in float32, or infinite.
    """
    number = np.float64(value)
    power = np.uint64(number.view(np.uint64) & _EXPONENT).view(np.float64)
    unit = num_bits * max(power, smallest_normal)
    return np.float32((number + unit) - unit if power < _BEYOND else number)


@_compiled()
def _sign(value: float) -> np.uint32:
    """Return the sign bit of the value before it was rounded, in bit 15: rounding to zero may have lost it."""
    return np.uint32(np.uint32(np.float64(value).view(np.uint64) >> np.uint64(48)) & _SIGN)


def _from_bfloat16(stored: Any) -> float:
    """Return the value of bfloat16 bits, which are the upper half of a float32."""
    return np.float64(np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32))


def _to_bfloat16(value: float, like: Any) -> np.uint16:
    single = np.float32(_nearest(value, 1.5 * 2.0**45, 2.0**-126))
    return np.uint16(np.uint32(single.view(np.uint32) >> np.uint32(16)) | _sign(value))


def _from_float16(stored: Any) -> float:
    bits = np.uint32(np.uint32(np.uint16(stored)) & np.uint32(0x7FFF))
    wide = np.uint32(bits << np.uint32(13))
    single = np.float32(wide.view(np.float32) * _HALF_TO_SINGLE)
    if bits >= np.uint32(0x7C00):  # infinite, or no number
        single = np.uint32(wide | np.uint32(0x7F80_0000)).view(np.float32)
    return -np.float64(single) if np.uint32(np.uint16(stored)) & _SIGN else np.float64(single)


def _to_float16(value: float, like: Any) -> np.int16:
    single = np.float32(abs(_nearest(value, 1.5 * 2.0**42, 2.0**-14)))
    bits = np.uint32(np.float32(single / _HALF_TO_SINGLE).view(np.uint32) >> np.uint32(13))
    if single > np.float32(65504):
        bits = np.uint32(0x7C00)
    if np.isnan(single):
        bits = np.uint32(0x7E00)
    return np.int16(np.uint16(bits | _sign(value)))


def _from_float(stored: Any) -> float:
    return np.float64(stored)


def _to_float32(value: float, like: Any) -> np.float32:
    return np.float32(value)


def _to_float64(value: float, like: Any) -> float:
    return value


def _widen(stored: Any) -> float:
    """Return the number that the bits of a format stand for, exactly."""
    raise NotImplementedError


def _narrow(value: float, like: Any) -> Any:
    """Return the bits of the nearest number in the format of `like`."""
    raise NotImplementedError


@overload(_widen, strict=False)
def _widen_by_type(stored: Any) -> Callable[..., float]:
    return {types.uint16: _from_bfloat16, types.int16: _from_float16}.get(stored, _from_float)


@overload(_narrow, strict=False)
def _narrow_by_type(value: Any, like: Any) -> Callable[..., Any]:
    kinds = {types.uint16: _to_bfloat16, types.int16: _to_float16, types.float32: _to_float32}
    return kinds.get(like, _to_float64)
