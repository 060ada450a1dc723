"""Arms and cross-fitting: what choices are worth where they did not look."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import BestMixture, BestSingle, Split, score_arms
from alphamix.ensemble.mixture.compare_arms import compare, equal_gains, matched_budget
from alphamix.ensemble.mixture.cross_fitting import CrossFit, CrossFitOptions, Evidence, cross_fit
from alphamix.ensemble.mixture.gains import ArmEstimates, gain_over
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.intervals import Resampling, mean_over_problems, student_interval
from alphamix.ensemble.statistics.pass_at_k import UndefinedError

BY_PROBLEMS = CrossFit("problems", folds=10, repeats=2, seed=0)
BY_SAMPLES = CrossFit("samples", folds=2, repeats=2, seed=0)
FEW_RESAMPLES = Resampling(resamples=100)


def outcomes_of(c_MP, n=4, costs=None, stopped=None) -> Outcomes:
    c_MP = np.array(c_MP)
    return Outcomes(
        problems=tuple(f"p{p}" for p in range(c_MP.shape[1])),
        policies=tuple(f"m{m}" for m in range(c_MP.shape[0])),
        num_samples_MP=np.broadcast_to(np.array(n), c_MP.shape),
        num_correct_MP=c_MP,
        num_failures_MP={},
        costs_MP=costs or {},
        stopped_MP=stopped,
    )


def arm(outcomes, rule, crossfits, resampling=FEW_RESAMPLES):
    scored, _ = score_arms(Evidence(outcomes), {"arm": rule}, CrossFitOptions(crossfits, resampling))
    return scored["arm"]


def honest_P(outcomes, rule, crossfit):
    scores, _ = cross_fit(outcomes, {"rule": rule}, crossfit, Resampling(resamples=100))
    return scores["rule"].covered_P


def samples(total, num_policies=2):
    return Budget.of_samples(total, num_policies)


# Policy m0 solves the first two problems, m1 the last two; nobody needs more than one sample.
OPPOSITES = outcomes_of([[4, 4, 0, 0], [0, 0, 4, 4]])


@dataclass
class Recorder:
    """A rule that always takes the first policy, and writes down what it was shown."""

    shown: list

    def choose(self, evidence, limit_M):
        self.shown.append((evidence.outcomes, limit_M))
        return np.array([1] + [0] * (len(evidence.outcomes.policies) - 1))

    def merit(self, evidence, allocations_CM):
        return np.zeros((len(allocations_CM), len(evidence.outcomes.problems)))


def test_opposite_policies_complement_each_other():
    both = arm(OPPOSITES, Split.equal(OPPOSITES.policies, samples(4)), {"problems": BY_PROBLEMS})
    assert both.allocation == {"m0": 2, "m1": 2}
    assert both.naive_P.tolist() == both.honest["problems"].covered_P.tolist() == [1, 1, 1, 1]
    assert arm(OPPOSITES, BestSingle(samples(4)), {}).naive_P.mean() == 0.5
    assert arm(OPPOSITES, BestMixture(samples(4)), {}).naive_P.mean() == 1


def test_a_split_in_tokens_spends_what_its_shares_cost():
    budget = Budget(100.0, np.array([10.0, 30.0]), "tokens")
    assert Split.equal(("m0", "m1"), budget).allocation_M(("m0", "m1")).tolist() == [3, 2]
    assert Split({"m1": 1.0}, budget).allocation_M(("m0", "m1")).tolist() == [0, 3]
    dear_first = Budget(100.0, np.array([30.0, 10.0]), "tokens")  # 3 and 2 samples would cost 110
    assert Split.equal(("m0", "m1"), dear_first).allocation_M(("m0", "m1")).tolist() == [2, 2]
    with pytest.raises(UndefinedError, match="on policy 'm0' alone the budget buys 10 samples per problem, but only 4"):
        BestSingle(budget).choose(Evidence(OPPOSITES), np.array([4, 4]))


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["m0", "m1", "m2"]), st.integers(1, 9), min_size=1),
    st.lists(st.integers(1, 40), min_size=3, max_size=3),
    st.integers(1, 200),
)
def test_a_split_never_overspends_and_leaves_no_larger_split_that_could_be_paid_for(weights, cost, total):
    outcomes = outcomes_of([[0], [0], [0]])
    budget = Budget(float(total), np.array(cost, float), "tokens")
    k_M = Split(weights, budget).allocation_M(outcomes.policies)
    assert k_M @ cost <= total
    assert k_M.tolist() == [largest_remainder(weights, k_M.sum()).get(policy, 0) for policy in outcomes.policies]
    for more in range(k_M.sum() + 1, k_M.sum() + 50):
        split = largest_remainder(weights, more)
        assert sum(split.get(policy, 0) * one for policy, one in zip(outcomes.policies, cost, strict=True)) > total


def test_a_best_single_policy_is_one_that_the_budget_pays_for_also_where_nothing_is_solved():
    budget = Budget(10.0, np.array([30.0, 10.0]), "tokens")
    assert BestSingle(budget).choose(Evidence(outcomes_of([[0, 0], [0, 0]])), np.array([4, 4])).tolist() == [0, 1]


def test_by_problems_no_problem_is_scored_by_its_own_choice():
    # m0 wins by p0 alone; without p0, m1 wins. So p0 must get what m1 covers of it: nothing.
    outcomes = outcomes_of([[4, 1, 1], [0, 2, 2]])
    covered_P = honest_P(outcomes, BestSingle(samples(1)), CrossFit("problems", folds=3, repeats=1, seed=0))
    assert covered_P[0] == 0.0


def test_by_problems_folds_are_disjoint_and_every_problem_is_scored_equally_often():
    recorder = Recorder([])
    outcomes = outcomes_of(np.arange(14).reshape(2, 7) % 5)
    covered_P = honest_P(outcomes, recorder, CrossFit("problems", folds=3, repeats=4, seed=1))
    np.testing.assert_allclose(covered_P, outcomes.solve_rate_MP[0])
    assert len(recorder.shown) == 12
    assert all(len(shown.problems) in (4, 5) for shown, _ in recorder.shown)


def test_by_samples_what_chooses_and_what_scores_are_the_whole_and_share_no_draw():
    recorder = Recorder([])
    n_MP = np.array([[8, 9], [10, 11]])
    outcomes = outcomes_of([[8, 0], [5, 3]], n=n_MP)
    honest_P(outcomes, recorder, CrossFit("samples", folds=2, repeats=1, seed=3))
    (first, limit_M), (second, _) = recorder.shown
    # Two folds: what one was chosen on is what the other was scored on.
    np.testing.assert_array_equal(first.num_samples_MP + second.num_samples_MP, n_MP)
    np.testing.assert_array_equal(first.num_correct_MP + second.num_correct_MP, outcomes.num_correct_MP)
    assert limit_M.tolist() == second.num_samples_MP.min(axis=1).tolist()


def test_by_samples_the_honest_figure_of_a_fixed_choice_is_unbiased():
    """The mean over all divisions of a half's pass@k is the whole's pass@k."""
    outcomes = outcomes_of([[3, 6, 1] * 100], n=10)  # each problem a hundred times: as many divisions, and fewer fits
    covered_P = honest_P(outcomes, BestSingle(samples(3, 1)), CrossFit("samples", 2, 40, 0))
    naive_P = arm(outcomes, BestSingle(samples(3, 1)), {}).naive_P
    np.testing.assert_allclose(covered_P.reshape(100, 3).mean(axis=0), naive_P[:3], atol=0.01)


@pytest.mark.parametrize(
    "crossfit", [CrossFit("problems", 3, 1, seed=0), CrossFit("samples", 2, 1, seed=0)], ids=["problems", "samples"]
)
def test_the_winners_curse_shows_in_the_naive_figure_only(crossfit):
    """Five identical policies: the best of them looks better than it is, unless it is scored elsewhere."""
    rng = np.random.default_rng(1)
    naive, honest, truth = [], [], []
    for _ in range(60):
        rate_P = rng.beta(0.2, 1.0, 60)
        five = outcomes_of(rng.binomial(20, rate_P, size=(5, 60)), n=20)
        single = arm(five, BestSingle(samples(10, 5)), {crossfit.by: crossfit})
        naive.append(single.naive_P.mean())
        honest.append(single.honest[crossfit.by].covered_P.mean())
        truth.append((1 - (1 - rate_P) ** 10).mean())
    optimism = np.mean(np.array(naive) - truth)
    error = np.array(honest) - truth
    assert optimism > 0.01
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error)) + 0.002


def test_undefined_figures_are_missing_with_a_reason_never_zero():
    outcomes = outcomes_of([[2, 1], [0, 3]])
    options = CrossFitOptions({"problems": BY_PROBLEMS, "samples": BY_SAMPLES}, Resampling(resamples=100))
    result = compare(outcomes, samples(6), options)
    assert set(result.arms) == {"mixture", "equal"}
    assert result.gains == {}
    assert "on policy 'm0' alone the budget buys 6 samples per problem, but only 4" in result.undefined["best_single"]
    assert set(result.expected) == {"m0", "m1"}
    result = compare(outcomes, samples(3), options)
    assert set(result.gains["mixture"].honest) == {"problems"}
    assert "only 2 can be scored" in result.undefined["best_single, honest by samples"]


def test_one_problem_cannot_be_cross_fitted_by_problems():
    for outcomes, crossfit, reason in (
        (outcomes_of([[1]]), BY_PROBLEMS, "needs at least 2 problems"),
        (OPPOSITES, CrossFit("samples", 9, 1, 0), "needs 9 samples everywhere, but one cell has 4"),
    ):
        rules = {"rule": BestSingle(samples(1, len(outcomes.policies)))}
        scores, undefined = cross_fit(outcomes, rules, crossfit, Resampling(resamples=100))
        assert scores == {}
        assert reason in undefined["rule"]


def test_outcomes_that_stopped_early_are_refused():
    stopped = outcomes_of([[1, 1]], stopped=np.array([[False, True]]))
    with pytest.raises(OutcomesError, match="stopped early"):
        arm(stopped, BestSingle(samples(1, 1)), {})


def test_matched_budgets_are_what_every_policy_alone_can_be_scored_at():
    tokens_MP = np.array([[10.0, 10.0], [30.0, 30.0]])
    outcomes = outcomes_of([[4, 0], [0, 4]], costs={"tokens": tokens_MP})
    assert matched_budget(outcomes, 2, ("m0", "m1"), "tokens").total == 40.0
    assert matched_budget(outcomes, 4, ("m0", "m1"), "tokens").total == 40.0  # 4 samples of m0 are all there are
    three = outcomes_of([[9, 0], [0, 9]], n=9, costs={"tokens": tokens_MP})
    budget = matched_budget(three, 3, ("m0", "m1"), "tokens")
    assert (budget.total, BestSingle(budget).samples_M().tolist()) == (50.0, [5, 1])
    assert Split.equal(("m0", "m1"), budget).allocation_M(("m0", "m1")).tolist() == [2, 1]  # as in samples
    options = CrossFitOptions({"problems": CrossFit("problems", 2, 2, 0)}, Resampling(resamples=100))
    gains = equal_gains(outcomes, 2, options, ("m0", "m1"))
    assert gains["seconds"] is None
    assert gains["samples"].gain.value == gains["tokens"].gain.value == 0.5  # over either policy alone


def test_a_budget_that_misses_a_policy_supports_no_claim():
    costs = {"tokens": np.array([[10.0, 10.0], [30.0, 30.0]])}
    outcomes = outcomes_of([[1, 0], [0, 1]], n=1, costs=costs)
    options = CrossFitOptions({"problems": CrossFit("problems", 2, 2, 0)}, Resampling(resamples=100))
    assert matched_budget(outcomes, 2, ("m0", "m1"), "tokens").total == 10.0  # all that m0 can be scored at
    assert equal_gains(outcomes, 2, options, ("m0", "m1"))["tokens"] is None


def five_identical_policies(seed) -> Outcomes:
    rng = np.random.default_rng(seed)
    return outcomes_of(rng.binomial(50, rng.beta(0.2, 1.0, 60), size=(5, 60)), n=50)


def gain_of_equal_split(outcomes) -> ArmEstimates:
    by = {"problems": CrossFit("problems", 3, 10, 0), "samples": CrossFit("samples", 2, 10, 0)}
    resampling, budget = Resampling(resamples=400), samples(10, 5)
    rules = (BestSingle(budget), Split.equal(outcomes.policies, budget))
    return gain_over(*(arm(outcomes, rule, by, resampling) for rule in rules), resampling)


def test_of_five_identical_policies_the_naive_gain_is_told_from_nothing_and_the_honest_one_is_not():
    """The best single policy was picked for its luck here: by the naive figure, splitting would do harm."""
    gain = gain_of_equal_split(five_identical_policies(6))
    assert gain.naive.value < 0
    assert gain.naive.value + 2 * gain.naive.stderr < 0
    for by in ("problems", "samples"):
        assert gain.honest[by].sign == 0
        assert gain.optimism(by) < 0


@pytest.mark.slow
def test_over_many_tables_of_identical_policies_the_honest_interval_holds_its_level():
    gains = [gain_of_equal_split(five_identical_policies(seed)) for seed in range(60)]
    wrong = {by: sum(gain.honest[by].sign != 0 for gain in gains) for by in ("problems", "samples")}
    assert sum(abs(gain.naive.value) > 2 * gain.naive.stderr for gain in gains) >= 6
    assert max(wrong.values()) <= 5
    honest = np.array([gain.honest["problems"].value for gain in gains])
    assert abs(honest.mean()) < 3 * honest.std() / np.sqrt(len(honest))


def test_rounding_errors_of_repeated_divisions_decide_no_sign():
    outcomes = outcomes_of([[1, 7, 3, 3, 9]], n=10)
    covered_P = honest_P(outcomes, BestSingle(samples(2, 1)), CrossFit("problems", 5, 20, 0))
    difference_P = arm(outcomes, BestSingle(samples(2, 1)), {}).naive_P - covered_P
    assert mean_over_problems(difference_P, Resampling()).sign == 0


def test_one_policy_gains_nothing_over_itself_and_rounding_noise_decides_no_sign():
    """The mean over repeated divisions is off by 1e-17 from the same figure without any."""
    for seed in range(8):
        one = outcomes_of(np.random.default_rng(seed).integers(0, 11, (1, 40)), n=10)
        rules = (BestSingle(samples(1, 1)), Split.equal(one.policies, samples(1, 1)))
        by = {"problems": CrossFit("problems", 3, 7, 0), "samples": CrossFit("samples", 2, 7, 0)}
        single, equal = (arm(one, rule, by) for rule in rules)
        gain = gain_over(single, equal, Resampling(resamples=100))
        assert [(one.value, one.stderr, one.interval) for one in gain.honest.values()] == [(0, 0, (0, 0))] * 2


def test_honest_figures_of_one_problem_have_no_interval_and_no_share_is_above_1():
    by = {"samples": CrossFit("samples", 2, 3, 0)}
    options = CrossFitOptions(by, Resampling(resamples=100))
    alone = compare(outcomes_of([[3], [7]], n=10), samples(4), options)
    assert alone.gains["mixture"].honest["samples"].interval is None
    few = compare(outcomes_of([[10, 9, 0], [1, 10, 10]], n=10), samples(4), options)
    for figures in few.coverage.values():
        low, high = figures.honest["samples"].interval
        assert 0 <= low <= high <= 1


def test_honest_intervals_of_few_problems_are_as_wide_as_those_of_means():
    """Nothing is chosen, so the honest figure is a mean over problems, and Student's t alone makes it wider."""
    outcomes = outcomes_of([[1, 7, 3, 9]], n=10)
    resampling = Resampling(resamples=20_000)
    by = {"problems": BY_PROBLEMS}
    one = arm(outcomes, Split({"m0": 1.0}, samples(1, 1)), by, resampling)
    mean = mean_over_problems(one.naive_P, resampling, lowest=0)
    honest = student_interval(
        one.honest["problems"].covered_P, one.honest["problems"].resampled_R, resampling, lowest=0
    )
    assert honest.stderr == pytest.approx(mean.stderr, rel=0.03)
    assert honest.interval[0] < mean.interval[0] < mean.value < mean.interval[1] < honest.interval[1]


