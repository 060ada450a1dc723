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
from alphamix.ensemble.budget import CURRENCIES, Budget, Currency
from alphamix.ensemble.mixture.arms import Arm, BestMixture, BestSingle, Split, score_arms
from alphamix.ensemble.mixture.best_allocation import Choice, best_allocation
from alphamix.ensemble.mixture.cross_fitting import (
    AllocationRule,
    CrossFitOptions,
    CrossFitted,
    Division,
    Evidence,
    coverage_of_each,
)
from alphamix.ensemble.mixture.pilot_forecast import PilotForecast, forecast_pilot
from alphamix.ensemble.mixture.random_routing import best_routing
from alphamix.ensemble.mixture.shapley import Contribution, contributions
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.intervals import (
    Estimate,
    Resampling,
    draw_weights,
    mean_over_problems,
    student_interval,
)
from alphamix.ensemble.statistics.pass_at_k import coverage
from alphamix.ensemble.statistics.posterior import Posterior


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
class StrictGain:
    """Gain of an arm over the single policy that it is least certain to beat."""

    policy: str
    gain: Estimate
    """Gain over this policy. Its lower end is above 0 only if the arm beats every single policy that was compared."""
    is_complete: bool
    """Whether every policy was compared; those with too few samples cannot be."""


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

    def shown_as(self, policies: Sequence[str], budget: Budget) -> "Comparison":
        """Return the same results with policies in this order, which is that of the budget."""
        k = dict(zip(self.contributions, self.choice.allocation_M, strict=True))
        return replace(
            self,
            budget=budget,
            choice=replace(self.choice, allocation_M=np.array([k[policy] for policy in policies])),
            expected={policy: self.expected[policy] for policy in policies},
            contributions={policy: self.contributions[policy] for policy in policies},
            arms={
                name: replace(arm, allocation={p: arm.allocation[p] for p in policies if p in arm.allocation})
                for name, arm in self.arms.items()
            },
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
    """Choose and score every arm at one budget. The order of policies and problems changes nothing but the order shown.

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
        OutcomesError: n depends on what was drawn, or a pilot has one sample everywhere.
    """
    outcomes.check_fixed_size()
    if is_pilot and outcomes.num_samples_MP.max() < 2:
        raise OutcomesError(
            "one sample of each policy does not tell a problem that is solved half of the time from one that is solved "
            "always: draw a pilot of 2 or more samples, or score a budget of 1 sample each without --pilot"
        )
    canonical = outcomes.canonical()
    order_M, order_P = outcomes.rows(canonical.policies), [outcomes.problems.index(p) for p in canonical.problems]
    grouped = replace(options, resampling=options.resampling.with_groups(canonical.groups))
    weight_RP = draw_weights(len(order_P), grouped.resampling)
    comparison = _compare(
        canonical,
        budget.reordered(order_M),
        grouped,
        splits,
        min_policies,
        is_pilot,
        {name: arm.reordered(order_P, weight_RP) for name, arm in (played or {}).items()},
    )
    return comparison.shown_as(outcomes.policies, budget)


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
    single_rule, left_out = _single_rule(outcomes, budget)
    rules: dict[str, AllocationRule | Split] = {
        "mixture": BestMixture(budget, min_policies),
        **({"equal": Split.equal(outcomes.policies, budget)} if splits is None else splits),
        "best_single": single_rule,
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
        coverage={
            name: _estimates(scored.naive_P, scored.honest, options.resampling, lowest=0.0)
            for name, scored in arms.items()
        },
        gains=gains,
        strict={name: strict_gain(outcomes, budget, arms[name], options.resampling) for name in gains},
        ties=_ties(outcomes, single, single_rule),
        left_out=left_out,
        undefined=undefined,
        resampling=options.resampling,
    )


def _single_rule(outcomes: Outcomes, budget: Budget) -> tuple[BestSingle, dict[str, int]]:
    """Return the rule for the best single policy, and the policies that it cannot score, with their fewest samples.

    One policy with few samples must not silence the comparison with all others. Where no policy has enough samples, the
    rule keeps all of them and says so when it is asked.
    """
    fewest_M, needed_M = outcomes.num_samples_MP.min(axis=1), BestSingle(budget).samples_M()
    enough_M = fewest_M >= needed_M
    if enough_M.all() or not enough_M.any():
        return BestSingle(budget), {}
    thin = {outcomes.policies[m]: int(fewest_M[m]) for m in np.flatnonzero(~enough_M)}
    return BestSingle(budget, enough_M), thin


def _ties(outcomes: Outcomes, single: Arm | None, rule: BestSingle) -> tuple[str, ...]:
    """Return the other policies whose unbiased coverage on these problems is that of the best single policy."""
    if single is None or single.allocation_M is None:
        return ()
    k_M = np.where(outcomes.num_samples_MP.min(axis=1) >= rule.samples_M(), rule.samples_M(), 0)
    covered_M = coverage_of_each(outcomes, np.diag(k_M)).mean(axis=1)
    tied_M = (np.abs(covered_M - single.naive_P.mean()) < _TIE) & (k_M > 0) & (single.allocation_M == 0)
    return tuple(outcomes.policies[m] for m in np.flatnonzero(tied_M))


def strict_gain(outcomes: Outcomes, budget: Budget, other: Arm, resampling: Resampling) -> StrictGain | None:
    """Compare an arm with every single policy that can be scored, without choosing any of them.

    The arm beats every policy if it beats each of them at the same level: an intersection-union test (Berger 1982),
    which needs no correction for the number of policies. None where nothing can be compared.
    """
    honest = other.honest.get("problems")
    needed_M = BestSingle(budget).samples_M()
    enough_M = (outcomes.num_samples_MP.min(axis=1) >= needed_M) & (needed_M > 0)
    if honest is None or not enough_M.any():
        return None
    weight_RP = draw_weights(len(outcomes.problems), resampling)
    closest: StrictGain | None = None
    for m in np.flatnonzero(enough_M):
        single_M = np.where(np.arange(len(needed_M)) == m, needed_M, 0)
        covered_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, single_M)
        single = CrossFitted(covered_P, weight_RP @ covered_P, single_M[None])
        gain = _difference(honest, single, resampling)
        if closest is None or _low(gain) < _low(closest.gain):
            closest = StrictGain(outcomes.policies[m], gain, bool(enough_M.all()))
    return closest


