"""Claims: supported, refuted, undecided and not examined, each where it is right; and not too often by chance."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.ensemble.analysis.paper_claims import claims_json, examine, holm
from alphamix.ensemble.mixture.gains import StrictGain
from alphamix.ensemble.outcomes.files import outcomes_from_table
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.report.run_text import claim_rows
from alphamix.ensemble.statistics.intervals import Estimate, Resampling

LADDER = Path(__file__).parents[2].parent / "shared/data/ladder_outcomes.csv"
ALPHAS = (-0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
QUICK = Resampling(resamples=400)
GAIN = StrictGain("m0", Estimate(0.05, 0.01, (0.03, 0.07)), 7, is_complete=True)
KEYS = [
    *("trade", "interpolation", "extrapolation", "problems"),
    *("ensemble.samples", "ensemble.tokens", "ensemble.seconds"),
]


def sampled(rng, rates_CMP, n=40) -> Outcomes:
    """Draw outcomes from rates `[3, M, P]` of optimisation, correctness and format failures."""
    solved_MP = 1 - rates_CMP.sum(axis=0)
    counts_MPC = rng.multinomial(n, np.moveaxis(np.concatenate([rates_CMP, solved_MP[None]]), 0, -1))
    names = ("optimisation", "correctness", "format")
    return Outcomes(
        problems=tuple(f"p{p}" for p in range(rates_CMP.shape[2])),
        policies=tuple(f"m{m}" for m in range(rates_CMP.shape[1])),
        num_samples_MP=np.full(solved_MP.shape, n),
        num_correct_MP=counts_MPC[..., 3],
        num_failures_MP={name: counts_MPC[..., c] for c, name in enumerate(names)},
        costs_MP={},
    )


def line(rng, steepness, num_problems=80) -> Outcomes:
    """Odd problems fail by optimisation at small α, even ones by correctness at large α."""
    place_M1 = (np.array(ALPHAS) + 0.6)[:, None] / 2.2
    odd_P = np.arange(num_problems) % 2
    spread_P = rng.uniform(0.5, 1.0, num_problems)
    optimisation_MP = 0.35 - 0.5 * steepness * (place_M1 - 0.5) * odd_P * spread_P
    correctness_MP = 0.35 + 0.5 * steepness * (place_M1 - 0.5) * (1 - odd_P) * spread_P
    return sampled(rng, np.stack([optimisation_MP, correctness_MP, np.full_like(correctness_MP, 0.02)]))


def named(*alphas):
    return {f"m{m}": alpha for m, alpha in enumerate(alphas)}


def verdicts(claims):
    return {claim.key: claim.verdict for claim in claims}


def test_a_run_that_bears_the_paper_out_supports_every_claim():
    claims = examine(line(np.random.default_rng(0), 1, 200), named(*ALPHAS), {"samples": GAIN}, QUICK)
    assert [claim.key for claim in claims] == KEYS
    assert verdicts(claims) == {
        **dict.fromkeys(KEYS[:5], "supported"),
        **dict.fromkeys(KEYS[5:], "not examined"),
    }
    for claim in claims[:5]:
        assert claim.parts
        assert claim.falsified_by
        assert claim.p_value < 0.05
        assert all(part.estimate.sign == 1 for part in claim.parts)


def test_a_run_that_goes_the_other_way_refutes():
    against = replace(GAIN, gain=Estimate(-0.05, 0.01, (-0.07, -0.03)))
    claims = examine(line(np.random.default_rng(1), -1), named(*ALPHAS), {"tokens": against}, QUICK)
    found = verdicts(claims)
    assert [found[key] for key in KEYS] == [
        *("refuted", "refuted", "refuted", "supported"),  # other problems are solved, whichever way they go
        *("not examined", "refuted", "not examined"),
    ]


def test_one_part_alone_supports_nothing():
    """Only optimisation failures fall; correctness failures stay."""
    rng = np.random.default_rng(2)
    optimisation_MP = np.full((2, 60), [[0.6], [0.2]])
    outcomes = sampled(rng, np.stack([optimisation_MP, np.full((2, 60), 0.2), np.zeros((2, 60))]))
    trade = examine(outcomes, named(0.0, 1.0), {}, QUICK)[0]
    assert [part.estimate.sign for part in trade.parts] == [1, 0]
    assert trade.verdict == "undecided"


def test_an_inner_alpha_outside_its_ends_refutes_interpolation():
    """The trend is right, but at α = 0.5 optimisation failures lie above those of α = 0."""
    rng = np.random.default_rng(3)
    optimisation_MP = np.full((4, 60), [[0.5], [0.65], [0.2], [0.1]])
    correctness_MP = np.full((4, 60), [[0.1], [0.15], [0.2], [0.25]])
    outcomes = sampled(rng, np.stack([optimisation_MP, correctness_MP, np.zeros((4, 60))]))
    claim = examine(outcomes, named(0.0, 0.5, 0.75, 1.0), {}, QUICK)[1]
    assert claim.verdict == "refuted"
    assert [part.estimate.sign for part in claim.parts] == [1, -1, 1, 1]
    assert "α = 0.5 and α = 0," in claim.parts[1].statistic


def test_problems_are_the_same_where_one_end_is_better_on_each():
    rng = np.random.default_rng(4)
    spread_P = rng.uniform(0.2, 0.5, 100)
    optimisation_MP = np.stack([spread_P + 0.2, spread_P - 0.1])
    outcomes = sampled(rng, np.stack([optimisation_MP, np.full((2, 100), 0.1), np.zeros((2, 100))]), 10)
    claim = next(claim for claim in examine(outcomes, named(0.0, 1.0), {}, QUICK) if claim.key == "problems")
    assert claim.verdict == "refuted"
    assert [part.estimate.sign for part in claim.parts] == [-1, 1]


def test_ends_that_solve_different_problems_are_told_apart_by_few_samples():
    """60 problems, 8 samples, log odds that differ by a contrast of sd 2: true, and once never supported."""
    rng, supported = np.random.default_rng(0), 0
    for _ in range(10):
        logit_P, contrast_P = rng.normal(-0.7, 1.5, 60), rng.normal(0, 2, 60)
        solved_MP = 1 / (1 + np.exp(-np.array([logit_P + contrast_P / 2, logit_P - contrast_P / 2])))
        outcomes = sampled(rng, np.stack([1 - solved_MP, np.zeros((2, 60)), np.zeros((2, 60))]), n=8)
        claims = examine(replace(outcomes, num_failures_MP={}), named(0.0, 1.0), {}, QUICK)
        supported += verdicts(claims)["problems"] == "supported"
    assert supported >= 7


def test_where_alpha_makes_no_difference_nothing_is_decided():
    """Of 60 runs, few may have any decided claim: Holm's correction holds that chance to 5 %."""
    rng = np.random.default_rng(5)
    decided = 0
    for seed in range(60):
        claims = examine(line(rng, 0, 40), named(*ALPHAS), {}, Resampling(resamples=200, seed=seed))
        decided += any(claim.verdict in ("supported", "refuted") for claim in claims)
    assert decided <= 8


