"""Gains: what an arm covers beyond single policies, naive and honest.

The best single policy is the one that would have been picked, and an arm may gain over it without beating the one that
is truly best. So each arm is also held against every single policy, none of them picked. Axes: `M` policies, `P`
problems, `R` bootstrap resamples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from alphamix.ensemble.arrays import Bools
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm, BestSingle
from alphamix.ensemble.mixture.cross_fitting import CrossFitted, Division
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import (
    NO_DIFFERENCE,
    Estimate,
    Resampling,
    draw_weights,
    mean_over_problems,
    student_interval,
)
from alphamix.ensemble.statistics.pass_at_k import coverage

_TIE = 1e-12
"""Difference of mean coverage that is rounding noise."""


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
class StrictGain:
    """Gain of an arm over the single policy that it is least certain to beat."""

    policy: str
    gain: Estimate
    """Gain over this policy. Its lower end is above 0 only if the arm beats every single policy that was compared."""
    num_compared: int
    is_complete: bool
    """Whether every policy was compared; those with too few samples cannot be."""


@dataclass(frozen=True)
class SinglePolicies:
    """What each single policy covers with the whole budget; nothing is chosen, so no figure flatters."""

    covered: Mapping[str, CrossFitted]
    """By policy, for those that the budget pays a sample of and that have enough samples to be scored."""
    enough_M: Bools
    """`[M]` whether a policy has as many samples as the budget pays for."""
    thin: Mapping[str, int]
    """The policies that do not, with their fewest samples per problem."""

    def rule(self, budget: Budget) -> BestSingle:
        """Return the rule that picks the best of those that can be scored.

        One policy with few samples must not silence the comparison with all others. Where no policy has enough samples,
        the rule keeps all of them and says so when it is asked.
        """
        return BestSingle(budget, self.enough_M) if self.left_out else BestSingle(budget)

    @property
    def left_out(self) -> dict[str, int]:
        """The thin policies, where others can be compared without them."""
        return dict(self.thin) if self.enough_M.any() else {}

    def ties(self, best: Arm) -> tuple[str, ...]:
        """Return the other policies whose unbiased coverage on these problems is that of the best single policy."""
        value = best.naive_P.mean()
        return tuple(
            policy
            for policy, scores in self.covered.items()
            if policy not in best.allocation and abs(scores.covered_P.mean() - value) < _TIE
        )


def score_single_policies(outcomes: Outcomes, budget: Budget, resampling: Resampling) -> SinglePolicies:
    """Score each policy with the whole budget, as far as there are samples."""
    needed_M, fewest_M = BestSingle(budget).samples_M(), outcomes.num_samples_MP.min(axis=1)
    enough_M = fewest_M >= needed_M
    weight_RP = draw_weights(len(outcomes.problems), resampling)
    covered: dict[str, CrossFitted] = {}
    for m in np.flatnonzero(enough_M & (needed_M > 0)):
        single_M = np.where(np.arange(len(needed_M)) == m, needed_M, 0)
        covered_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, single_M)
        covered[outcomes.policies[m]] = CrossFitted(covered_P, weight_RP @ covered_P, single_M[None])
    thin = {outcomes.policies[m]: int(fewest_M[m]) for m in np.flatnonzero(~enough_M)}
    return SinglePolicies(covered, enough_M, thin)


def strict_gain(singles: SinglePolicies, other: Arm, resampling: Resampling) -> StrictGain | None:
    """Compare an arm with every single policy that can be scored, without choosing any of them.

    The arm beats every policy if it beats each of them at the same level: an intersection-union test (Berger 1982),
    which needs no correction for the number of policies. None where nothing can be compared.
    """
    honest = other.honest.get("problems")
    if honest is None or not singles.covered:
        return None
    gains = {policy: _difference(honest, scores, resampling) for policy, scores in singles.covered.items()}
    policy = min(gains, key=lambda name: _low(gains[name]))
    return StrictGain(policy, gains[policy], len(gains), len(gains) == len(singles.enough_M))


def _low(gain: Estimate) -> float:
    return -1.0 if gain.interval is None else gain.interval[0]


def gain_over(single: Arm, other: Arm, resampling: Resampling) -> ArmEstimates:
    """Estimate the coverage of another arm minus that of the best single policy, paired per problem."""
    honest: dict[Division, Estimate] = {
        by: _difference(ours, theirs, resampling)
        for by, ours in other.honest.items()
        if (theirs := single.honest.get(by)) is not None
    }
    if other.is_adaptive:
        weight_RP = draw_weights(len(single.naive_P), resampling)
        naive = CrossFitted(single.naive_P, weight_RP @ single.naive_P, None)
        return ArmEstimates(_difference(other.honest["problems"], naive, resampling), honest)
    if other.allocation == single.allocation:
        return ArmEstimates(NO_DIFFERENCE, honest)
    return ArmEstimates(mean_over_problems(other.naive_P - single.naive_P, resampling), honest)


def _difference(ours: CrossFitted, theirs: CrossFitted, resampling: Resampling) -> Estimate:
    """Estimate a difference, which is certain to be 0 only where both always chose the same samples."""
    if ours.chosen_FM is not None and theirs.chosen_FM is not None and np.all(ours.chosen_FM == theirs.chosen_FM):
        return NO_DIFFERENCE
    draws_R = ours.resampled_R - theirs.resampled_R
    return student_interval(ours.covered_P - theirs.covered_P, draws_R, resampling, lowest=-1.0)


def arm_estimates(arm: Arm, resampling: Resampling) -> ArmEstimates:
    """Make intervals for what an arm covers, naive and honest.

    Honest intervals are not percentiles of the bootstrap: in a resample of identical policies, the one that was
    luckiest in the data is truly the best, so resampled gains do not centre on the estimate.
    """
    honest: dict[Division, Estimate] = {
        by: student_interval(fit.covered_P, fit.resampled_R, resampling, lowest=0.0) for by, fit in arm.honest.items()
    }
    if arm.is_adaptive:
        return ArmEstimates(honest["problems"], honest)
    return ArmEstimates(mean_over_problems(arm.naive_P, resampling, lowest=0.0), honest)