def _low(gain: Estimate) -> float:
    return -1.0 if gain.interval is None else gain.interval[0]


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
        arms, _ = score_arms(Evidence(outcomes), {"equal": split, "best_single": best}, by_problems)
    except OutcomesError:
        return None
    if len(arms) < 2:
        return None
    return gain_over(arms["best_single"], arms["equal"], options.resampling).honest.get("problems")


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


_SAME = Estimate(0.0, 0.0, (0.0, 0.0))
"""Difference of two arms that are the same samples."""
_TIE = 1e-12
_COLUMNS = 1000
"""Columns of the posterior that random routing and a fixed split are compared on."""
_PILOT = "the pilot has enough samples to choose a mixture, but too few to score it"


def gain_over(single: Arm, other: Arm, resampling: Resampling) -> ArmEstimates:
    """Estimate the coverage of another arm minus that of the best single policy, paired per problem."""
    honest: dict[Division, Estimate] = {
        by: _difference(ours, theirs, resampling)
        for by, ours in other.honest.items()
        if (theirs := single.honest.get(by)) is not None
    }
    if other.allocation_M is not None and other.allocation == single.allocation:
        return ArmEstimates(_SAME, honest)
    return ArmEstimates(mean_over_problems(other.naive_P - single.naive_P, resampling), honest)


def _difference(ours: CrossFitted, theirs: CrossFitted, resampling: Resampling) -> Estimate:
    """Estimate a difference, which is certain to be 0 only where both always chose the same samples."""
    if ours.chosen_FM is not None and theirs.chosen_FM is not None and np.all(ours.chosen_FM == theirs.chosen_FM):
        return _SAME
    draws_R = ours.resampled_R - theirs.resampled_R
    return student_interval(ours.covered_P - theirs.covered_P, draws_R, resampling, lowest=-1.0)


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
    posterior = posterior.thinned(_COLUMNS)
    routing = best_routing(posterior, int(budget.total))
    weights = {policy: weight for policy, weight in zip(policies, routing.weights_M.tolist(), strict=True) if weight}
    return RandomMixture(weights, routing.coverage, best_allocation(posterior, budget).certificate.objective)
