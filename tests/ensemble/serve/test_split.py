from collections import Counter
from collections.abc import Mapping
from math import ceil, floor

from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.serve.protocol.raw_request import Part, seed_of_choice, turn_of_session
from alphamix.ensemble.serve.routing.split import assign_draws, group_draws, split

WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.integers(0, 20), min_size=1).filter(
    lambda weights: any(weights.values())
)


def split_choices(weights: Mapping[str, float], n: int, turn: int) -> list[str]:
    """The policy of each choice."""
    return [part.policy for part in split(weights, n, turn) for _ in range(part.n)]


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


@settings(deadline=None)
@given(WEIGHTS, st.integers(1, 40), st.integers(0, 10**9), st.integers(1, 4))
def test_every_choice_of_every_prompt_has_one_place(weights: dict[str, int], n: int, turn: int, prompts: int) -> None:
    parts = split(weights, n, turn)
    places = [part.client_index(index, n) for part in parts for index in range(part.n * prompts)]
    assert sorted(places) == list(range(n * prompts))


def test_a_part_that_is_split_again_keeps_its_places() -> None:
    assert split({"a": 1, "b": 1}, 4, turn=0, first=6) == [Part("a", 6, 2), Part("b", 8, 2)]


def test_a_session_stays_and_many_sessions_share_as_the_weights_say() -> None:
    weights = {"a": 3, "b": 1}
    first = [split(weights, 1, turn_of_session(f"user {i}"))[0].policy for i in range(2000)]
    again = [split(weights, 1, turn_of_session(f"user {i}"))[0].policy for i in range(2000)]
    assert first == again
    assert abs(first.count("a") - 1500) < 80  # 4 standard deviations


@settings(deadline=None)
@given(WEIGHTS, st.integers(1, 64), st.integers(0, 10**6))
def test_draws_are_dealt_as_choices_are_split(weights: dict[str, int], budget: int, turn: int) -> None:
    assert Counter(assign_draws(weights, budget, turn)) == Counter(split_choices(weights, budget, turn))


@settings(deadline=None)
@given(WEIGHTS, st.integers(1, 64), st.integers(0, 10**6))
def test_the_first_few_draws_are_near_the_shares_too(weights: dict[str, int], budget: int, turn: int) -> None:
    draws = assign_draws(weights, budget, turn)
    for first in range(1, budget + 1):
        for policy, count in Counter(draws).items():
            assert abs(draws[:first].count(policy) - first * count / budget) < len(weights)


def test_each_policy_comes_first_in_its_turn() -> None:
    firsts = Counter(assign_draws({"a": 1, "b": 1, "c": 1, "d": 1}, 8, turn)[0] for turn in range(400))
    assert all(abs(count - 100) <= 4 for count in firsts.values())


def test_draws_of_a_wave_are_gathered_by_policy() -> None:
    assert group_draws(["b", "a", "b"], 5) == [Part("b", 5, 2), Part("a", 7, 1)]
