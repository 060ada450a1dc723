"""All arms of one budget side by side: the best mixture, fixed splits and the best single policy, naive and honest.

It joins `best_allocation` (the choice and its certificate), `arms` (its coverage), `gains` (what it covers beyond
single policies), `random_routing` (the best random mixture) and `shapley` (what each policy adds). The command line and
the report only show what is computed here. Axes: `M` policies, `P` problems, `R` bootstrap resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.budget import CURRENCIES, Budget, Currency
from alphamix.ensemble.mixture.arms import Arm, BestMixture, BestSingle, Split, score_arms
from alphamix.ensemble.mixture.best_allocation import Choice, best_allocation
from alphamix.ensemble.mixture.cross_fitting import AllocationRule, CrossFitOptions, Evidence
from alphamix.ensemble.mixture.gains import (
    ArmEstimates,
    StrictGain,
    arm_estimates,
    gain_over,
    score_single_policies,
    strict_gain,
)
from alphamix.ensemble.mixture.pilot_forecast import PilotForecast, forecast_pilot
from alphamix.ensemble.mixture.random_routing import best_routing
from alphamix.ensemble.mixture.shapley import Contribution, contributions
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.statistics.posterior import Posterior

_COLUMNS = 300
"""Columns of the posterior that random routing and a fixed split are compared on."""
_PILOT = "the pilot has enough samples to choose a mixture, but too few to score it"


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
    forecast: PilotForecast | None
    """What a pilot's model expects of the mixture; None where the mixture can be scored without a model."""
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
    strict: dict[str, StrictGain | None]
    """Each arm against every single policy; None where that cannot be said."""
    ties: tuple[str, ...]
    """Other policies that cover exactly as much as the best single one, which the posterior then chose."""
    left_out: dict[str, int]
    """Policies with too few samples to be compared as single policies, with their fewest samples per problem."""
    undefined: dict[str, str]
    """Why an estimate is missing, by what is missing."""
    resampling: Resampling
    """How the intervals of naive estimates are made; those of honest ones have the same level."""

    def shown_as(self, outcomes: Outcomes, budget: Budget) -> "Comparison":
        """Return the same results with policies in the order of this table and budget."""
        allocation = dict(zip(self.contributions, self.choice.allocation_M, strict=True))
        return replace(
            self,
            budget=budget,
            choice=replace(self.choice, allocation_M=np.array(list(outcomes.in_order(allocation).values()))),
            expected=outcomes.in_order(self.expected),
            contributions=outcomes.in_order(self.contributions),
            arms={name: replace(arm, allocation=outcomes.in_order(arm.allocation)) for name, arm in self.arms.items()},
        )


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
        played: adaptive arms, already scored, with problems in canonical order.

    Raises:
        BudgetError: no mixture meets the budget with the samples that were drawn.
        OutcomesError: n depends on what was drawn, or a pilot has one sample everywhere.
    """
    outcomes.check_fixed_size()
    if is_pilot and outcomes.num_samples_MP.max() < 2:
        raise OutcomesError(
            "one sample of each policy does not tell a problem that is solved half of the time from one that is solved "
            "always: draw a pilot of 2 or more samples, or score a budget of 1 sample each without --pilot"
        )
    table = outcomes.canonical()
    order_M = outcomes.rows(table.policies)
    if splits is not None:
        splits = {name: split.reordered(order_M) for name, split in splits.items()}
    options = replace(options, resampling=options.resampling.with_groups(table.groups))
    found = _compare(table, budget.reordered(order_M), options, splits, min_policies, is_pilot, played or {})
    return found.shown_as(outcomes, budget)


def _compare(
    outcomes: Outcomes,
    budget: Budget,
    options: CrossFitOptions,
    splits: Mapping[str, Split] | None,
    min_policies: int,
    is_pilot: bool,
    played: Mapping[str, Arm],
) -> Comparison:
    evidence = Evidence(outcomes)
    posterior = evidence.posterior
    limit_M = None if is_pilot else outcomes.num_samples_MP.min(axis=1)
    choice = best_allocation(posterior, budget, limit_M, min_policies)
    singles = score_single_policies(outcomes, budget, options.resampling)
    rules: dict[str, AllocationRule | Split] = {
        "mixture": BestMixture(budget, min_policies),
        **({"equal": Split.equal(outcomes.policies, budget)} if splits is None else splits),
        "best_single": singles.rule(budget),
    }
    if is_pilot:
        del rules["mixture"]
    arms, undefined = score_arms(evidence, rules, options, {"mixture": choice.allocation_M})
    if is_pilot:
        undefined = {"mixture": _PILOT, **undefined} if arms else {"every honest figure": _PILOT}
    single = arms.pop("best_single", None)
    arms |= played
    gains: dict[str, ArmEstimates] = {}
    if single:
        gains = {name: gain_over(single, other, options.resampling) for name, other in arms.items()}
        arms["best_single"] = single  # last, after the adaptive arms
    expected_M = -np.expm1(posterior.log_miss(BestSingle(budget).samples_M())) @ posterior.weight_C
    return Comparison(
        budget=budget,
        choice=choice,
        forecast=forecast_pilot(evidence, choice.allocation_M, options.resampling) if is_pilot else None,
        expected=dict(zip(outcomes.policies, expected_M.tolist(), strict=True)),
        random=_random_mixture(outcomes.policies, posterior, budget),
        contributions=dict(zip(outcomes.policies, contributions(posterior, budget), strict=True)),
        arms=arms,
        coverage={name: arm_estimates(arm, options.resampling) for name, arm in arms.items()},
        gains=gains,
        strict={name: strict_gain(singles, arms[name], options.resampling) for name in gains},
        ties=singles.ties(single) if single else (),
        left_out=singles.left_out,
        undefined=undefined,
        resampling=options.resampling,
    )


def equal_gains(
    outcomes: Outcomes, samples: int, options: CrossFitOptions, members: Sequence[str]
) -> dict[Currency, StrictGain | None]:
    """Estimate the gain of the equal split over every single policy, at budgets matched in each currency.

    Nothing is chosen, so no figure flatters. A budget in tokens or seconds is the cost of the equal split of `samples`,
    or less where some policy alone could not be scored at that. A gain is None where costs are unknown, an estimate is
    undefined, or the budget pays for no sample of some policy.
    """
    return {currency: _equal_gain(outcomes, samples, options, members, currency) for currency in CURRENCIES}


def _equal_gain(
    outcomes: Outcomes, samples: int, options: CrossFitOptions, members: Sequence[str], currency: Currency
) -> StrictGain | None:
    try:
        budget = matched_budget(outcomes, samples, members, currency)
        split = Split.equal(members, budget)
        if not split.allocation_M(outcomes.policies)[outcomes.rows(members)].all():
            return None  # a split without some of its members would be another claim
        arms, _ = score_arms(Evidence(outcomes), {"equal": split}, options)
    except OutcomesError:
        return None
    if "equal" not in arms:
        return None
    singles = score_single_policies(outcomes, budget, options.resampling)
    strict = strict_gain(singles, arms["equal"], options.resampling)
    return strict if strict is not None and strict.is_complete else None


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


def _random_mixture(policies: Sequence[str], posterior: Posterior, budget: Budget) -> RandomMixture | None:
    if budget.currency != "samples":
        return None
    thinned = posterior.thinned(_COLUMNS)
    routing = best_routing(thinned, int(budget.total))
    weights = {policy: weight for policy, weight in zip(policies, routing.weights_M.tolist(), strict=True) if weight}
    fixed = best_allocation(thinned, budget)
    # Few columns tell the difference of the two well, and either level less well.
    fixed_coverage = posterior.coverage(fixed.allocation_M)
    return RandomMixture(weights, fixed_coverage - (fixed.certificate.objective - routing.coverage), fixed_coverage)
