"""Strategies and their replays: budgets kept, runs that go on anywhere, and coverage@cost against exact values."""

from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from alphamix.ensemble.adaptive.adaptive_arm import _of_mean, play_arm
from alphamix.ensemble.adaptive.halving import SuccessiveHalving
from alphamix.ensemble.adaptive.sample_streams import EndlessStreams, SampleStreams, play, replay, shuffled
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState
from alphamix.ensemble.adaptive.strategies import Optimised, Thompson
from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, draw_weights
from alphamix.ensemble.statistics.pass_at_k import coverage

LADDER = Path(__file__).parents[2].parent / "shared/data/ladder_outcomes.csv"
ALL = [
    Optimised(pilot=1),
    Thompson(batch=3),
    SuccessiveHalving(),
    SuccessiveHalving(per_problem=True),
]
STRATEGIES = st.sampled_from(ALL)
RATES = arrays.arrays(np.float64, (3, 4), elements=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
COSTS = arrays.arrays(np.float64, 3, elements=st.sampled_from([0.3, 1.0, 2.5]))


@dataclass(frozen=True)
class FixedSplit:
    """The same number of samples of each policy on every problem, whatever comes."""

    k_M: np.ndarray
    is_shared: bool = True

    def ask(self, state: AdaptiveState) -> np.ndarray:
        return self.k_M[:, None] - state.num_samples_MP


def replayed(strategy, outcomes, budget, num_replays) -> list[AdaptiveState]:
    return [one.end for one in replay(strategy, outcomes, budget, 0, num_replays)]


def few(total=8.0, num_policies=3):
    return Budget(total, np.ones(num_policies))


def draws_of(rates_MP, length, seed=0):
    return np.random.default_rng(seed).random((*rates_MP.shape, length)) < rates_MP[:, :, None]


def play_from_rates(strategy, rates_MP, total, seed=0) -> AdaptiveState:
    streams = SampleStreams(draws_of(rates_MP, total, seed), np.full(rates_MP.shape, total))
    return play(strategy, streams, AdaptiveState.empty(rates_MP.shape[1], few(total, len(rates_MP)), seed))


@settings(max_examples=60, deadline=None)
@given(STRATEGIES, RATES, COSTS, st.floats(15, 40), st.integers(0, 99))
def test_no_problem_costs_more_than_the_budget(strategy, rates_MP, cost_M, total, seed):
    draws_MPT = draws_of(rates_MP, 200, seed)
    end = play(
        strategy,
        SampleStreams(draws_MPT, np.full((3, 4), 200)),
        AdaptiveState.empty(4, Budget(total, cost_M, "seconds"), seed),
    )
    assert np.all(end.spent_P <= total + 1e-6)
    assert end.num_samples_MP.any()
    assert not strategy.ask(end).any()


@settings(max_examples=60, deadline=None)
@given(STRATEGIES, RATES, st.integers(0, 99), st.data())
def test_a_run_that_is_killed_within_a_batch_goes_on_within_the_budget(strategy, rates_MP, seed, data):
    draws_MPT = draws_of(rates_MP, 20, seed)
    state = AdaptiveState.empty(4, few(), seed)
    for _ in range(3):
        asked_MP = strategy.ask(state)
        np.testing.assert_array_equal(asked_MP, strategy.ask(state))
        came_MP = np.minimum(asked_MP, data.draw(arrays.arrays(np.int64, (3, 4), elements=st.integers(0, 9))))
        end_MP = state.num_samples_MP + came_MP
        total_MP = np.array([[draws_MPT[m, p, : end_MP[m, p]].sum() for p in range(4)] for m in range(3)])
        state = state.tell(came_MP, total_MP - state.num_correct_MP)
    end = play(strategy, SampleStreams(draws_MPT, np.full((3, 4), 20)), state)
    assert np.all(end.spent_P <= 8 + 1e-9)


@pytest.mark.parametrize("strategy", ALL, ids=repr)
def test_from_every_prefix_of_its_batches_a_run_ends_alike(strategy):
    rng = np.random.default_rng(3)
    draws_MPT, held_MP = draws_of(rng.random((3, 4)) * 0.4, 20), np.full((3, 4), 20)
    whole = play(strategy, SampleStreams(draws_MPT, held_MP), AdaptiveState.empty(4, few(12.0), seed=5))
    state = AdaptiveState.empty(4, few(12.0), seed=5)
    while (asked_MP := strategy.ask(state)).any():
        end_MP = state.num_samples_MP + asked_MP
        c_MP = np.array([[draws_MPT[m, p, : end_MP[m, p]].sum() for p in range(4)] for m in range(3)])
        state = AdaptiveState(end_MP, c_MP, few(12.0), seed=5)
        again = play(strategy, SampleStreams(draws_MPT, held_MP), state)
        np.testing.assert_array_equal(again.num_samples_MP, whole.num_samples_MP)
        np.testing.assert_array_equal(again.num_correct_MP, whole.num_correct_MP)


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.integers(0, 999), st.data())
def test_halving_that_is_killed_within_a_rung_keeps_the_same_policies(per_problem, seed, data):
    rng = np.random.default_rng(seed)
    draws_MPT, held_MP = draws_of(rng.random((5, 3)), 60, seed), np.full((5, 3), 60)
    strategy, state = SuccessiveHalving(per_problem), AdaptiveState.empty(3, few(47.0, 5))
    whole = play(strategy, SampleStreams(draws_MPT, held_MP), state)
    while (asked_MP := strategy.ask(state)).any():
        part_MP = np.minimum(asked_MP, data.draw(arrays.arrays(np.int64, (5, 3), elements=st.integers(0, 20))))
        part_MP = part_MP if part_MP.any() else asked_MP
        end_MP = state.num_samples_MP + part_MP
        total_MP = np.array([[draws_MPT[m, p, : end_MP[m, p]].sum() for p in range(3)] for m in range(5)])
        state = state.tell(part_MP, total_MP - state.num_correct_MP)
    np.testing.assert_array_equal(state.num_samples_MP, whole.num_samples_MP)


