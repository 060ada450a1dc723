"""Coverage of a given allocation, and pass@k of each policy, with intervals or the reason why there is none.

The estimates are unbiased for an allocation that was not chosen by looking at the same outcomes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.extrapolation import MODELS, Forecast, ForecastError, Model, forecast
from alphamix.ensemble.statistics.intervals import (
    Estimate,
    Resampling,
    coverage_on_fixed_benchmark,
    means_over_problems,
)
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage

_SINGLE_PROBLEM = "a single problem has no interval for new problems: add problems, or use --fixed-benchmark"
_NO_VARIANCE = "its sampling variance is estimated as 0 or less, which gives no interval: draw more samples"


@dataclass(frozen=True)
class CoverageFigure:
    """An estimate or a forecast, or the reason why it or its interval is undefined."""

    value: Estimate | Forecast | None
    reason: str | None = None


@dataclass(frozen=True)
class CoverageFigures:
    """Everything that was asked about a table of outcomes."""

    allocation: CoverageFigure | None
    """Coverage of the allocation, if there is one."""
    pass_at_k: dict[str, dict[int, CoverageFigure]]
    """By policy and k."""
    forecasts: dict[str, dict[Model, CoverageFigure]]
    """By policy and model; empty if no forecast was asked for."""

    def undefined(self) -> dict[tuple[str, str], list[str]]:
        """Return the policies, by figure and reason, for which a figure or its interval is undefined.

        The allocation has the name "" instead of a policy.
        """
        policies: dict[tuple[str, str], list[str]] = {}
        for what, policy, figure in self._all():
            if figure.reason:
                policies.setdefault((what, figure.reason), []).append(policy)
        return policies

    def _all(self) -> Iterator[tuple[str, str, CoverageFigure]]:
        if self.allocation:
            yield "the allocation", "", self.allocation
        for policy, by_k in self.pass_at_k.items():
            yield from ((f"pass@{k}", policy, figure) for k, figure in by_k.items())
        for policy, by_model in self.forecasts.items():
            yield from ((f"the {model}", policy, figure) for model, figure in by_model.items())


def estimate_coverage(
    outcomes: Outcomes,
    allocation: Mapping[str, int],
    ks: Sequence[int],
    forecast_k: int | None,
    resampling: Resampling,
    *,
    fixed_benchmark: bool,
) -> CoverageFigures:
    """Estimate everything at once.

    Args:
        allocation: samples per problem of each policy; empty if there is none to estimate.
        ks: values of k for which pass@k of every policy is estimated.
        forecast_k: value of k for which models forecast pass@k of every policy.
        resampling: how intervals for new problems are made. All of them use the same resamples.
        fixed_benchmark: give intervals for other samples of the same problems instead.
    """
    table = outcomes.canonical()
    resampling = resampling.with_groups(table.groups)
    # pass@k is the coverage of an allocation of k samples to one policy.
    single_MM = np.eye(len(table.policies), dtype=np.int64)
    allocations = [k * single_M for single_M in single_MM for k in ks]
    if allocation:
        allocations.append(np.array([allocation.get(policy, 0) for policy in table.policies]))
    if fixed_benchmark:
        figures = iter([_on_fixed_benchmark(table, each_M, resampling.level) for each_M in allocations])
    else:
        figures = iter(_for_new_problems(table, allocations, resampling))
    pass_at_k = {policy: {k: next(figures) for k in ks} for policy in table.policies if ks}
    forecasts = {} if forecast_k is None else _forecasts(table, forecast_k, resampling)
    return CoverageFigures(next(figures, None), outcomes.in_order(pass_at_k), outcomes.in_order(forecasts))


def _for_new_problems(outcomes: Outcomes, allocations: Sequence[Ints], resampling: Resampling) -> list[CoverageFigure]:
    covered: list[Floats] = []
    reasons: list[str | None] = []
    for allocation_M in allocations:
        try:
            covered.append(coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, allocation_M))
            reasons.append(None)
        except UndefinedError as error:
            reasons.append(str(error))
    estimates = iter(means_over_problems(np.array(covered), resampling, lowest=0) if covered else [])
    single = _SINGLE_PROBLEM if len(outcomes.problems) == 1 else None
    return [CoverageFigure(None, reason) if reason else CoverageFigure(next(estimates), single) for reason in reasons]


def _on_fixed_benchmark(outcomes: Outcomes, allocation_M: Ints, level: float) -> CoverageFigure:
    counts = outcomes.num_samples_MP, outcomes.num_correct_MP
    try:
        value = float(coverage(*counts, allocation_M).mean())
    except UndefinedError as error:
        return CoverageFigure(None, str(error))
    try:
        estimate = coverage_on_fixed_benchmark(*counts, allocation_M, level)
    except UndefinedError as error:
        # The sampling variance needs twice the samples that the value needs, so the value can stand alone.
        bare = Estimate(value, None, None, "fixed benchmark")
        return CoverageFigure(bare, f"its interval needs draws of twice the size, and {error}")
    return CoverageFigure(estimate, None if estimate.interval else _NO_VARIANCE)


def _forecasts(outcomes: Outcomes, k: int, resampling: Resampling) -> dict[str, dict[Model, CoverageFigure]]:
    def figure(m: int, model: Model) -> CoverageFigure:
        counts = outcomes.num_samples_MP[m], outcomes.num_correct_MP[m]
        try:
            return CoverageFigure(forecast(*counts, k, model, resampling.level, groups=resampling.groups))
        except ForecastError as error:
            return CoverageFigure(None, str(error))

    return {policy: {model: figure(m, model) for model in MODELS} for m, policy in enumerate(outcomes.policies)}
