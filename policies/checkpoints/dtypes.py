"""Floating-point formats of checkpoints: bytes to float64 without loss, and float64 to bytes rounded exactly
once.

No torch: its cast from float64 to bfloat16 or float16 goes through float32 and so rounds twice. The loops are in
`kernels`, which is loaded when it is needed. Formats are named as in safetensors.
"""

import importlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphamix.policies.types import PolicyError

Bytes = NDArray[np.uint8]
Values = NDArray[np.float64]

BYTES_PER_VALUE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Size in bytes of each format that can be merged."""

FORMAT_OF_DTYPE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Format of each torch dtype that a merge can be written in."""

_STORED_AS = {"F64": "<f8", "F32": "<f4", "F16": "<i2", "BF16": "<u2"}
"""NumPy dtype in which `kernels` takes the bits of each format."""


def check_dtype(dtype: str | None) -> None:
    """Check that checkpoints can be written in a torch dtype; None stands for that of the base.

    Raises:
        PolicyError: they cannot.
    """
    if dtype is not None and dtype not in FORMAT_OF_DTYPE:
        raise PolicyError(f"dtype is {dtype!r}: give one of {', '.join(FORMAT_OF_DTYPE)}.")


@cache
def kernels() -> Any:
    """Import and return the module of compiled loops.

    Raises:
        PolicyError: numba is not installed.
    """
    try:
        return importlib.import_module("alphamix.policies.checkpoints.kernels")
    except ModuleNotFoundError as error:
        raise PolicyError(f"making weights needs the package {error.name}: pip install 'alphamix[merge]'.") from error


def stored(data: Bytes, dtype: str) -> NDArray[Any]:
    """Return `[N * size]` bytes as the `[N]` numbers that `kernels` reads and writes."""
    return data.view(_STORED_AS[dtype])


def to_float64(data: Bytes, dtype: str) -> Values:
    """Convert `[N * size]` bytes to `[N]` values. This is exact: float64 holds every value of the four formats."""
    values = np.empty(len(data) // BYTES_PER_VALUE[dtype])
    kernels().convert(stored(data, dtype), values)
    return values


def from_float64(values: Values, dtype: str) -> Bytes:
    """Convert `[N]` values to `[N * size]` bytes, each rounded once: to nearest, ties to even."""
    data = np.empty(len(values) * BYTES_PER_VALUE[dtype], np.uint8)
    kernels().convert(values, stored(data, dtype))
    return data