def test_halving_keeps_the_better_half_and_spends_all():
    # Eight policies, 3 rungs of 24 samples: 3 each, then 6 each for four, then 12 each for two.
    accepted_M = np.array([0, 1, 2, 3, 4, 5, 6, 7]) / 7
    draws_MPT = np.arange(24) % 7 < (accepted_M * 7)[:, None, None]
    end = play(SuccessiveHalving(), SampleStreams(draws_MPT, np.full((8, 1), 24)), AdaptiveState.empty(1, few(72.0, 8)))
    assert sorted(end.num_samples_MP[:, 0].tolist()) == [3, 3, 3, 3, 9, 9, 21, 21]
    assert end.num_samples_MP.sum() == 72


def test_optimised_turns_to_the_policy_that_the_pilot_favours():
    rates_MP = np.array([[0.0] * 40, [0.5] * 40])
    end = play_from_rates(Optimised(pilot=2), rates_MP, 12)
    assert np.all(end.num_samples_MP.sum(axis=0) == 12)
    assert end.num_samples_MP[1, 0] >= 9


def test_fixed_shares_replayed_from_a_table_cover_what_the_unbiased_estimator_says():
    n_MP, c_MP = np.array([[6, 5, 6], [4, 6, 8]]), np.array([[1, 0, 3], [0, 2, 1]])
    outcomes = Outcomes(("p", "q", "r"), ("a", "b"), n_MP, c_MP, {}, {})
    ends = replayed(FixedSplit(np.array([3, 2])), outcomes, few(5.0, 2), 2000)
    expected = coverage(n_MP, c_MP, [3, 2])
    np.testing.assert_allclose(np.mean([end.solved_P for end in ends], axis=0), expected, atol=4 * 0.5 / np.sqrt(2000))
    assert all(np.all(end.spent_P == 5) for end in ends)


