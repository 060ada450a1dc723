"""No figure depends on the order in which a table names policies and problems: reports, adaptive arms, bootstraps."""

from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from alphamix.ensemble.adaptive.adaptive_arm import play_arm
from alphamix.ensemble.adaptive.halving import SuccessiveHalving
from alphamix.ensemble.adaptive.sample_streams import SampleStreams
from alphamix.ensemble.adaptive.state import Strategy
from alphamix.ensemble.adaptive.strategies import Optimised, Thompson
from alphamix.ensemble.analysis.coverage import estimate_coverage
from alphamix.ensemble.analysis.run_analysis import analyse
from alphamix.ensemble.analysis.run_summary import RunRemarks, summary
from alphamix.ensemble.experiment.schema import AnalysisSection
from alphamix.ensemble.mixture.arms import Split
from alphamix.ensemble.outcomes.table import FAILURES, Outcomes
from alphamix.ensemble.statistics.intervals import Method, Resampling

N = 8
ALPHAS = {"b": 0.0, "d": 0.5, "a": 1.0, "c": None}
ADAPTIVE: dict[str, Strategy] = {"halving": SuccessiveHalving(), "thompson": Thompson(), "optimised": Optimised(1)}
QUICK = AnalysisSection(resamples=100, repeats=1, pass_at=[1, 4])


def table(seed: int) -> Outcomes:
    """Four policies, two of them with the same counts, on twelve problems in groups; with classes and costs."""
    rng = np.random.default_rng(seed)
    c_MP = rng.binomial(N, rng.beta(0.4, 0.7, (4, 12)))
    c_MP[1] = c_MP[0]
    failed_MPC = rng.multinomial(N - c_MP, [0.4, 0.4, 0.1, 0.1])
    return Outcomes(
        problems=tuple(f"p{p:02}" for p in range(12)),
        policies=tuple("abcd"),
        num_samples_MP=np.full(c_MP.shape, N),
        num_correct_MP=c_MP,
        num_failures_MP={name: failed_MPC[..., c] for c, name in enumerate(FAILURES)},
        costs_MP={"tokens": rng.uniform(50, 150, c_MP.shape)},
        groups=tuple("uvwwxxyyzzzz") if seed % 2 else None,
    )


def turned(outcomes: Outcomes, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    return outcomes.select(policies=rng.permutation(4), problems=rng.permutation(12))


def report(outcomes: Outcomes, currency: Any) -> dict[str, Any]:
    """Everything that a report says, without the order in which it says it."""
    budget = outcomes.budget(N if currency == "samples" else 500.0, currency)
    none = SampleStreams(np.zeros((4, 12, 0), np.bool_), np.zeros((4, 12), np.int64))
    played = {
        name: play_arm(strategy, outcomes, budget, none, 0, QUICK.resampling)
        for name, strategy in ADAPTIVE.items()
        if currency == "samples"
    }
    splits = {"equal": Split.equal(sorted(outcomes.policies), budget)}
    alphas = {policy: ALPHAS[policy] for policy in outcomes.policies}
    analysis = analyse(outcomes, alphas, splits, budget, played, QUICK, ["p03"])
    content = summary(analysis, "run", {}, RunRemarks())
    pairs = content["complementarity"].pop("pairs")
    del content["complementarity"]["policies"], content["complementarity"]["gain"]  # they are among the pairs
    content["pairs"] = {(pair["first"], pair["second"]): pair for pair in pairs}
    comparison = analysis.comparison
    for name, figures in (
        ("coverage", comparison.coverage),
        ("gains", comparison.gains),
        ("strict", comparison.strict),
    ):
        content[name] = {arm: figure and asdict(figure) for arm, figure in figures.items()}
    return content


@pytest.mark.parametrize(("seed", "currency"), [(0, "samples"), (1, "samples"), (2, "tokens")])
def test_no_figure_of_a_report_depends_on_the_order_of_the_table(seed: int, currency: str) -> None:
    outcomes = table(seed)
    assert report(outcomes, currency) == report(turned(outcomes, seed), currency)


@pytest.mark.parametrize("method", ["score", "bca", "percentile"])
@pytest.mark.parametrize("fixed_benchmark", [False, True])
def test_no_figure_of_coverage_depends_on_the_order_of_the_table(method: Method, fixed_benchmark: bool) -> None:
    def figures(outcomes: Outcomes) -> dict[str, Any]:
        how = Resampling(resamples=100, method=method)
        found = estimate_coverage(outcomes, {"b": 2, "a": 1}, [1, 4], 20, how, fixed_benchmark=fixed_benchmark)
        assert list(found.pass_at_k) == list(found.forecasts) == list(outcomes.policies)
        return asdict(found)

    outcomes = table(1)
    assert figures(outcomes) == figures(turned(outcomes, 1))


def test_a_report_shows_policies_in_the_order_of_the_table() -> None:
    outcomes = turned(table(0), 5)
    assert list(outcomes.policies) != sorted(outcomes.policies)
    budget = outcomes.budget(N)
    found = analyse(outcomes, ALPHAS, {"equal": Split.equal(outcomes.policies, budget)}, budget, {}, QUICK, ())
    for by_policy in (
        found.pass_at_k,
        found.frontier,
        found.front,
        found.solved_by_one,
        found.comparison.contributions,
    ):
        assert list(by_policy) == list(outcomes.policies)
    assert [(pair.first, pair.second) for pair in found.pairs] == [
        (first, second) for first in outcomes.policies for second in outcomes.policies if first != second
    ]
    k_M = found.comparison.choice.allocation_M.tolist()
    assert {policy: k for policy, k in zip(outcomes.policies, k_M, strict=True) if k} == dict(
        found.comparison.arms["mixture"].allocation
    )
