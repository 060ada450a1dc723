"""The choice: against a list of all allocations, on tables made to mislead, and where nothing fits."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.budget import Budget, BudgetError
from alphamix.ensemble.mixture import best_allocation as search
from alphamix.ensemble.mixture.best_allocation import Choice, best_allocation
from alphamix.ensemble.mixture.optimiser.branch_and_bound import branch_and_bound
from alphamix.ensemble.mixture.optimiser.local_search import exchange, fill
from alphamix.ensemble.mixture.optimiser.relaxation import Region, relax
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.statistics.pass_at_k import coverage
from alphamix.ensemble.statistics.posterior import Posterior

LCB = Path(__file__).parents[4] / "shared/data/lcb_outcomes.csv"


def beliefs(seed: int, num_policies: int, num_problems: int) -> Posterior:
    """Rates of one of four kinds: few solve, all or nothing, nobody solves, identical policies."""
    rng = np.random.default_rng(seed)
    shape = (num_policies, num_problems)
    n_MP = rng.integers(0, rng.choice([1, 3, 10, 300]) + 1, shape)
    kinds = [
        rng.beta(0.2, 1.0, shape),
        rng.integers(0, 2, shape),
        np.zeros(shape),
        np.repeat(rng.beta(0.3, 0.3, (1, num_problems)), num_policies, axis=0),
    ]
    return Posterior.of(n_MP, rng.binomial(n_MP, kinds[seed % 4]))


def certain(solved_MP: list[list[int]]) -> Posterior:
    """Beliefs that policies solve exactly these problems."""
    solves = np.array(solved_MP, np.float64)
    return Posterior(1e6 * solves + 1e-6, 1e6 * (1 - solves) + 1e-6, np.full(solves.shape[1], 1 / solves.shape[1]))


def listed(posterior: Posterior, budget: Budget, limit_M, min_policies: int) -> tuple[float, list[int]] | None:
    """The best of all allocations, the one named first among equals, or None where nothing fits."""
    most_M = np.minimum(limit_M, budget.total // budget.cost_M).astype(int)
    k_NM = np.array(list(product(*(range(most, -1, -1) for most in most_M))))
    cost_N = k_NM @ budget.cost_M
    fits_N = (cost_N <= budget.total + 1e-9) & ((k_NM > 0).sum(axis=1) >= min_policies)
    if budget.currency == "samples":
        fits_N &= cost_N == budget.total
    if not (k_NM := k_NM[fits_N]).size:
        return None
    log_miss_KMP = np.array([posterior.log_miss(k) for k in range(k_NM.max() + 1)])
    miss_N = np.exp(log_miss_KMP[k_NM, np.arange(k_NM.shape[1])].sum(axis=1)) @ posterior.weight_C
    best = int((miss_N <= miss_N.min() + 1e-14).argmax())
    return 1 - miss_N[best], k_NM[best].tolist()


@st.composite
def tasks(draw):
    num_policies = draw(st.integers(1, 4))
    in_samples = draw(st.booleans())
    each = {"min_size": num_policies, "max_size": num_policies}
    cost_M = (
        np.ones(num_policies) if in_samples else np.array(draw(st.lists(st.sampled_from([0.5, 1, 1.7, 3]), **each)))
    )
    budget = Budget(float(draw(st.integers(1, 8))), cost_M, "samples" if in_samples else "tokens")
    limit_M = np.array(draw(st.just([99] * num_policies) | st.lists(st.integers(0, 7), **each)))
    posterior = beliefs(draw(st.integers(0, 10**6)), num_policies, draw(st.integers(1, 8)))
    return posterior, budget, limit_M, draw(st.integers(1, 4))


@settings(deadline=None)
@given(tasks())
def test_searching_finds_what_listing_finds(task):
    posterior, budget, limit_M, min_policies = task
    best = listed(posterior, budget, limit_M, min_policies)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "_ENUMERATED_CELLS", 0)
        if best is None:
            with pytest.raises(BudgetError):
                best_allocation(posterior, budget, limit_M, min_policies)
            return
        patch.setattr(search, "_MAX_NODES", 2000)
        searched = best_allocation(posterior, budget, limit_M, min_policies)
        patch.setattr(search, "_MAX_NODES", 0)
        quick = best_allocation(posterior, budget, limit_M, min_policies)
    for choice in (searched, quick, best_allocation(posterior, budget, limit_M, min_policies)):
        assert_meets(choice, *task)
        assert choice.certificate.upper_bound >= best[0] - 1e-12
        if choice.certificate.is_optimal:
            assert choice.certificate.objective == pytest.approx(best[0], abs=2e-9)
    assert searched.certificate.is_optimal


def assert_meets(choice: Choice, posterior: Posterior, budget: Budget, limit_M, min_policies: int) -> None:
    k_M = choice.allocation_M
    assert (k_M <= limit_M).all()
    assert (k_M > 0).sum() >= min_policies
    assert k_M @ budget.cost_M <= budget.total + 1e-9
    assert budget.currency != "samples" or k_M.sum() == budget.total
    assert choice.certificate.objective == pytest.approx(posterior.coverage(k_M), abs=1e-12)


@settings(deadline=None)
@given(tasks())
def test_listing_all_is_what_is_done_where_few_fit(task):
    posterior, budget, limit_M, min_policies = task
    if (best := listed(posterior, budget, limit_M, min_policies)) is not None:
        choice = best_allocation(posterior, budget, limit_M, min_policies)
        assert choice.certificate.method == "enumerated"
        assert choice.certificate.gap == 0
        assert choice.certificate.objective == pytest.approx(best[0], abs=1e-12)
        assert budget.currency != "samples" or choice.allocation_M.tolist() == best[1]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 8))
def test_filling_greedily_reaches_its_guarantee(seed, num_policies, total):
    posterior = beliefs(seed, num_policies, 6)
    budget = Budget.of_samples(total, num_policies)
    zero_M = np.zeros(num_policies, np.int64)
    greedy_M = fill(posterior, Region(zero_M, zero_M + total, budget.cost_M, budget.total), zero_M)
    best = listed(posterior, budget, zero_M + total, 1)
    assert best is not None
    assert posterior.coverage(greedy_M) >= (1 - 1 / np.e) * best[0]


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 4), st.sampled_from([[1, 1, 1, 1], [1, 2, 1.5, 3]]))
def test_branch_and_bound_alone_finds_the_best_from_the_worst_start(seed, num_policies, costs):
    posterior, cost_M = beliefs(4 * seed, num_policies, 8), np.array(costs[:num_policies], np.float64)
    zero_M = np.zeros(num_policies, np.int64)
    region = Region(zero_M, (7 // cost_M).astype(np.int64), cost_M, 7.0)
    found_M, bound = branch_and_bound(posterior, region, relax(posterior, region), zero_M, 5000)
    best = listed(posterior, Budget(7.0, cost_M, "tokens"), zero_M + 9, 1)
    assert best is not None
    assert posterior.coverage(found_M) == pytest.approx(best[0], abs=2e-9)
    assert bound == pytest.approx(best[0], abs=2e-9)


@pytest.mark.parametrize("seed", range(0, 40, 4))
def test_after_exchange_no_single_exchange_improves(seed):
    posterior, total = beliefs(seed, 5, 30), 12
    start_M = np.array([0, 0, 0, 0, total])
    region = Region(start_M * 0, start_M * 0 + total, np.ones(5), float(total))
    found_M = exchange(posterior, region, start_M)
    moves = [np.eye(5, dtype=int)[a] - np.eye(5, dtype=int)[r] for a in range(5) for r in range(5)]
    neighbours = [found_M + move for move in moves if (found_M + move >= 0).all()]
    assert max(map(posterior.coverage, neighbours)) <= posterior.coverage(found_M) + 1e-11
    assert posterior.coverage(found_M) > posterior.coverage(start_M)


@pytest.mark.parametrize(("solved", "start", "expected"), [(3, [1, 0], [0, 3]), (5, [0, 3], [1, 0])])
def test_exchange_trades_one_dear_sample_for_many_cheap_ones_and_back(solved, start, expected):
    # A cheap sample solves each of five problems half the time: one covers 1/2, three cover 7/8.
    dear = np.arange(5) < solved
    posterior = Posterior(
        np.array([1e6 * dear + 1e-6, np.full(5, 1e6)]), np.array([1e6 * ~dear + 1e-6, np.full(5, 1e6)]), np.full(5, 0.2)
    )
    region = Region(np.zeros(2, np.int64), np.array([1, 3]), np.array([3.0, 1.0]), 3.0)
    assert exchange(posterior, region, np.array(start)).tolist() == expected


def test_greedy_alone_is_misled_and_the_search_is_not(monkeypatch):
    posterior = certain([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 1, 1]])
    zero_M = np.zeros(3, np.int64)
    greedy_M = fill(posterior, Region(zero_M, zero_M + 2, np.ones(3), 2.0), zero_M)
    assert posterior.coverage(greedy_M) == pytest.approx(3 / 4, abs=1e-5)
    monkeypatch.setattr(search, "_ENUMERATED_CELLS", 0)
    choice = best_allocation(posterior, Budget.of_samples(2, 3))
    assert choice.allocation_M.tolist() == [0, 1, 1]
    assert choice.certificate.objective == pytest.approx(1, abs=1e-5)
    assert choice.certificate.is_optimal


@pytest.mark.parametrize("cells", [0, 4_000_000])
def test_ties_go_to_the_policy_named_first(monkeypatch, cells):
    monkeypatch.setattr(search, "_ENUMERATED_CELLS", cells)
    posterior = Posterior.of(np.full((3, 5), 10), np.repeat([[0, 1, 3, 7, 10]], 3, axis=0))
    assert best_allocation(posterior, Budget.of_samples(7, 3)).allocation_M.tolist() == [3, 2, 2]
    assert best_allocation(posterior, Budget.of_samples(2, 3)).allocation_M.tolist() == [1, 1, 0]


def test_one_policy_gets_all():
    posterior = beliefs(0, 1, 9)
    for total in (1, 10_000):
        choice = best_allocation(posterior, Budget.of_samples(total, 1))
        assert choice.allocation_M.tolist() == [total]
        assert choice.certificate.is_optimal


@pytest.mark.parametrize("accepted", [0, 10])
@pytest.mark.parametrize("total", [1, 16, 10_000])
def test_tables_where_nobody_or_everybody_solves_still_give_a_choice(accepted, total):
    posterior = Posterior.of(np.full((8, 5), 10), np.full((8, 5), accepted))
    choice = best_allocation(posterior, Budget.of_samples(total, 8))
    assert choice.allocation_M.sum() == total
    assert choice.certificate.gap < 1e-6


@pytest.mark.parametrize("cost", [1.0, 3.0])
def test_large_budgets_are_certified(cost):
    posterior = beliefs(0, 10, 200)
    cost_M = np.where(np.arange(10) % 2, cost, 1.0)
    choice = best_allocation(posterior, Budget(10_000.0, cost_M, "tokens"))
    assert 10_000 - cost_M.min() < choice.allocation_M @ cost_M <= 10_000
    assert choice.certificate.gap < 1e-6


def test_the_search_is_deterministic():
    posterior = beliefs(4, 8, 120)
    budget = Budget.of_samples(40, 8)
    first, again = (best_allocation(posterior, budget) for _ in range(2))
    assert first.allocation_M.tolist() == again.allocation_M.tolist()


@pytest.mark.parametrize(
    ("budget", "limit_M", "min_policies", "message"),
    [
        (Budget.of_samples(0, 2), None, 1, "a budget of 0 samples buys no sample: give at least 1"),
        (Budget(99.0, np.array([100.0, 250.0]), "tokens"), None, 1, "99 tokens buys no sample: give at least 100"),
        (Budget.of_samples(9, 2), np.array([3, 4]), 1, "9 samples exceeds the 7 that can be scored: lower it"),
        (Budget.of_samples(9, 2), np.array([0, 0]), 1, "no policy has any samples to spend: draw samples first"),
        (Budget.of_samples(9, 2), None, 3, "a mixture of 3 policies was asked for, but only 2 can get samples"),
        (
            Budget.of_samples(9, 2),
            np.array([9, 0]),
            2,
            "a mixture of 2 policies was asked for, but only 1 can get samples",
        ),
        (Budget.of_samples(1, 2), None, 2, "each of 2 policies costs 2 samples: raise the budget of 1"),
        (Budget(300.0, np.array([100.0, 250.0]), "seconds"), None, 2, "costs 350 seconds: raise the budget of 300"),
        (Budget(3.0, np.array([1.0, 0.0]), "seconds"), None, 1, "a sample costs 0 seconds .* give costs above 0"),
        (Budget(float("nan"), np.ones(2), "tokens"), None, 1, "a budget of nan tokens"),
    ],
)
def test_what_cannot_be_met_is_said_with_its_cure(budget, limit_M, min_policies, message):
    with pytest.raises(BudgetError, match=message):
        best_allocation(beliefs(0, 2, 5), budget, limit_M, min_policies)


def pairs_of(num_policies: int) -> list[tuple[int, int]]:
    return [(a, r) for a in range(num_policies) for r in range(num_policies) if a != r]


@pytest.mark.skipif(not LCB.exists(), reason="no shared data")
@pytest.mark.parametrize("limit", [None, 10])
def test_real_outcomes_are_solved_to_proven_optimality(limit):
    outcomes = read_outcomes(LCB, "drop-problems")
    posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP)
    limit_M = None if limit is None else np.full(16, limit)
    rng = np.random.default_rng(0)
    for total in (10, 20, 50):
        choice = best_allocation(posterior, Budget.of_samples(total, 16), limit_M)
        assert choice.certificate.is_optimal
        assert choice.certificate.objective == pytest.approx(posterior.coverage(choice.allocation_M), abs=1e-12)
        # No exchange of one sample, and no split drawn at random, is better.
        others = [choice.allocation_M + np.eye(16, dtype=int)[a] - np.eye(16, dtype=int)[r] for a, r in pairs_of(16)]
        others += list(rng.multinomial(total, rng.dirichlet(np.full(16, 0.3), 50)))
        fitting = [k_M for k_M in others if k_M.min() >= 0 and (limit is None or k_M.max() <= limit)]
        assert max(map(posterior.coverage, fitting)) <= choice.certificate.objective + 2e-9
        # What the model expects is what the samples show, where they suffice to tell.
        n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
        if np.all(choice.allocation_M <= n_MP.min(axis=1)):
            shown = coverage(n_MP, c_MP, choice.allocation_M).mean()
            assert choice.certificate.objective == pytest.approx(shown, abs=0.02)
