"""What `compare` says where it once flattered: a model's word, ties, thin policies, verdicts, copies of problems."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import BestMixture, Split, score_arms
from alphamix.ensemble.mixture.compare_arms import Comparison, compare
from alphamix.ensemble.mixture.cross_fitting import CrossFit, CrossFitOptions, Evidence
from alphamix.ensemble.mixture.gains import score_single_policies, strict_gain
from alphamix.ensemble.mixture.pilot_forecast import forecast_pilot
from alphamix.ensemble.outcomes.files import read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.report.mixture_text import sentence
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, mean_over_problems

LCB = Path(__file__).parents[4] / "shared/data/lcb_outcomes.csv"
BY = {"problems": CrossFit("problems", 3, 1, 0), "samples": CrossFit("samples", 2, 1, 0)}
QUICK = CrossFitOptions(BY, Resampling(resamples=100))
BY_PROBLEMS = CrossFitOptions({"problems": BY["problems"]}, Resampling(resamples=200))


@pytest.fixture(autouse=True)
def no_shapley_values(monkeypatch):
    """They are not what these tests are about, and take most of the time."""
    monkeypatch.setattr(
        "alphamix.ensemble.mixture.shapley.shapley_values", lambda value, num_policies: (np.zeros(num_policies), 0.0)
    )


def outcomes_of(c_MP, n, names=None, groups=None) -> Outcomes:
    c_MP = np.asarray(c_MP)
    return Outcomes(
        problems=tuple(f"p{p:03}" for p in range(c_MP.shape[1])),
        policies=tuple(names or (f"m{m}" for m in range(c_MP.shape[0]))),
        num_samples_MP=np.broadcast_to(np.array(n), c_MP.shape),
        num_correct_MP=c_MP,
        num_failures_MP={},
        costs_MP={},
        groups=groups,
    )


def identical(seed: int, num_policies: int = 9, num_problems: int = 150, n: int = 4) -> tuple[Outcomes, np.ndarray]:
    """Policies of the same rates, and these rates."""
    rng = np.random.default_rng(seed)
    rate_P = rng.beta(0.3, 0.6, num_problems)
    return outcomes_of(rng.binomial(n, rate_P, (num_policies, num_problems)), n), rate_P


# A1: a model's word invents no gain.


@pytest.mark.parametrize("is_pilot", [False, True])
def test_of_nine_identical_policies_nothing_is_promised_that_is_not_there(is_pilot):
    """150 problems, p ~ Beta(0.3, 0.6), n = 4, 36 samples. Independent beliefs promise 94.8 %; the truth is 75.6 %."""
    outcomes, rate_P = identical(0)
    truth = 1 - (1 - rate_P) ** 36
    found = compare(outcomes, Budget.of_samples(36, 9), BY_PROBLEMS, is_pilot=is_pilot)
    figures = [found.choice.certificate.objective]
    # A single policy may be expected to solve less than it does, since identical policies are a limit of the model.
    assert truth.mean() - 0.05 < max(found.expected.values()) < truth.mean() + 0.03
    assert figures[0] - max(found.expected.values()) < 0.05
    if is_pilot:
        assert found.forecast is not None
        assert "mixture" not in found.coverage
        figures.append(found.forecast.value)
        low, high = found.forecast.interval
        assert low < truth.mean() < high
        assert f"{100 * found.forecast.value:.1f} %" in sentence(found, "problems")
    else:
        honest = found.coverage["mixture"].honest["problems"]
        figures.append(honest.value)
        assert f"it covers {100 * honest.value:.1f} %" in sentence(found, "problems")
    np.testing.assert_allclose(figures, truth.mean(), atol=0.03)


def test_no_sentence_contradicts_the_table():
    """The share in the sentence is that of the table wherever an honest one exists."""
    outcomes, _ = identical(1, 3, 40, 8)
    found = compare(outcomes, Budget.of_samples(4, 3), QUICK)
    for by in ("problems", "samples"):
        honest = found.coverage["mixture"].honest[by]
        single = found.coverage["best_single"].honest[by]
        gain = found.gains["mixture"].honest[by]
        told = {f"{100 * honest.value:.1f} %", f"{100 * single.value:.1f} %"}
        said = sentence(found, by)
        assert set(re.findall(r"(?<![\d.])\d+\.\d %", said)) <= told
        assert f"{100 * abs(gain.value):.1f} points" in said or gain.value == 0


def test_random_routing_is_expected_to_cover_no_more_than_the_mixture():
    """Each third of 348 problems is easy: 300 columns told the difference of the two, but not their level."""
    rng = np.random.default_rng(2)
    rate_MP = rng.beta(np.where(np.arange(348) % 3, 0.3, 4.0), 2.0, (2, 348))
    found = compare(outcomes_of(rng.binomial(8, rate_MP), 8), Budget.of_samples(5, 2), BY_PROBLEMS)
    assert found.random is not None
    mixture = found.choice.certificate.objective
    assert found.random.fixed_coverage == pytest.approx(mixture, abs=1e-3)
    assert found.random.coverage <= found.random.fixed_coverage


def thinned(outcomes: Outcomes, n: int, rng: np.random.Generator) -> tuple[Outcomes, Outcomes]:
    """Return a pilot of n samples of each cell, and the samples that remain."""
    n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
    drawn_MP = rng.hypergeometric(c_MP, n_MP - c_MP, n)
    pilot = replace(outcomes, num_samples_MP=np.full_like(n_MP, n), num_correct_MP=drawn_MP)
    return pilot, replace(outcomes, num_samples_MP=n_MP - n, num_correct_MP=c_MP - drawn_MP)


def fixed_splits(outcomes: Outcomes, k: int) -> list[np.ndarray]:
    """All policies, the strongest alone, the strongest two, and every fourth, with k samples each."""
    strongest = np.argsort(-outcomes.solve_rate_MP.mean(axis=1))
    chosen = [range(16), strongest[:1], strongest[:2], range(0, 16, 4)]
    return [np.where(np.isin(np.arange(16), list(members)), k, 0) for members in chosen]


def errors_of_forecasts(pilots, thinnings: int, resampling: Resampling) -> tuple[np.ndarray, float]:
    """Errors of forecasts of splits `[split, thinning]`, and how often their intervals hold what is solved."""
    outcomes = read_outcomes(LCB, "drop-problems")
    errors, held = [], []
    for n in pilots:
        rng = np.random.default_rng(n)
        for _ in range(thinnings):
            pilot, rest = thinned(outcomes, n, rng)
            evidence = Evidence(pilot)
            # All samples that remain are one draw of the allocation, so what they solve is exact.
            for k_M in fixed_splits(outcomes, 10 - n):
                found = forecast_pilot(evidence, k_M, resampling)
                solved = float((rest.num_correct_MP[k_M > 0] > 0).any(axis=0).mean())
                errors.append(found.value - solved)
                held.append(found.interval[0] <= solved <= found.interval[1])
    return np.array(errors).reshape(-1, 4).T, float(np.mean(held))


@pytest.mark.skipif(not LCB.exists(), reason="no shared data")
def test_pilots_of_real_outcomes_forecast_what_other_samples_solve(monkeypatch):
    monkeypatch.setattr("alphamix.ensemble.mixture.cross_fitting._RESAMPLED_PRIORS", 2)
    error_S, _ = errors_of_forecasts([3], 1, Resampling(resamples=20))
    assert np.abs(error_S).max() < 0.045
    assert abs(error_S.mean()) < 0.03


@pytest.mark.skipif(not LCB.exists(), reason="no shared data")
def test_more_samples_than_were_drawn_are_not_promised_to_solve_much_more(monkeypatch):
    """All 160 samples together solve 65.6 %; independent beliefs promised 82.6 % of 250."""
    monkeypatch.setattr("alphamix.ensemble.mixture.cross_fitting._RESAMPLED_PRIORS", 2)
    outcomes = read_outcomes(LCB, "drop-problems")
    solved = float((outcomes.num_correct_MP > 0).any(axis=0).mean())
    assert solved == pytest.approx(0.656, abs=0.001)
    found = forecast_pilot(Evidence(outcomes), np.full(16, 16), Resampling(resamples=20))
    assert solved < found.value < solved + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not LCB.exists(), reason="no shared data")
@pytest.mark.parametrize("n", [2, 3, 5])
def test_over_many_pilots_forecasts_are_right_and_their_intervals_hold(n):
    error_ST, held = errors_of_forecasts([n], 8, Resampling(resamples=50))
    assert np.abs(error_ST.mean(axis=1)).max() < 0.03
    assert held >= 0.90


# A2: few samples.


def test_a_pilot_of_one_sample_is_refused_with_its_cure():
    outcomes = outcomes_of([[1, 0, 1], [0, 0, 1]], 1)
    with pytest.raises(OutcomesError, match="draw a pilot of 2 or more samples"):
        compare(outcomes, Budget.of_samples(6, 2), QUICK, is_pilot=True)
    assert compare(outcomes, Budget.of_samples(1, 2), BY_PROBLEMS).coverage["mixture"].naive.value <= 1


def test_no_single_policy_is_recommended_by_a_model_against_a_mixture_that_was_scored():
    """With n = 1 the budget caps the mixture, and the singles are not capped: they were said to cover 100 %."""
    outcomes, _ = identical(3, num_problems=60, n=1)
    found = compare(outcomes, Budget.of_samples(9, 9), BY_PROBLEMS)
    assert "best_single" in found.undefined
    assert found.gains == {}
    said = sentence(found, "problems")
    assert said.startswith("Spend 9 samples per problem as 1 each of")
    assert "What that gains over a single policy is unknown" in said
    assert f"it covers {100 * found.coverage['mixture'].honest['problems'].value:.1f} %" in said


def test_one_thin_policy_silences_no_other():
    rng = np.random.default_rng(4)
    rate_P = rng.beta(0.4, 0.8, 30)
    n_MP = np.repeat([[10], [10], [1]], 30, axis=1)
    outcomes = outcomes_of(rng.binomial(n_MP, rate_P), n_MP, ["a", "b", "thin"])
    found = compare(outcomes, Budget.of_samples(4, 3), BY_PROBLEMS)
    assert found.left_out == {"thin": 1}
    assert set(found.arms["best_single"].allocation) <= {"a", "b"}
    assert "problems" in found.gains["mixture"].honest
    without = compare(outcomes.select(policies=[0, 1]), Budget.of_samples(4, 2), BY_PROBLEMS)
    assert found.coverage["best_single"].naive == without.coverage["best_single"].naive
    strict = found.strict["mixture"]
    assert strict is not None
    assert not strict.is_complete


def test_odd_numbers_of_samples_give_a_figure_or_a_reason():
    """Halves of 5 samples are 2 and 3, so what one half may spend, the other cannot always score."""
    outcomes, _ = identical(5, 2, 20, 5)
    for total in (2, 3, 4, 5):
        found = compare(outcomes, Budget.of_samples(total, 2), QUICK)
        assert ("samples" in found.coverage["mixture"].honest) or ("mixture, honest by samples" in found.undefined)


# A3: ties and order.


@pytest.mark.parametrize("names", [["strong", "weak"], ["b", "a"], ["a", "b"]])
@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_of_two_that_tie_on_some_problems_the_stronger_is_the_best_single(names, order):
    """With `weak` in front, the honest best single was 96.7 and the gain +3.3."""
    outcomes = outcomes_of([[8] * 12, [0, 0] + [4] * 10], 10, names).select(policies=order)
    options = CrossFitOptions({"problems": CrossFit("problems", 3, 10, 0)}, Resampling(resamples=100))
    found = compare(outcomes, Budget.of_samples(8, 2), options)
    assert found.coverage["best_single"].honest["problems"].value == 1.0
    assert found.gains["mixture"].honest["problems"].value == pytest.approx(0.0, abs=1e-12)
    assert found.arms["best_single"].allocation == {names[0]: 8}
    assert found.ties == ()


def test_ties_are_told():
    found = compare(outcomes_of([[10] * 6, [9] * 6], 10, ["better", "worse"]), Budget.of_samples(5, 2), BY_PROBLEMS)
    assert found.arms["best_single"].allocation == {"better": 5}
    assert found.ties == ("worse",)


def figures(found: Comparison) -> dict:
    """Every number of a comparison by the name of what it is of, without regard to the order of names."""

    def of(estimates) -> dict:
        return {"naive": asdict(estimates.naive), **{by: asdict(one) for by, one in estimates.honest.items()}}

    return {
        "allocation": dict(zip(found.contributions, found.choice.allocation_M.tolist(), strict=True)),
        "certificate": asdict(found.choice.certificate),
        "expected": found.expected,
        "random": None if found.random is None else asdict(found.random),
        "contributions": {name: asdict(one) for name, one in found.contributions.items()},
        "arms": {name: dict(arm.allocation) for name, arm in found.arms.items()},
        "coverage": {name: of(one) for name, one in found.coverage.items()},
        "gains": {name: of(one) for name, one in found.gains.items()},
        "strict": {name: None if one is None else asdict(one) for name, one in found.strict.items()},
        "forecast": None if found.forecast is None else asdict(found.forecast),
        "ties": set(found.ties),
        "left_out": found.left_out,
        "undefined": found.undefined,
    }


@st.composite
def shuffled_tables(draw):
    num_policies, num_problems = draw(st.integers(1, 4)), draw(st.integers(2, 9))
    n = draw(st.sampled_from([2, 4, 6]))
    cells = st.lists(st.integers(0, n), min_size=num_problems, max_size=num_problems)
    c_MP = np.array(draw(st.lists(cells, min_size=num_policies, max_size=num_policies)))
    groups = draw(st.none() | st.lists(st.sampled_from("xyz"), min_size=num_problems, max_size=num_problems).map(tuple))
    outcomes = outcomes_of(c_MP, n, groups=groups)
    again = outcomes.select(
        policies=np.array(draw(st.permutations(range(num_policies)))),
        problems=np.array(draw(st.permutations(range(num_problems)))),
    )
    return outcomes, again, draw(st.integers(1, n)), draw(st.booleans())


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8)
@given(shuffled_tables())
def test_no_figure_depends_on_the_order_of_rows(task):
    one, other, total, is_pilot = task
    options = CrossFitOptions(BY, Resampling(resamples=20))
    found = [
        figures(compare(table, Budget.of_samples(total, len(table.policies)), options, is_pilot=is_pilot))
        for table in (one, other)
    ]
    assert found[0] == found[1]


# A5: strictly better than every single policy.


def test_the_strict_gain_is_the_least_certain_one():
    rng = np.random.default_rng(6)
    rate_MP = np.array([[0.9, 0.0], [0.1, 0.8], [0.3, 0.3]])[:, rng.integers(0, 2, 60)]
    outcomes = outcomes_of(rng.binomial(20, rate_MP), 20)
    budget = Budget.of_samples(4, 3)
    arms, _ = score_arms(Evidence(outcomes), {"equal": Split.equal(("m0", "m1"), budget)}, BY_PROBLEMS)
    singles = score_single_policies(outcomes, budget, BY_PROBLEMS.resampling)
    found = strict_gain(singles, arms["equal"], BY_PROBLEMS.resampling)
    assert found is not None
    assert found.is_complete

    def solved_by(m: int, k: int) -> np.ndarray:
        return 1 - np.prod([(20 - outcomes.num_correct_MP[m] - i) / (20 - i) for i in range(k)], axis=0)

    ours_P = 1 - (1 - solved_by(0, 2)) * (1 - solved_by(1, 2))
    lows = {f"m{m}": mean_over_problems(ours_P - solved_by(m, 4), Resampling()).interval[0] for m in range(3)}
    assert found.policy == min(lows, key=lows.__getitem__)
    assert found.gain.value == pytest.approx((ours_P - solved_by(int(found.policy[1]), 4)).mean())
    assert found.gain.interval[0] == pytest.approx(min(lows.values()), abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize(("num_policies", "worlds"), [(2, 200), (9, 80)])
def test_of_identical_policies_hardly_any_mixture_beats_every_single_one(num_policies, worlds):
    wrong = {"mixture": 0, "equal": 0}
    for seed in range(worlds):
        outcomes, _ = identical(seed, num_policies, 60, 20)
        budget = Budget.of_samples(10, num_policies)
        rules = {"mixture": BestMixture(budget), "equal": Split.equal(outcomes.policies, budget)}
        arms, _ = score_arms(Evidence(outcomes), rules, BY_PROBLEMS)
        singles = score_single_policies(outcomes, budget, BY_PROBLEMS.resampling)
        for name, arm in arms.items():
            found = strict_gain(singles, arm, BY_PROBLEMS.resampling)
            wrong[name] += found is not None and found.gain.sign > 0
    assert max(wrong.values()) <= 0.025 * worlds + 3 * np.sqrt(0.025 * 0.975 * worlds)


# A6: problems that belong together.


def width(estimate: Estimate) -> float:
    assert estimate.interval is not None
    return estimate.interval[1] - estimate.interval[0]


def test_copies_of_problems_in_a_group_narrow_no_interval():
    """25 problems, 20 times each: without groups, intervals are about √20 too narrow."""
    rng = np.random.default_rng(7)
    c_MP = rng.binomial(8, rng.beta(0.4, 0.8, (2, 25)))
    once = outcomes_of(c_MP, 8)
    copied = outcomes_of(np.repeat(c_MP, 20, axis=1), 8)
    groups = tuple(f"g{p // 20:02}" for p in range(500))
    budget = Budget.of_samples(4, 2)
    alone, grouped, naive = (
        compare(table, budget, BY_PROBLEMS) for table in (once, replace(copied, groups=groups), copied)
    )
    for arm in ("equal", "best_single", "mixture"):
        ours, truth, wrong = (found.coverage[arm].naive for found in (grouped, alone, naive))
        assert ours.value == pytest.approx(truth.value, abs=1e-9)
        assert 0.95 < width(ours) / width(truth) < 1.2
        assert width(wrong) < 0.4 * width(truth)
        honest, expected = (found.coverage[arm].honest["problems"] for found in (grouped, alone))
        assert 0.8 < width(honest) / width(expected) < 1.25
    gain, expected = (found.gains["equal"].naive for found in (grouped, alone))
    assert 0.95 < width(gain) / width(expected) < 1.2
