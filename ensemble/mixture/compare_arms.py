"""The whole answer to "which α-mixture, and what is it worth?": one budget, every arm, naive and honest side by side.

Joins `search` (the choice and its certificate), `arms` (what it covers) and `routing` (the best random mixture); the
command line and the report only show what stands here. Axes: `M` policies, `P` problems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.budget import CURRENCIES, Budget, BudgetError, Currency
from alphamix.ensemble.mixture.arms import Arm, BestMixture, BestSingle, Split, arm
from alphamix.ensemble.mixture.best_allocation import Choice, best_allocation
from alphamix.ensemble.mixture.cross_fitting import CrossFit, Division, Rule
from alphamix.ensemble.mixture.random_routing import best_routing
from alphamix.ensemble.mixture.shapley import Contribution, contributions
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.beta_posterior import Posterior
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, mean_over_problems, student_interval
from alphamix.ensemble.statistics.pass_at_k import UndefinedError


@dataclass(frozen=True)
class Honesty:
    """How honest figures are made: by which divisions, and with which intervals."""

    crossfits: Mapping[Division, CrossFit]
    resampling: Resampling


@dataclass(frozen=True)
class Figures:
    """A naive and an honest figure; the latter only for the divisions where it is defined."""

    naive: Estimate
    honest: dict[Division, Estimate]

    def optimism(self, by: Division) -> float | None:
        """How much of the naive figure goes away on data that did not choose."""
        return self.naive.value - self.honest[by].value if by in self.honest else None


@dataclass(frozen=True)
class RandomMixture:
    """Each sample's policy drawn at random. All figures are of the posterior, and with no limit on samples."""

    weights: dict[str, float]
    coverage: float
    fixed_coverage: float
    """What the best fixed split covers."""


@dataclass(frozen=True)
class Comparison:
    """All arms of one budget."""

    budget: Budget
    choice: Choice
    expected: dict[str, float]
    """Coverage under the posterior, by policy that gets the whole budget: model-based, and defined for any budget."""
    random: RandomMixture | None
    """The best random mixture; None where the budget is not in samples."""
    contributions: dict[str, Contribution]
    """By policy."""
    arms: dict[str, Arm]
    """`mixture`, the splits (`equal` and others), `best_single`, and adaptive arms; those of which not even the naive
    figure is defined are missing."""
    coverage: dict[str, Figures]
    """By arm."""
    gains: dict[str, Figures]
    """Of all others over `best_single`, paired per problem; empty without a best single."""
    undefined: dict[str, str]
    """Why a figure is missing, by what is missing."""
    resampling: Resampling
    """How the intervals of naive figures are made; those of honest ones have its level."""