def test_shuffled_orders_are_all_equally_likely():
    rng = np.random.default_rng(0)
    seen = np.array([shuffled(np.array([[4]]), np.array([[2]]), rng)[0, 0] for _ in range(6000)])
    orders, counts = np.unique(seen, axis=0, return_counts=True)
    assert len(orders) == 6
    assert np.all(abs(counts - 1000) < 5 * np.sqrt(1000))
    ragged = shuffled(np.array([[2, 4]]), np.array([[2, 1]]), rng)
    assert ragged[0, 0].tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("strategy", "seeds"),
    [(Thompson(), 12), (SuccessiveHalving(per_problem=True), 1), (Optimised(pilot=1), 1)],
    ids=repr,
)
def test_replays_agree_with_exact_enumeration(strategy, seeds):
    """One problem, two policies with 1 of 4 and 2 of 4: every pair of orders, each as likely as any other.

    Exact where the strategy rolls no dice of its own, else the mean over some of its seeds.
    """
    n_MP, c_MP, budget = np.array([[4], [4]]), np.array([[1], [2]]), few(4.0, 2)
    orders = [sorted(set(permutations([k < c for k in range(4)]))) for c in (1, 2)]
    exact = np.mean(
        [
            play(strategy, SampleStreams(np.array(pair)[:, None], n_MP), AdaptiveState.empty(1, budget, seed)).solved_P[
                0
            ]
            for pair in product(*orders)
            for seed in range(seeds)
        ]
    )
    table = Outcomes(("p",), ("a", "b"), n_MP, c_MP, {}, {})
    solved = np.mean([end.solved_P for end in replayed(strategy, table, budget, 400)])
    variance = exact * (1 - exact)
    assert abs(solved - exact) < 4 * np.sqrt(variance / 400 + (seeds > 1) * variance / (24 * seeds))