def test_the_extremes_do_not_speak_for_extrapolation():
    """At α = 3 nothing fails by optimisation since nothing is a program."""
    rng = np.random.default_rng(6)
    rates_CM1 = np.array([[0.4, 0.2, 0.2, 0.0], [0.1, 0.3, 0.3, 0.0], [0.0, 0.0, 0.02, 0.98]])[:, :, None]
    outcomes = sampled(rng, np.repeat(rates_CM1, 50, axis=2))
    claim = examine(outcomes, named(0.0, 1.0, 1.25, 3.0), {}, QUICK)[2]
    assert [part.statistic for part in claim.parts] == ["optimisation failures at α = 1 - mean at α = 1.25"]
    assert claim.verdict == "undecided"
    without = examine(outcomes, named(0.0, 1.0, None, 3.0), {}, QUICK)[2]
    assert (without.verdict, without.parts) == ("not examined", ())
    assert "moderate range" in without.reason


def test_what_outcomes_cannot_speak_to_is_not_examined():
    outcomes = line(np.random.default_rng(7), 1, 10)
    plain = Outcomes(
        outcomes.problems,
        outcomes.policies,
        outcomes.num_samples_MP,
        outcomes.num_correct_MP,
        num_failures_MP={},
        costs_MP={},
    )
    reasons = {claim.key: claim.reason for claim in examine(plain, named(*ALPHAS), {}, QUICK)}
    assert reasons["trade"] == reasons["extrapolation"] == "the outcomes have no failure classes"
    assert reasons["problems"] is None
    assert "matched seconds" in reasons["ensemble.seconds"]
    ends = examine(outcomes, named(None, 0.0, None, None, None, 1.0, None), {}, QUICK)
    assert [claim.reason for claim in ends[1:3]] == [
        "no policy with 0 < α < 1",
        "no policy with α < 0 or α > 1 in the moderate range",
    ]
    assert all("no policies at α = 0" in claim.reason for claim in examine(outcomes, {}, {}, QUICK)[:4])


