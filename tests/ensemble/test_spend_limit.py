"""What a run may still spend: never more is granted than is left, and every limit is used up."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.run.spend_limit import UNLIMITED, SpendLimit

NOTHING = {"samples": 0.0, "tokens": 0.0, "seconds": 0.0}


def spend(allowance: SpendLimit, costs: list[int], wanted: int) -> list[int]:
    """Draw until nothing is granted, and return what each sample cost."""
    drawn: list[int] = []
    while len(drawn) < wanted and (granted := allowance.grant("a", wanted - len(drawn))):
        for _ in range(granted):
            cost = costs[len(drawn) % len(costs)]
            drawn.append(cost)
            allowance.settle("a", 1, tokens=cost)
    return drawn


def test_without_limits_everything_is_granted():
    assert UNLIMITED.grant("a", 10**9) == 10**9
    UNLIMITED.settle("a", 5)
    assert UNLIMITED.exhausted("a") is None


@settings(deadline=None)
@given(limit=st.integers(1, 5000), wanted=st.integers(1, 5000), before=st.integers(0, 100))
def test_a_limit_in_samples_is_exact(limit, wanted, before):
    allowance = SpendLimit({"samples": limit}, {"a": NOTHING | {"samples": before}}, {"samples": 1})
    assert len(spend(allowance, [7], wanted)) == min(wanted, max(0, limit - before))


@settings(deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=50), st.integers(1000, 30_000), st.integers(0, 2**32 - 1))
def test_a_limit_in_tokens_is_met_within_what_a_last_grant_can_err(costs, limit, seed):
    allowance = SpendLimit({"tokens": limit}, {}, {"samples": 1, "tokens": 400})
    in_random_order = np.random.default_rng(seed).choice(costs, 40_000).tolist()
    drawn = spend(allowance, in_random_order, 40_000)
    # The last grant is of 64 samples at most; those before rest on a mean that chance may have made too low.
    assert sum(drawn) <= 1.5 * limit + 64 * max(costs)
    assert limit - sum(drawn) < np.mean(drawn) + 1e-9 if drawn else limit < 400


def test_a_few_cheap_samples_at_first_do_not_spend_it_all():
    allowance = SpendLimit({"tokens": 10_000}, {}, {"samples": 1, "tokens": 400})
    assert sum(spend(allowance, [*25 * [1], *2000 * [158]], 2000)) <= 20_000


def test_of_a_large_limit_doubt_leaves_nothing_over():
    allowance = SpendLimit({"tokens": 10**7}, {}, {"samples": 1, "tokens": 16_000})
    drawn = spend(allowance, [1000, 3000], 10**6)
    assert abs(sum(drawn) - 10**7) < 5000
    assert "budget.run.tokens = 1e+07 is spent (" in str(allowance.exhausted("a"))


def test_all_or_none():
    allowance = SpendLimit({"samples": 100}, {}, {"samples": 1})
    assert allowance.grant("a", 70, whole=True) == 70
    allowance.settle("a", 70)
    assert allowance.grant("a", 31, whole=True) == 0
    assert allowance.exhausted("a") == "the rest of budget.run.samples = 100 does not pay for a whole batch"
    assert allowance.grant("a", 30, whole=True) == 30


def test_whoever_is_refused_for_now_waits_for_what_others_give_back():
    allowance = SpendLimit({"samples": 64}, {}, {"samples": 1})
    assert allowance.grant("a", 64) == 64
    granted: list[int] = []
    waiting = threading.Thread(target=lambda: granted.append(allowance.grant("a", 10)))
    waiting.start()
    allowance.settle("a", 50)
    assert not granted
    allowance.settle("a", 0, lost=14)
    waiting.join(timeout=30)
    assert granted == [10]


@pytest.mark.parametrize("workers", [2, 5])
def test_threads_together_spend_the_limit_and_no_more(workers):
    allowance = SpendLimit({"samples": 1000}, {}, {"samples": 1})
    drawn = [0] * workers

    def work(number: int) -> None:
        while granted := allowance.grant("a", 300):
            drawn[number] += granted
            allowance.settle("a", granted)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert sum(drawn) == 1000


def test_a_policy_is_granted_by_its_own_costs():
    """Of a dear policy no more is granted than is left, however little the samples of a cheap one cost before."""
    allowance = SpendLimit(
        {"tokens": 100_000}, {"cheap": NOTHING | {"samples": 1000, "tokens": 10_000}}, {"tokens": 4096}
    )
    assert allowance.grant("dear", 5000) == 64  # unknown: taken to be as cheap, but only a few at once
    allowance.settle("dear", 64, tokens=64_000)
    spent = 74_000
    while granted := allowance.grant("dear", 5000):
        spent += 1000 * granted
        allowance.settle("dear", granted, tokens=1000 * granted)
    assert 95_000 < spent <= 100_000
