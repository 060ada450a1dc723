"""Floating-point formats of checkpoints: bytes to float64 without loss, and float64 to bytes rounded exactly
once.

No torch: its cast from float64 to bfloat16 or float16 goes through float32 and so rounds twice. numpy knows all
formats but bfloat16, which is `kernels`'. Formats are named as in safetensors.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policies.types import PolicyError

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]

BYTES_PER_VALUE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""The formats that can be merged, with their size."""

FORMAT_OF_DTYPE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Names of torch for the formats that a merge can be written in."""

_NUMPY_OF_FORMAT = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@cache
def kernels() -> Any:
    """The module of compiled loops.

    Raises:
        PolicyError: numba is not installed.
    """
    try:
        return importlib.import_module("policies.kernels")
    except ModuleNotFoundError as error:
        raise PolicyError(f"making weights needs the package {error.name}: pip install 'alphamix[merge]'.") from error


def to_float64(data: Bytes, dtype: str) -> Values:
    """`[N * size]` bytes to `[N]` values. Exact: float64 holds every value of the four formats."""
    values = np.empty(len(data) // BYTES_PER_VALUE[dtype])
    read(data, dtype, values)
    return values


def from_float64(values: Values, dtype: str) -> Bytes:
    """`[N]` values to `[N * size]` bytes, each rounded once: to nearest, ties to even."""
    data = np.empty(len(values) * BYTES_PER_VALUE[dtype], np.uint8)
    write(values, dtype, data, np.empty_like(values))
    return data


def read(data: Bytes, dtype: str, out: Values) -> None:
    """Write the values of `[N * size]` bytes to `out`, `[N]`."""
    if dtype == "BF16":
        kernels().read_bfloat16(data.view("<u2"), out)
        return
    with np.errstate(invalid="ignore"):  # a signalling NaN is no reason to speak
        np.copyto(out, data.view(_NUMPY_OF_FORMAT[dtype]))


def write(values: Values, dtype: str, out: Bytes, rounded: Values) -> None:
    """Write `[N]` values, each rounded once to nearest, ties to even, to `out`, `[N * size]`; as values to `rounded`,
    `[N]`.
    """
    if dtype == "BF16":
        kernels().write_bfloat16(values, out.view("<u2"), rounded)
        return
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.copyto(out.view(_NUMPY_OF_FORMAT[dtype]), values, casting="same_kind")
        np.copyto(rounded, out.view(_NUMPY_OF_FORMAT[dtype]))