@one_thread
def compare(
    outcomes: Outcomes,
    budget: Budget,
    honesty: Honesty,
    splits: Mapping[str, Split] | None = None,
    min_policies: int = 1,
    *,
    is_pilot: bool = False,
    played: Mapping[str, Arm] | None = None,
) -> Comparison:
    """Choose and score every arm at one budget.

    Args:
        outcomes: counts, of fixed size.
        budget: per problem; its costs are those of `outcomes.policies`.
        honesty: divisions for cross-fitting, and intervals.
        splits: arms that spend in fixed shares; None for `equal`, over all policies.
        min_policies: how many the mixture must use at least.
        is_pilot: choose beyond the samples there are; what is covered then rests on the posterior alone.
        played: adaptive arms, as they were played.

    Raises:
        BudgetError: no mixture meets the budget with the samples there are.
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP)
    limit_M = None if is_pilot else outcomes.num_samples_MP.min(axis=1)
    choice = best_allocation(posterior, budget, limit_M, min_policies)
    rules: dict[str, Rule] = {
        "mixture": BestMixture(budget, min_policies),
        **({"equal": Split.equal(outcomes.policies, budget)} if splits is None else splits),
        "best_single": BestSingle(budget),
    }
    if is_pilot:
        del rules["mixture"]
    arms, undefined = _arms(outcomes, rules, honesty, choice)
    if is_pilot:
        undefined = {"mixture": _PILOT, **undefined} if arms else {"every honest figure": _PILOT}
    single = {name: arms.pop(name) for name in ["best_single"] if name in arms}
    arms |= {**(played or {}), **single}
    return Comparison(
        budget=budget,
        choice=choice,
        expected=_expected(outcomes.policies, posterior, BestSingle(budget)),
        random=_random_mixture(outcomes.policies, posterior, budget),
        contributions=dict(zip(outcomes.policies, contributions(posterior, budget), strict=True)),
        arms=arms,
        coverage={name: _figures(one, honesty) for name, one in arms.items()},
        gains=_gains(arms, honesty),
        undefined=undefined,
        resampling=honesty.resampling,
    )


def equal_gains(
    outcomes: Outcomes, samples: int, honesty: Honesty, members: Sequence[str]
) -> dict[Currency, Estimate | None]:
    """Honest gain of the equal split over the best single policy at budgets matched in samples, tokens and seconds.

    The budget in tokens (seconds) is what the equal split of `samples` costs, or less where some policy alone could not
    be scored at that. Honest is by problems. None where costs are unknown, a figure is undefined, or the budget pays
    for no sample of some policy.
    """
    return {currency: _equal_gain(outcomes, samples, honesty, members, currency) for currency in CURRENCIES}


def _equal_gain(
    outcomes: Outcomes, samples: int, honesty: Honesty, members: Sequence[str], currency: Currency
) -> Estimate | None:
    try:
        budget = matched_budget(outcomes, samples, members, currency)
        crossfits: dict[Division, CrossFit] = {"problems": honesty.crossfits["problems"]}
        equal, single = Split.equal(members, budget), BestSingle(budget)
        if not (equal.allocation_M(outcomes.policies)[outcomes.rows(members)].all() and single.samples_M().all()):
            return None  # a split without some of its members, or the best of fewer policies, is another claim
        rules: dict[str, Rule] = {"equal": equal, "best_single": single}
        arms = {name: arm(outcomes, rule, crossfits, honesty.resampling) for name, rule in rules.items()}
    except (OutcomesError, UndefinedError):
        return None
    gain = _gains(arms, honesty)["equal"].honest
    return gain.get("problems")


def matched_budget(outcomes: Outcomes, samples: int, members: Sequence[str], currency: Currency) -> Budget:
    """The budget that the equal split of `samples` needs, at most what each policy alone can be scored at.

    Raises:
        OutcomesError: costs are unknown.
    """
    if currency == "samples":
        return Budget.of_samples(samples, len(outcomes.policies))
    cost_M = outcomes.mean_cost_M(currency)
    split = largest_remainder(dict.fromkeys(members, 1.0), samples)
    needed = sum(k * cost_M[outcomes.row(policy)] for policy, k in split.items())
    affordable = float((cost_M * outcomes.num_samples_MP.min(axis=1)).min())
    return Budget(min(float(needed), affordable), cost_M, currency)


_PILOT = "a pilot's samples choose, but are too few to score what they chose"


def _arms(
    outcomes: Outcomes, rules: Mapping[str, Rule], honesty: Honesty, choice: Choice
) -> tuple[dict[str, Arm], dict[str, str]]:
    """The naive figure of the mixture is that of the choice itself, which was searched for longer than in folds."""
    chosen = {"mixture": choice.allocation_M}
    arms: dict[str, Arm] = {}
    undefined: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            arms[name] = arm(outcomes, rule, honesty.crossfits, honesty.resampling, chosen.get(name))
        except (UndefinedError, BudgetError) as error:
            undefined[name] = str(error)
        else:
            undefined |= {f"{name}, honest by {by}": reason for by, reason in arms[name].undefined.items()}
    return arms, undefined


def _figures(arm: Arm, honesty: Honesty) -> Figures:
    honest: dict[Division, Estimate] = {}
    for by, values in arm.honest.items():
        honest[by] = student_interval(values.covered_P, values.resampled_R, honesty.resampling, lowest=0)
    return Figures(mean_over_problems(arm.naive_P, honesty.resampling, lowest=0), honest)


def _gains(arms: Mapping[str, Arm], honesty: Honesty) -> dict[str, Figures]:
    single = arms.get("best_single")
    if single is None:
        return {}
    return {name: gain_over(single, ours, honesty) for name, ours in arms.items() if name != "best_single"}


def gain_over(single: Arm, ours: Arm, honesty: Honesty) -> Figures:
    """Coverage of one arm minus another's, paired per problem.

    Honest intervals are no percentiles: to a draw of identical policies the one that was luckiest is truly better.
    """
    honest: dict[Division, Estimate] = {}
    for by in ours.honest:
        if by in single.honest:
            a, b = ours.honest[by], single.honest[by]
            gain_P, gain_R = a.covered_P - b.covered_P, a.resampled_R - b.resampled_R
            honest[by] = student_interval(gain_P, gain_R, honesty.resampling, lowest=-1)
    return Figures(mean_over_problems(ours.naive_P - single.naive_P, honesty.resampling), honest)


def _expected(policies: Sequence[str], posterior: Posterior, single: BestSingle) -> dict[str, float]:
    coverage_M = -np.expm1(posterior.log_miss(single.samples_M())) @ posterior.weight_P
    return dict(zip(policies, coverage_M.tolist(), strict=True))


def _random_mixture(policies: Sequence[str], posterior: Posterior, budget: Budget) -> RandomMixture | None:
    if budget.currency != "samples":
        return None
    routing = best_routing(posterior, int(budget.total))
    weights = {policy: float(w) for policy, w in zip(policies, routing.weights_M, strict=True) if w}
    return RandomMixture(weights, routing.coverage, best_allocation(posterior, budget).certificate.objective)
