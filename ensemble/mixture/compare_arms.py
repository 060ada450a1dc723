"""All arms of one budget side by side: the best mixture, fixed splits and the best single policy, naive and honest.

It joins `best_allocation` (the choice and its certificate), `arms` (its coverage), `random_routing` (the best random
mixture) and `shapley` (what each policy adds). The command line and the report only show what is computed here. Axes:
`M` policies, `P` problems, `R` bootstrap resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import CURRENCIES, Budget, BudgetError, Currency
from alphamix.ensemble.mixture.arms import Arm, BestMixture, BestSingle, Split, arm
from alphamix.ensemble.mixture.best_allocation import Choice, best_allocation
from alphamix.ensemble.mixture.cross_fitting import AllocationRule, CrossFitOptions, CrossFitted, Division
from alphamix.ensemble.mixture.random_routing import best_routing
from alphamix.ensemble.mixture.shapley import Contribution, contributions
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.beta_posterior import Posterior
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, mean_over_problems, student_interval
from alphamix.ensemble.statistics.pass_at_k import UndefinedError


@dataclass(frozen=True)
class ArmEstimates:
    """A naive estimate, scored on the data that made the choice, and honest ones from cross-fitting."""

    naive: Estimate
    honest: dict[Division, Estimate]
    """Honest estimates, for the divisions where they are defined."""

    def optimism(self, by: Division) -> float | None:
        """Return the naive minus the honest estimate, or None where the latter is undefined."""
        return self.naive.value - self.honest[by].value if by in self.honest else None


def naive_and_honest(estimates: ArmEstimates | None, by: Division) -> dict[str, Any]:
    """Return the naive estimate, and the honest one by a division with its interval, as JSON; null where undefined."""
    honest = estimates.honest.get(by) if estimates else None
    return {
        "naive": estimates.naive.value if estimates else None,
        "honest": honest.value if honest else None,
        "interval": honest.interval if honest else None,
    }


@dataclass(frozen=True)
class RandomMixture:
    """The best random routing. All values are expected under the posterior, with no limit on samples."""

    weights: dict[str, float]
    coverage: float
    fixed_coverage: float
    """Coverage of the best allocation, which fixes the split."""


@dataclass(frozen=True)
class Comparison:
    """All arms of one budget."""

    budget: Budget
    choice: Choice
    expected: dict[str, float]
    """Expected coverage by policy, when it gets the whole budget; it is model-based, and defined for every budget."""
    random: RandomMixture | None
    """The best random routing; None where the budget is not in samples."""
    contributions: dict[str, Contribution]
    """What each policy adds."""
    arms: dict[str, Arm]
    """Arms by name: `mixture`, splits (`equal` and others), adaptive arms and `best_single`. An arm is missing where
    even its naive estimate is undefined."""
    coverage: dict[str, ArmEstimates]
    """Coverage of each arm."""
    gains: dict[str, ArmEstimates]
    """Coverage of each arm minus that of `best_single`, paired per problem; empty without a best single policy."""
    undefined: dict[str, str]
    """Why an estimate is missing, by what is missing."""
    resampling: Resampling
    """How the intervals of naive estimates are made; those of honest ones have the same level."""


@one_thread()
def compare(
    outcomes: Outcomes,
    budget: Budget,
    options: CrossFitOptions,
    splits: Mapping[str, Split] | None = None,
    min_policies: int = 1,
    *,
    is_pilot: bool = False,
    played: Mapping[str, Arm] | None = None,
) -> Comparison:
    """Choose and score every arm at one budget.

    Args:
        outcomes: counts of fixed size.
        budget: per problem, with the costs of `outcomes.policies`.
        options: how honest estimates are made.
        splits: arms that spend in fixed shares; None for `equal`, over all policies.
        min_policies: minimum number of policies in the mixture.
        is_pilot: whether the mixture may need more samples than were drawn; its coverage is then known from the
            posterior alone.
        played: adaptive arms, already scored.

    Raises:
        BudgetError: no mixture meets the budget with the samples that were drawn.
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    posterior = Posterior.of(outcomes.num_samples_MP, outcomes.num_correct_MP)
    limit_M = None if is_pilot else outcomes.num_samples_MP.min(axis=1)
    choice = best_allocation(posterior, budget, limit_M, min_policies)
    rules: dict[str, AllocationRule | Split] = {
        "mixture": BestMixture(budget, min_policies),
        **({"equal": Split.equal(outcomes.policies, budget)} if splits is None else splits),
        "best_single": BestSingle(budget),
    }
    if is_pilot:
        del rules["mixture"]
    arms, undefined = _arms(outcomes, rules, options, choice)
    if is_pilot:
        undefined = {"mixture": _PILOT, **undefined} if arms else {"every honest figure": _PILOT}
    single = arms.pop("best_single", None)
    arms |= played or {}
    gains: dict[str, ArmEstimates] = {}
    if single:
        gains = {name: gain_over(single, other, options.resampling) for name, other in arms.items()}
        arms["best_single"] = single  # last, after the adaptive arms
    expected_M = -np.expm1(posterior.log_miss(BestSingle(budget).samples_M())) @ posterior.weight_P
    return Comparison(
        budget=budget,
        choice=choice,
        expected=dict(zip(outcomes.policies, expected_M.tolist(), strict=True)),
        random=_random_mixture(outcomes.policies, posterior, budget),
        contributions=dict(zip(outcomes.policies, contributions(posterior, budget), strict=True)),
        arms=arms,
        coverage={
            name: _estimates(scored.naive_P, scored.honest, options.resampling, lowest=0.0)
            for name, scored in arms.items()
        },
        gains=gains,
        undefined=undefined,
        resampling=options.resampling,
    )


