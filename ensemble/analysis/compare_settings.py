"""Settings of one run side by side: what the same policies solve when they are asked in another way, and what it costs.

Two questions have two answers. How much does a setting change *these policies*? The mean of pass@k over the policies
that were asked in every setting, where nothing is chosen. And how good is the *best policy* of a setting at the budget?
That one is picked, so its coverage is also estimated honestly, by cross-fitting. Draws of different settings are
independent, and differences are paired by problem. Axes: `M` policies, `P` problems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm, BestSingle, score_arms
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, Evidence
from alphamix.ensemble.mixture.gains import ArmEstimates, arm_estimates, gain_over, score_single_policies
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.run_settings import RunSettings
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, mean_over_problems
from alphamix.ensemble.statistics.pass_at_k import pass_at_k


@dataclass(frozen=True)
class SettingFigures:
    """What the policies of one setting solve, and what it costs."""

    pass_at_k: dict[int, Estimate | None]
    """Mean over the shared policies, by k; None where one of them has fewer than k samples."""
    best_single: str | None
    """The policy of this setting that covers most at the budget; None where none can be scored."""
    coverage: ArmEstimates | None
    """What that policy covers at the budget."""
    tokens: float | None
    """Mean completion tokens of a sample of the shared policies; None where they are unknown."""
    seconds: float | None


@dataclass(frozen=True)
class SettingDifference:
    """A setting minus another one, paired by problem."""

    setting: str
    other: str
    pass_at_k: dict[int, Estimate | None]
    """Difference of the means over the shared policies."""
    coverage: ArmEstimates | None
    """Difference between the best policies of both at the budget."""


@dataclass(frozen=True)
class SettingsComparison:
    """All settings of a run, and each minus each one before it."""

    policies: tuple[str, ...]
    """Names of the shared policies, which have outcomes in every setting."""
    settings: dict[str, SettingFigures]
    differences: list[SettingDifference]


def compare_settings(
    outcomes: Outcomes, settings: RunSettings, budget: Budget, pass_at: Sequence[int], options: CrossFitOptions
) -> SettingsComparison | None:
    """Compare the settings of a run; None if it has one, or if no policy has outcomes in all of them.

    Args:
        outcomes: counts of fixed size, by policy and setting.
        settings: of the run.
        budget: per problem, with the costs of `outcomes.policies`.
        pass_at: values of k.
        options: how honest estimates and intervals are made.

    Raises:
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    rows: dict[str, dict[str, int]] = {name: {} for name in settings.names}
    for m, label in enumerate(outcomes.policies):
        policy, setting = settings.split(label)
        if setting is not None:
            rows[setting][policy] = m
    shared = tuple(policy for policy in next(iter(rows.values()), {}) if all(policy in of for of in rows.values()))
    if not settings.are_several or not shared:
        return None
    ks, resampling = sorted(set(pass_at)), options.resampling
    tables = {name: outcomes.select(policies=[of[policy] for policy in shared]) for name, of in rows.items()}
    passed = {name: _pass_at_k(table, ks) for name, table in tables.items()}
    best = _best_singles(outcomes, {name: list(of.values()) for name, of in rows.items()}, budget, options)
    return SettingsComparison(
        shared,
        {name: _figures(table, passed[name], best.get(name), resampling) for name, table in tables.items()},
        [_difference(*pair, passed, best, resampling) for pair in combinations(settings.names, 2)],
    )


def _pass_at_k(table: Outcomes, ks: Sequence[int]) -> dict[int, Floats | None]:
    """Return pass@k of each problem, `[P]`, as the mean over policies; None where one has fewer than k samples."""
    n_MP, c_MP = table.num_samples_MP, table.num_correct_MP
    return {k: pass_at_k(n_MP, c_MP, k).mean(axis=0) if n_MP.min() >= k else None for k in ks}


def _best_singles(
    outcomes: Outcomes, rows: Mapping[str, Sequence[int]], budget: Budget, options: CrossFitOptions
) -> dict[str, Arm]:
    """Return the best policy of each setting as an arm, for those of which one can be scored at the budget.

    All choose from the one table: whether two arms chose the same samples is told by the places of policies in it.
    """
    singles = score_single_policies(outcomes, budget, options.resampling)
    can_be_scored_M = singles.enough_M & (BestSingle(budget).samples_M() > 0)
    candidates = {name: can_be_scored_M & np.isin(np.arange(len(outcomes.policies)), of) for name, of in rows.items()}
    rules = {name: BestSingle(budget, candidates_M) for name, candidates_M in candidates.items() if candidates_M.any()}
    arms, _ = score_arms(Evidence(outcomes), rules, options)
    return arms


def _figures(
    table: Outcomes, passed: Mapping[int, Floats | None], best: Arm | None, resampling: Resampling
) -> SettingFigures:
    costs = {cost: float(cost_MP.mean()) for cost, cost_MP in table.costs_MP.items()}
    return SettingFigures(
        {
            k: None if each_P is None else mean_over_problems(each_P, resampling, lowest=0)
            for k, each_P in passed.items()
        },
        None if best is None else next(iter(best.allocation)),
        None if best is None else arm_estimates(best, resampling),
        costs.get("tokens"),
        costs.get("seconds"),
    )


def _difference(
    other: str,
    setting: str,
    passed: Mapping[str, Mapping[int, Floats | None]],
    best: Mapping[str, Arm],
    resampling: Resampling,
) -> SettingDifference:
    paired: dict[int, Estimate | None] = dict.fromkeys(passed[setting])
    for k in paired:
        ours_P, theirs_P = passed[setting][k], passed[other][k]
        if ours_P is not None and theirs_P is not None:
            paired[k] = mean_over_problems(ours_P - theirs_P, resampling)
    first, second = best.get(other), best.get(setting)
    gain = None if first is None or second is None else gain_over(first, second, resampling)
    return SettingDifference(setting, other, paired, gain)