def test_thompson_with_one_policy_stops_at_the_first_success():
    draws_MPT = np.array([[[0, 0, 1, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]], np.bool_)
    end = play(Thompson(), SampleStreams(draws_MPT, np.full((1, 3), 5)), AdaptiveState.empty(3, few(5.0, 1)))
    assert end.num_samples_MP.tolist() == [[3, 5, 1]]
    assert end.num_correct_MP.tolist() == [[1, 0, 1]]


def at_cost(ends, cost):
    return np.interp(cost, [end.spent_P.mean() for end in ends], [end.solved_P.mean() for end in ends])


@pytest.mark.parametrize("batch", [1, 2])
def test_thompson_solves_more_for_its_cost_than_fixed_shares_on_complementary_policies(batch):
    good_P = np.random.default_rng(0).random(400) < 0.7
    rates_MP = np.stack([np.where(good_P, 0.4, 0.01), np.where(good_P, 0.01, 0.4), np.full(400, 0.01)])
    thompson = [play_from_rates(Thompson(batch), rates_MP, total) for total in (3, 6, 12, 24)]
    for total in (3, 6, 12):
        fixed = play_from_rates(FixedSplit(np.full(3, total // 3)), rates_MP, total)
        assert at_cost(thompson, fixed.spent_P.mean()) > fixed.solved_P.mean() + 0.03


def test_thompson_gains_nothing_on_identical_policies_that_are_not_stopped_earlier():
    rate_P = np.random.default_rng(1).beta(0.5, 1.0, 2400)
    rates_MP = np.stack([rate_P] * 3)
    fixed = play_from_rates(FixedSplit(np.full(3, 2)), rates_MP, 6)
    thompson = play_from_rates(Thompson(), rates_MP, 6, seed=1)
    noise = np.sqrt(0.25 / 2400) * np.sqrt(2)
    assert abs(thompson.solved_P.mean() - fixed.solved_P.mean()) < 4 * noise
    assert thompson.spent_P.mean() < fixed.spent_P.mean()


def test_rates_of_stopped_cells_are_biased():
    """Why pass@1 = c/n is refused there: with p = 0.3, stopping at the first success of at most 4 gives about 0.48."""
    rates_MP = np.full((1, 4000), 0.3)
    end = play_from_rates(Thompson(), rates_MP, 4)
    naive = (end.num_correct_MP / end.num_samples_MP).mean()
    expected = sum(0.3 * 0.7**t / (t + 1) for t in range(4))
    assert abs(naive - expected) < 0.03
    assert naive > 0.4
    fixed = play_from_rates(FixedSplit(np.array([4])), rates_MP, 4)
    assert abs((fixed.num_correct_MP / fixed.num_samples_MP).mean() - 0.3) < 0.02


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdaptiveState(np.ones((2, 1), int), np.ones((2, 1), int), few()), "do not fit together"),
        (lambda: AdaptiveState(np.ones((3, 1), int), np.full((3, 1), 2), few()), "correct the counts"),
        (lambda: AdaptiveState.empty(1, Budget(1.0, np.zeros(1), "tokens")), "costs above 0"),
        (lambda: AdaptiveState.empty(1, Budget(1.0, np.full(1, 2.0))), "or a budget in tokens or seconds"),
        (lambda: Optimised(pilot=4).ask(AdaptiveState.empty(1, few())), "pilot"),
        (lambda: SuccessiveHalving().ask(AdaptiveState.empty(1, few(5.0))), "give 6 or more"),
    ],
)
def test_what_does_not_hold_is_refused(make, message):
    with pytest.raises(AdaptiveError, match=message):
        make()


def test_a_table_is_never_stretched():
    table = Outcomes(("p",), ("a",), np.array([[3]]), np.array([[1]]), {}, {})
    with pytest.raises(AdaptiveError, match="sample 4 of policy 0 on problem 0, which has only 3"):
        replayed(FixedSplit(np.array([4])), table, few(4.0, 1), 1)


@pytest.mark.skipif(not LADDER.exists(), reason="the table is not part of the project")
def test_the_ladder_is_solved_for_less_by_thompson():
    outcomes = read_outcomes(LADDER)
    num_policies = len(outcomes.policies)
    k_M = np.array(list(largest_remainder(dict.fromkeys(outcomes.policies, 1.0), 24).values()))
    fixed, thompson = (
        replayed(strategy, outcomes, few(24.0, num_policies), 3) for strategy in (FixedSplit(k_M), Thompson(batch=4))
    )
    assert np.mean([end.solved_P for end in thompson]) >= np.mean([end.solved_P for end in fixed]) - 0.01
    assert np.mean([end.spent_P for end in thompson]) < np.mean([end.spent_P for end in fixed]) / 2


def test_an_arm_is_replayed_only_where_every_cell_holds_all_that_it_could_ask_for():
    """Two of four affordable samples are there, of which the second solves: no replay needs more, by chance."""
    n_MP, c_MP = np.array([[2, 2]]), np.array([[1, 1]])
    outcomes = Outcomes(("p0", "p1"), ("m0",), n_MP, c_MP, {}, {})
    draws = SampleStreams(np.array([[[False, True], [False, True]]]), n_MP)
    quick = Resampling(resamples=100)
    played = play_arm(Thompson(), outcomes, Budget.of_samples(4, 1), draws, 0, quick)
    assert (played.cost.value, played.naive_P.tolist()) == (2.0, [1.0, 1.0])
    replayed = play_arm(Thompson(), outcomes, Budget.of_samples(2, 1), draws, 0, quick)
    assert 1.0 < replayed.cost.value < 2.0


# Intervals repeat the choice that all problems share.


def arm_of(rates_MP, total, *, is_replayed, strategy=None):
    """An arm, successive halving by default, with what it covers in each resample if no choice is repeated."""
    strategy, how = strategy or SuccessiveHalving(), Resampling(resamples=200)
    budget = few(float(total), len(rates_MP))
    streams = SampleStreams(draws_of(rates_MP, total), np.full(rates_MP.shape, total))
    if not is_replayed:
        end = play(strategy, streams, AdaptiveState.empty(rates_MP.shape[1], budget))
        streams = SampleStreams(streams.accepted_MPT, end.num_samples_MP)
    n_MP = streams.num_samples_MP if is_replayed else np.minimum(streams.num_samples_MP, 1)
    names = tuple("dcba"[: len(rates_MP)])
    problems = tuple(f"p{p:02}" for p in reversed(range(rates_MP.shape[1])))
    outcomes = Outcomes(problems, names, n_MP, streams.num_correct(n_MP), {}, {})
    arm = play_arm(strategy, outcomes, budget, streams, 0, how)
    return arm, draw_weights(rates_MP.shape[1], how) @ arm.naive_P


@pytest.mark.parametrize("is_replayed", [False, True])
def test_priors_that_problems_share_widen_the_interval_of_thompson(is_replayed):
    """One policy of four is worth drawing, and whether it is found decides on all problems."""
    rates_MP = np.array([[0.3], [0.02], [0.02], [0.02]]) * np.ones(40)
    arm, plain_R = arm_of(rates_MP, 8, is_replayed=is_replayed, strategy=Thompson(batch=4))
    assert arm.honest["problems"].resampled_R.std() > 1.1 * plain_R.std()


@pytest.mark.parametrize("is_replayed", [False, True])
def test_a_choice_that_could_be_another_widens_and_a_certain_one_does_not(is_replayed):
    open_MP = np.random.default_rng(0).choice([0.0, 0.5], (4, 12))
    arm, plain_R = arm_of(open_MP, 16, is_replayed=is_replayed)
    change_R = arm.honest["problems"].resampled_R - plain_R
    # Over many plays, the luck of the order averages out, and with it most of what the choice changes.
    assert change_R.std() > (0.01 if is_replayed else 0.3) * plain_R.std()
    certain_MP = np.array([[0.0], [1.0], [0.0], [0.0]]) * np.ones(12)
    arm, plain_R = arm_of(certain_MP, 16, is_replayed=is_replayed)
    np.testing.assert_allclose(arm.honest["problems"].resampled_R, plain_R, atol=1e-12)


def test_a_strategy_that_decides_problem_by_problem_shares_no_choice():
    rates_MP = np.random.default_rng(0).choice([0.0, 0.5], (4, 12))
    arm, plain_R = arm_of(rates_MP, 16, is_replayed=True, strategy=SuccessiveHalving(per_problem=True))
    np.testing.assert_array_equal(arm.honest["problems"].resampled_R, plain_R)


def test_an_arm_that_was_played_once_has_its_problems_in_canonical_order():
    solves_P = np.array([0.0, 0.0, 1.0, 0.0, 1.0])  # p04, p03, p02, p01, p00
    arm, _ = arm_of(np.tile(solves_P, (4, 1)), 16, is_replayed=False)
    assert arm.naive_P.tolist() == [1, 0, 1, 0, 0]


def test_luck_of_the_order_counts_as_little_as_in_the_mean_of_many_plays():
    rng = np.random.default_rng(0)
    by_problems_B1, by_order_BV = rng.normal(0, 1, (20_000, 1)), rng.normal(0, 2, (20_000, 2))
    assert _of_mean(by_problems_B1 + by_order_BV, 20).var() == pytest.approx(1 + 4 / 20, rel=0.1)
    assert _of_mean(by_order_BV, 20).var() == pytest.approx(4 / 20, rel=0.3)
    assert _of_mean(np.full((5, 2), 0.1), 20).tolist() == [0.1] * 5


def test_streams_go_on_beyond_what_was_drawn_and_keep_it():
    drawn = SampleStreams(np.array([[[True, False, True], [False, True, False]]]), np.array([[3, 1]]))
    streams = EndlessStreams(drawn, np.array([[1.0, 0.0]]), np.random.default_rng(0)).of(np.array([1, 0, 0]))
    state = AdaptiveState.empty(3, few(100.0, 1))
    for asked, correct in (([0, 2, 3], [0, 1, 2]), ([5, 2, 1], [0, 2, 1]), ([1, 1, 1], [0, 1, 1])):
        asked_MP = np.array([asked])
        assert streams.next_correct(state, asked_MP).tolist() == [correct]
        state = state.tell(asked_MP, np.array([correct]))
