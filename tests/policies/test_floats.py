"""Rounding once, against exact rational arithmetic."""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alphamix.policies.checkpoints import dtypes as floats
from alphamix.policies.checkpoints.dtypes import BYTES_PER_VALUE, from_float64, to_float64
from alphamix.policies.types import PolicyError

# Explicit bits of the fraction, and the exponent of the smallest normal number.
PRECISION = {"F32": (23, -126), "F16": (10, -14), "BF16": (7, -126)}
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

finite = st.floats(allow_nan=False, allow_infinity=False)
ordinary = st.floats(-8, 8)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """Compiling is not what a test may take long for."""
    for dtype, size in BYTES_PER_VALUE.items():
        from_float64(np.zeros(1), dtype)
        for data in (np.zeros(size, np.uint8), np.frombuffer(bytes(size), np.uint8)):
            to_float64(data, dtype)


def rounded_exactly(value: float, dtype: str) -> float:
    """Nearest number of the format, ties to even, in rational arithmetic."""
    bits, smallest = PRECISION[dtype]
    exact = abs(Fraction(value))
    if exact == 0:
        return value
    exponent = max(int(np.frexp(float(exact))[1]) - 1, smallest)
    unit = Fraction(2) ** (exponent - bits)
    result = round(exact / unit) * unit  # round() of a Fraction takes ties to even
    beyond = result > Fraction(torch.finfo(DTYPES[dtype]).max)
    return float(np.copysign(np.inf if beyond else float(result), value))


@pytest.mark.parametrize("dtype", PRECISION)
@given(value=finite | ordinary)
def test_each_value_is_rounded_once(dtype: str, value: float) -> None:
    result = to_float64(from_float64(np.array([value]), dtype), dtype)[0]
    expected = rounded_exactly(value, dtype)
    assert result == expected
    assert np.signbit(result) == np.signbit(expected)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_tie_that_only_float32_sees_is_no_tie(dtype: str) -> None:
    bits, _ = PRECISION[dtype]
    just_above_half = 1 + 2.0 ** -(bits + 1) + 2.0**-40
    assert to_float64(from_float64(np.array([just_above_half]), dtype), dtype)[0] == 1 + 2.0**-bits
    # torch rounds to float32 first, sees a tie there, and goes to the even side.
    assert float(torch.tensor(just_above_half, dtype=torch.float64).to(DTYPES[dtype])) == 1.0


@pytest.mark.parametrize("dtype", BYTES_PER_VALUE)
@given(data=st.binary(min_size=64, max_size=64))
def test_reading_and_writing_again_keeps_every_number(dtype: str, data: bytes) -> None:
    raw = np.frombuffer(data, np.uint8)
    values = to_float64(raw, dtype)
    written = from_float64(values, dtype)
    size = BYTES_PER_VALUE[dtype]
    for number, before, after in zip(values, raw.reshape(-1, size), written.reshape(-1, size), strict=True):
        assert np.isnan(number) or bytes(before) == bytes(after)
    assert np.array_equal(np.isnan(to_float64(written, dtype)), np.isnan(values))


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@given(
    fractions=st.lists(st.integers(0, 2**12), min_size=1, max_size=20),
    exponent=st.integers(-150, 127),
    nudge=st.sampled_from([0.0, 2.0**-45, -(2.0**-45)]),
)
def test_halves_and_their_neighbours_are_rounded_once(
    dtype: str, fractions: list[int], exponent: int, nudge: float
) -> None:
    values = np.array([(1 + fraction / 2**12 + nudge) * 2.0**exponent for fraction in fractions])
    for signed in (values, -values):
        results = to_float64(from_float64(signed, dtype), dtype)
        assert results.tolist() == [rounded_exactly(float(value), dtype) for value in signed]


@pytest.mark.parametrize("dtype", BYTES_PER_VALUE)
def test_zeros_keep_their_signs_and_infinities_stay(dtype: str) -> None:
    values = np.array([0.0, -0.0, -1e-320, 1.0, np.inf, -np.inf])
    results = to_float64(from_float64(values, dtype), dtype)
    assert np.signbit(results).tolist() == [False, True, True, False, False, True]
    assert np.isinf(results).tolist() == [False] * 4 + [True] * 2


@pytest.mark.parametrize("dtype", BYTES_PER_VALUE)
def test_values_may_lie_at_any_address(dtype: str) -> None:
    data = from_float64(np.linspace(-3, 3, 9), dtype)
    moved = np.frombuffer(b"." + data.tobytes(), np.uint8)[1:]
    assert np.array_equal(to_float64(moved, dtype), to_float64(data, dtype))


def test_without_numba_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "alphamix.policies.checkpoints.kernels", raising=False)
    floats.kernels.cache_clear()
    with pytest.raises(PolicyError, match=r"needs the package numba: pip install 'alphamix\[merge\]'"):
        to_float64(np.zeros(2, np.uint8), "BF16")
