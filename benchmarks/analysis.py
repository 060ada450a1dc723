"""The full analysis of a run's outcomes, how its time grows with the number of problems, and `alphamix mix` alone."""

import resource

import numpy as np
from measure import Row, cpu_s

from alphamix.ensemble.analysis.run_analysis import analyse
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.experiment.schema import AnalysisSection
from alphamix.ensemble.mixture.arms import Split
from alphamix.ensemble.mixture.compare_arms import compare
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, cross_fits
from alphamix.ensemble.outcomes.table import FAILURES, Outcomes
from alphamix.ensemble.statistics.intervals import Resampling

_POLICIES, _PROBLEMS, _SAMPLES, _BUDGET = 20, 1000, 250, 250
_SECTION = AnalysisSection(pass_at=[1, 10, 100, 250], resamples=2000, folds=10, repeats=1)


def rows() -> list[Row]:
    """Time the analysis at three sizes, and `mix` at two."""
    seconds = {problems: _seconds(problems) for problems in (_PROBLEMS // 2, _PROBLEMS, 2 * _PROBLEMS)}
    half, whole, double = seconds.values()
    peak_mb = _peak_mb()
    what = f"full analysis: {_PROBLEMS:,} problems × {_POLICIES} policies, 2,000 bootstrap draws, 10-fold cross-fitting"
    growth = f"twice the problems, from {_PROBLEMS // 2:,} and from {_PROBLEMS:,}"
    return [
        Row(what, f"{whole:.1f} s of CPU, at most {peak_mb:.0f} MB", "60 s on two cores", f"{whole:.1f} s", "< 60 s"),
        Row(growth, f"{half:.1f}, {whole:.1f}, {double:.1f} s", "linear: 2 ×", _times(half, whole, double), "≤ 2 ×"),
        _mix_row(20, 1000, 250, "< 8 s"),
        _mix_row(50, 5000, 1000, "< 90 s, < 600 MB"),
    ]


def _mix_row(policies: int, problems: int, samples: int, target: str) -> Row:
    """Time the choice of a mixture with both cross-fits and everything else that `alphamix mix` prints."""
    outcomes = _outcomes(problems, policies, samples)
    options = CrossFitOptions(cross_fits(0), Resampling())
    seconds = cpu_s(lambda: compare(outcomes, outcomes.budget(_BUDGET), options))
    size = f"{problems:,} problems × {policies} policies, {samples:,} samples, budget {_BUDGET}"
    used = f"{seconds:.1f} s of CPU, at most {_peak_mb():.0f} MB"
    return Row(f"`mix` with both cross-fits: {size}", used, "", f"{seconds:.1f} s", target)


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _times(half: float, whole: float, double: float) -> str:
    return f"{whole / half:.1f} × and {double / whole:.1f} ×"


def _seconds(num_problems: int) -> float:
    outcomes = _outcomes(num_problems)
    alphas = {policy: float(alpha) for policy, alpha in zip(outcomes.policies, np.linspace(-1, 2, 19), strict=False)}
    alphas |= dict.fromkeys(outcomes.policies[19:])
    budget = Budget.of_samples(_BUDGET, _POLICIES)
    splits = {"equal": Split.equal(outcomes.policies, budget)}
    return cpu_s(lambda: analyse(outcomes, alphas, splits, budget, {}, _SECTION, ()))


def _outcomes(num_problems: int, num_policies: int = _POLICIES, num_samples: int = _SAMPLES) -> Outcomes:
    """Simulate policies that find the same problems hard but differ in strengths; failures and costs are random."""
    rng = np.random.default_rng(0)
    shape = (num_policies, num_problems)
    logit_MP = rng.normal(-3, 2.5, num_problems) + rng.normal(0, 1, shape) + rng.normal(0, 0.3, (num_policies, 1))
    num_correct_MP = rng.binomial(num_samples, 1 / (1 + np.exp(-logit_MP)))
    failed = np.moveaxis(rng.multinomial(num_samples - num_correct_MP, [0.3, 0.5, 0.15, 0.05]), -1, 0)
    return Outcomes(
        problems=tuple(f"p{p}" for p in range(num_problems)),
        policies=tuple(f"m{m}" for m in range(num_policies)),
        num_samples_MP=np.full(shape, num_samples),
        num_correct_MP=num_correct_MP,
        num_failures_MP=dict(zip(FAILURES, failed, strict=True)),
        costs_MP={"tokens": rng.gamma(5, 100, shape), "seconds": rng.gamma(5, 1, shape)},
    )