def test_a_single_problem_decides_nothing():
    claims = examine(line(np.random.default_rng(8), 1, 1), named(*ALPHAS), {}, QUICK)
    assert set(verdicts(claims).values()) <= {"undecided", "not examined"}


def test_the_content_of_the_file_is_plain_json():
    claims = examine(line(np.random.default_rng(9), 1, 20), named(*ALPHAS), {"samples": GAIN}, QUICK)
    table = json.loads(json.dumps(claims_json(claims, 0.95), allow_nan=False))
    assert table["correction"] == "holm"
    assert [claim["key"] for claim in table["claims"]] == KEYS
    part = table["claims"][0]["parts"][0]
    assert part["estimate"].keys() == {"value", "stderr", "interval", "kind"}


def test_a_table_says_each_claim_once_and_each_part_with_its_interval():
    claims = examine(line(np.random.default_rng(10), 1, 40), named(*ALPHAS), {"samples": GAIN}, QUICK)
    rows = claim_rows(claims)
    assert [row[0] for row in rows if row[0]] == [claim.statement for claim in claims]
    assert len(rows) == sum(max(1, len(claim.parts)) for claim in claims)
    (gain,) = [row for row in rows if "matched samples" in row[0]]
    assert gain[2] == "+5.0 points [+3.0, +7.0]"
    assert rows[-1][1:] == (
        "no ensemble and single policies were compared at matched seconds",
        "–",
        "–",
        "not examined",
    )


def test_holm_adjusts_as_its_paper_says():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_no_correction_and_bonferroni(p_values):
    adjusted = holm(p_values)
    for p_value, new in zip(p_values, adjusted, strict=True):
        assert p_value <= new <= min(1, p_value * len(p_values)) + 1e-15
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


@pytest.mark.skipif(not LADDER.exists(), reason="real outcomes are not here")
def test_the_ladder_bears_out_the_trade_and_the_line_between():
    table = pd.read_csv(LADDER)
    table["format"] += table["syntax"]  # what does not compile is a format failure
    outcomes = outcomes_from_table(table, LADDER.name)
    claims = examine(outcomes, {name: float(name.split("@")[1]) for name in outcomes.policies}, {}, Resampling())
    found = verdicts(claims)
    assert found["trade"] == found["interpolation"] == found["problems"] == "supported"
    assert found["extrapolation"] == "undecided"


def test_two_problems_that_agree_decide_nothing():
    """Equal values have no spread, so that t is infinite; two coins fall on one side every other time."""
    outcomes = Outcomes(
        problems=("p0", "p1"),
        policies=("low@0", "low@1"),
        num_samples_MP=np.full((2, 2), 2),
        num_correct_MP=np.array([[0, 0], [1, 1]]),
        num_failures_MP={
            "optimisation": np.array([[2, 2], [0, 0]]),
            "correctness": np.array([[0, 0], [1, 1]]),
        },
        costs_MP={},
    )
    trade = examine(outcomes, {"low@0": 0.0, "low@1": 1.0}, {}, QUICK)[0]
    assert [part.p_value for part in trade.parts] == [0.5, 0.5]
    assert trade.verdict == "undecided"