def test_the_mixture_that_is_scored_is_the_one_that_is_proposed(monkeypatch):
    """Also where the longer search finds a better one than that of a fold."""
    monkeypatch.setattr(BestMixture, "choose", lambda self, evidence, limit_M: np.array([4, 0]))
    options = CrossFitOptions({"problems": BY_PROBLEMS}, Resampling(resamples=100))
    comparison = compare(OPPOSITES, samples(4), options)
    assert comparison.arms["mixture"].allocation == {"m0": 2, "m1": 2}
    assert comparison.choice.allocation_M.tolist() == [2, 2]


def test_over_many_tables_of_identical_policies_the_best_mixture_gains_nothing():
    """Its choices are many, and each resample chooses among them; the truth is 0 whatever is chosen."""
    budget, by = samples(10, 5), {"problems": CrossFit("problems", 3, 2, 0)}
    resampling = Resampling(resamples=200)
    gains = []
    for seed in range(24):
        outcomes = five_identical_policies(seed)
        rules = {"single": BestSingle(budget), "mixture": BestMixture(budget)}
        scored, _ = score_arms(Evidence(outcomes), rules, CrossFitOptions(by, resampling))
        gains.append(gain_over(scored["single"], scored["mixture"], resampling).honest["problems"])
    assert sum(gain.sign != 0 for gain in gains) <= 3
    honest = np.array([gain.value for gain in gains])
    assert abs(honest.mean()) < 3 * honest.std() / np.sqrt(len(honest))


def test_a_split_in_tokens_is_scored_with_its_own_costs_in_every_order_of_policies():
    """Policies stand in the table in another order than the alphabet's, and cost differently."""
    names, cost_M = ("cheap", "dear", "apt"), np.array([10.0, 40.0, 20.0])
    outcomes = replace(outcomes_of([[3, 1, 0, 2], [8, 7, 6, 8], [4, 0, 2, 5]], n=8), policies=names)
    budget = Budget(140.0, cost_M, "tokens")
    splits = {"equal": Split.equal(names, budget), "two": Split({"dear": 2.0, "apt": 1.0}, budget)}
    options = CrossFitOptions({}, Resampling(resamples=20))
    arms = compare(outcomes, budget, options, splits).arms
    for name, split in splits.items():
        own = dict(zip(names, split.allocation_M(names).tolist(), strict=True))
        assert arms[name].allocation == {policy: k for policy, k in own.items() if k}
