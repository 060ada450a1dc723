"""Whole numbers from weights: exact sums, quotas, and shares over turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.ensemble.allocation import largest_remainder, rotated

weights = st.dictionaries(
    st.text("abcdef", min_size=1), st.floats(0, 10, allow_subnormal=False), min_size=1, max_size=6
).filter(lambda w: sum(w.values()) > 1e-3)


@given(weights, st.integers(0, 300))
def test_largest_remainder_spends_the_budget_within_one_of_each_share(weights, total):
    counts = largest_remainder(weights, total)
    whole = sum(weights.values())
    assert sum(counts.values()) == total
    assert all(abs(counts[name] - weight / whole * total) < 1 + 1e-6 for name, weight in weights.items())


def test_largest_remainder_by_eye():
    assert largest_remainder({"a": 1, "b": 1, "c": 1}, 16) == {"a": 6, "b": 5, "c": 5}
    assert largest_remainder({"a": 3, "b": 1}, 2) == {"a": 2, "b": 0}
    assert largest_remainder({"a": 0, "b": 1}, 5) == {"a": 0, "b": 5}


@given(weights, st.integers(0, 9), st.integers(0, 1000))
def test_each_turn_spends_its_total(weights, total, turn):
    counts = rotated(weights, total, turn)
    assert sum(counts.values()) == total
    assert all(count >= 0 for count in counts.values())


@pytest.mark.parametrize("total", [1, 2, 5])
def test_shares_over_turns_equal_the_weights(total):
    weights = {"a": 5.0, "b": 2.0, "c": 1.0, "d": 0.0}
    turns = 800
    sums = dict.fromkeys(weights, 0)
    for turn in range(turns):
        for name, count in rotated(weights, total, turn).items():
            sums[name] += count
    # An evenly filling offset errs by a few samples over all turns, a random one by dozens.
    for name, weight in weights.items():
        assert abs(sums[name] - weight / 8 * total * turns) <= 6


@pytest.mark.parametrize("weights", [{}, {"a": 0.0}, {"a": -1.0, "b": 2.0}, {"a": float("nan")}])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match=r"weights are .*: give finite numbers"):
        largest_remainder(weights, 3)
