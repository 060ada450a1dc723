"""Loops over values, compiled by numba at their first use and kept on disk: one pass each through a core's cache, where
numpy needs up to ten.

Imported only where weights are made, since numba is no part of the core. What the numbers mean is said in `floats`
and `affine`. Arrays are `[N]`; nothing is allocated, and the interpreter's lock is not held.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

Function = TypeVar("Function", bound=Callable[..., object])
Values = NDArray[np.float64]
Words = NDArray[np.uint16]

_EXPONENT = np.uint64(0x7FF0_0000_0000_0000)
_SIGN = np.uint32(0x8000)
_SMALLEST_NORMAL = 2.0**-126
"""Of bfloat16: below it, all its numbers are equally far apart."""
_BEYOND = 2.0**200
"""Far above the largest bfloat16, and far below where `value + unit` overflows."""


def _compiled(**options: Any) -> Callable[[Function], Function]:
    return cast("Callable[[Function], Function]", numba.njit(nogil=True, cache=True, error_model="numpy", **options))


@_compiled()
def read_bfloat16(words_N: Words, out_N: Values) -> None:
    """Widen: bfloat16 is the upper half of float32."""
    for n in range(len(words_N)):
        out_N[n] = np.uint32(np.uint32(words_N[n]) << np.uint32(16)).view(np.float32)


@_compiled()
def write_bfloat16(values_N: Values, words_N: Words, rounded_N: Values) -> None:
    """Round each value once to nearest, ties to even; `rounded_N` is what was written.

    Adding and subtracting 1.5 · 2^45 times the value's power of two (but not less than that of the smallest normal
    number) leaves eight bits, since the sum's last bit is the value's eighth, and the processor rounds it once.
    """
    for n in range(len(values_N)):
        value = np.float64(values_N[n])
        power = np.uint64(value.view(np.uint64) & _EXPONENT).view(np.float64)
        unit = 1.5 * 2.0**45 * max(power, _SMALLEST_NORMAL)
        rounded = (value + unit) - unit if power < _BEYOND else value
        single = np.float32(rounded)  # exact, or infinite
        sign = np.uint32(value.view(np.uint64) >> np.uint64(48)) & _SIGN  # which a zero has lost
        words_N[n] = np.uint16(np.uint32(single.view(np.uint32) >> np.uint32(16)) | sign)
        rounded_N[n] = single


@_compiled()
def add_scaled(base_N: Values, term_N: Values, weight: float, out_N: Values) -> None:
    """base + weight·term, each operation rounded to float64."""
    for n in range(len(base_N)):
        out_N[n] = base_N[n] + weight * term_N[n]


@_compiled(fastmath={"reassoc"})
def dot_difference(one_N: Values, other_N: Values, factor_N: Values) -> float:
    """Σ (one − other)·factor, in an order that is the compiler's choice."""
    total = 0.0
    for n in range(len(one_N)):
        total += (one_N[n] - other_N[n]) * factor_N[n]
    return total
