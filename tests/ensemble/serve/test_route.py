from collections import Counter
from math import ceil, floor

from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.serve.route import seed_of_choice, split_choices

WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 20), min_size=1).filter(
    lambda weights: any(weights.values())
)


def test_a_policy_alone_answers_everything() -> None:
    assert split_choices({"low": 1.0}, 3, turn=7) == ["low", "low", "low"]


def test_choices_follow_the_order_of_the_mixture() -> None:
    assert split_choices({"high": 2.0, "low": 2.0}, 4, turn=0) == ["high", "high", "low", "low"]


@settings(deadline=None)
@given(WEIGHTS, st.integers(0, 40), st.integers(0, 10**9))
def test_every_turn_gives_floor_or_ceiling_of_the_share(weights: dict[str, int], n: int, turn: int) -> None:
    counts = Counter(split_choices(weights, n, turn))
    assert counts.total() == n
    for policy, weight in weights.items():
        share = n * weight / sum(weights.values())
        assert floor(share - 1e-9) <= counts[policy] <= ceil(share + 1e-9)


def test_single_choices_are_shared_as_the_weights_say() -> None:
    counts = Counter(split_choices({"a": 5, "b": 3, "c": 2}, 1, turn)[0] for turn in range(1000))
    assert all(abs(counts[policy] - 1000 * w / 10) <= 3 for policy, w in {"a": 5, "b": 3, "c": 2}.items())


def test_the_first_choice_keeps_the_seed_of_its_request() -> None:
    assert seed_of_choice(41, 0) == 41


def test_neighbouring_requests_share_no_seed() -> None:
    seeds = {seed_of_choice(seed, choice) for seed in range(100) for choice in range(128)}
    assert len(seeds) == 100 * 128
    assert all(0 <= seed < 2**63 for seed in seeds)