def equal_gains(
    outcomes: Outcomes, samples: int, options: CrossFitOptions, members: Sequence[str]
) -> dict[Currency, Estimate | None]:
    """Estimate the gain of the equal split over the best single policy, at budgets matched in each currency.

    Gains are cross-fitted by problems. A budget in tokens or seconds is the cost of the equal split of `samples`, or
    less where some policy alone could not be scored at that. A gain is None where costs are unknown, an estimate is
    undefined, or the budget pays for no sample of some policy.
    """
    return {currency: _equal_gain(outcomes, samples, options, members, currency) for currency in CURRENCIES}


def _equal_gain(
    outcomes: Outcomes, samples: int, options: CrossFitOptions, members: Sequence[str], currency: Currency
) -> Estimate | None:
    try:
        budget = matched_budget(outcomes, samples, members, currency)
        by_problems = replace(options, crossfits={"problems": options.crossfits["problems"]})
        split, best = Split.equal(members, budget), BestSingle(budget)
        if not (split.allocation_M(outcomes.policies)[outcomes.rows(members)].all() and best.samples_M().all()):
            return None  # a split without some of its members, or the best of fewer policies, would be another claim
        equal, single = (arm(outcomes, rule, by_problems) for rule in (split, best))
    except (OutcomesError, UndefinedError):
        return None
    return gain_over(single, equal, options.resampling).honest.get("problems")


def matched_budget(outcomes: Outcomes, samples: int, members: Sequence[str], currency: Currency) -> Budget:
    """Return the cost of the equal split of `samples`, or what each policy alone can be scored at if that is less.

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


_PILOT = "the pilot has enough samples to choose a mixture, but too few to score it"


def _arms(
    outcomes: Outcomes, rules: Mapping[str, AllocationRule | Split], options: CrossFitOptions, choice: Choice
) -> tuple[dict[str, Arm], dict[str, str]]:
    """Score each rule, or say why it cannot be scored.

    The naive estimate of the mixture is that of `choice`, whose search was longer than those in folds.
    """
    arms: dict[str, Arm] = {}
    undefined: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            arms[name] = arm(outcomes, rule, options, choice.allocation_M if name == "mixture" else None)
        except (UndefinedError, BudgetError) as error:
            undefined[name] = str(error)
        else:
            undefined |= {f"{name}, honest by {by}": reason for by, reason in arms[name].undefined.items()}
    return arms, undefined


def gain_over(single: Arm, other: Arm, resampling: Resampling) -> ArmEstimates:
    """Estimate the coverage of another arm minus that of the best single policy, paired per problem."""
    honest: dict[Division, CrossFitted] = {}
    for by, ours in other.honest.items():
        if theirs := single.honest.get(by):
            honest[by] = CrossFitted(ours.covered_P - theirs.covered_P, ours.resampled_R - theirs.resampled_R)
    return _estimates(other.naive_P - single.naive_P, honest, resampling, lowest=-1.0)


def _estimates(
    naive_P: Floats, honest: Mapping[Division, CrossFitted], resampling: Resampling, lowest: float
) -> ArmEstimates:
    """Make intervals for naive and honest values per problem.

    Honest intervals are not percentiles of the bootstrap: in a resample of identical policies, the one that was
    luckiest in the data is truly the best, so resampled gains do not centre on the estimate.
    """
    return ArmEstimates(
        mean_over_problems(naive_P, resampling, lowest),
        {by: student_interval(fit.covered_P, fit.resampled_R, resampling, lowest) for by, fit in honest.items()},
    )


def _random_mixture(policies: Sequence[str], posterior: Posterior, budget: Budget) -> RandomMixture | None:
    if budget.currency != "samples":
        return None
    routing = best_routing(posterior, int(budget.total))
    weights = {policy: weight for policy, weight in zip(policies, routing.weights_M.tolist(), strict=True) if weight}
    return RandomMixture(weights, routing.coverage, best_allocation(posterior, budget).certificate.objective)
