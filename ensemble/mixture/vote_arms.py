"""Arms without a verifier: the answer that most samples give is taken, and an arm is worth how often that is right.

More samples can make a vote worse, so nothing of `best_allocation` holds here, and no bound is proven. The best mixture
is that of a lattice that is laid before any answer is seen: shares in steps of 1/s, with s as large as a few hundred
mixtures allow. (Best-of-∞, Komiyama et al. 2025, arXiv 2509.21091, optimises such shares for infinitely many samples.)
Every mixture votes once on each problem, and cross-fitting then chooses among these figures. Axes: `M` policies, `P`
problems, `C` mixtures, `F` folds, `R` bootstrap resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget, BudgetError
from alphamix.ensemble.mixture.arms import Arm, Split
from alphamix.ensemble.mixture.cross_fitting import CrossFit, CrossFitted, problem_folds
from alphamix.ensemble.mixture.gains import (
    ArmEstimates,
    SinglePolicies,
    StrictGain,
    arm_estimates,
    gain_over,
    strict_gain,
)
from alphamix.ensemble.outcomes.answers import Answers
from alphamix.ensemble.statistics.intervals import Resampling, draw_weights
from alphamix.ensemble.statistics.majority_vote import vote_accuracies
from alphamix.ensemble.statistics.pass_at_k import UndefinedError

_MOST_MIXTURES = 250
_FEWEST_STEPS = 2
"""Steps of shares that are taken whatever the number of policies, so that there are pairs at least."""
_DECIMALS = 12
"""Decimals to which accuracies are rounded, so that floating-point noise does not break ties."""


@dataclass(frozen=True)
class VoteComparison:
    """All arms of one budget, scored by how often their votes are right."""

    budget: Budget
    arms: dict[str, Arm]
    """Arms by name: `mixture`, `equal` and `best_single`, as far as there are samples to score them."""
    accuracy: dict[str, ArmEstimates]
    """Share of problems on which the vote of each arm is right."""
    gains: dict[str, ArmEstimates]
    """Accuracy of each arm minus that of `best_single`, paired per problem; empty without a best single policy."""
    strict: dict[str, StrictGain | None]
    """Each arm against the votes of every single policy; None where that cannot be said."""
    num_mixtures: int
    """Number of mixtures that the best one was chosen from."""
    left_out: dict[str, int]
    """Policies with too few samples to vote alone, with their fewest samples per problem."""
    no_honest: str | None
    """Why there are no honest estimates; None where there are."""
    resampling: Resampling
    """How the intervals of naive estimates are made; those of honest ones have the same level."""


def compare_votes(answers: Answers, num_samples: int, crossfit: CrossFit, resampling: Resampling) -> VoteComparison:
    """Let every arm vote with the same number of samples per problem.

    Args:
        answers: of every policy to every problem.
        num_samples: that vote on each problem, at least 1.
        crossfit: how problems are divided for honest estimates.
        resampling: how problems are resampled for intervals.

    Raises:
        BudgetError: there are too few samples to score any mixture.
    """
    outcomes = answers.outcomes
    budget, resampling = outcomes.budget(num_samples), resampling.with_groups(outcomes.groups)
    equal_M = Split.equal(outcomes.policies, budget).allocation_M(outcomes.policies)
    fewest_M = outcomes.num_samples_MP.min(axis=1)
    mixture_CM = _mixtures(outcomes.policies, equal_M, fewest_M)
    votes = _Votes(outcomes.policies, mixture_CM, _right_of_each(answers, mixture_CM), resampling)
    try:
        folds, no_honest = list(problem_folds(outcomes, crossfit)), None
    except UndefinedError as error:
        folds, no_honest = [], str(error)
    arms = {"mixture": votes.best_of(np.arange(len(mixture_CM)), folds)}
    for row in np.flatnonzero((mixture_CM == equal_M).all(axis=1)).tolist():
        arms["equal"] = votes.arm(row, votes.fixed(row))
    single_C = np.flatnonzero((mixture_CM > 0).sum(axis=1) == 1)
    gains: dict[str, ArmEstimates] = {}
    strict: dict[str, StrictGain | None] = {}
    if len(single_C):
        single, singles = votes.best_of(single_C, folds), votes.singles(single_C, fewest_M)
        gains = {name: gain_over(single, arm, resampling) for name, arm in arms.items()}
        strict = {name: strict_gain(singles, arm, resampling) for name, arm in arms.items()}
        arms["best_single"] = single
    return VoteComparison(
        budget=budget,
        arms=arms,
        accuracy={name: arm_estimates(arm, resampling) for name, arm in arms.items()},
        gains=gains,
        strict=strict,
        num_mixtures=len(mixture_CM),
        left_out={p: int(n) for p, n in zip(outcomes.policies, fewest_M, strict=True) if n < num_samples},
        no_honest=no_honest,
        resampling=resampling,
    )


def _mixtures(policies: Sequence[str], equal_M: Ints, fewest_M: Ints) -> Ints:
    """Return the mixtures of the lattice and the equal split, as far as there are samples to score them, `[C, M]`.

    Those that give most to the first policies come first, and so are taken where mixtures tie.
    """
    num_policies, num_samples = len(policies), int(equal_M.sum())
    steps = min(_FEWEST_STEPS, num_samples)
    while steps < num_samples and comb(steps + num_policies, num_policies - 1) <= _MOST_MIXTURES:
        steps += 1
    shares = (
        np.bincount(drawn, minlength=num_policies)
        for drawn in combinations_with_replacement(range(num_policies), steps)
    )
    counts = (largest_remainder(dict(zip(policies, share_M.tolist(), strict=True)), num_samples) for share_M in shares)
    mixture_CM = -np.unique([-equal_M, *(-np.array(list(count.values())) for count in counts)], axis=0)
    mixture_CM = mixture_CM[(mixture_CM <= fewest_M).all(axis=1)]
    if not len(mixture_CM):
        raise BudgetError(
            f"no mixture of {num_samples} samples can be scored, since the policies have "
            f"{', '.join(map(str, fewest_M.tolist()))} on every problem: lower the budget, or draw more"
        )
    return mixture_CM


def _right_of_each(answers: Answers, mixture_CM: Ints) -> Floats:
    """Return the chance that the vote of each mixture is right on each problem, `[C, P]`."""
    rng = np.random.default_rng(0)
    return np.column_stack([vote_accuracies(*problem, mixture_CM, rng) for problem in answers.by_problem])


@dataclass(frozen=True)
class _Votes:
    """The mixtures, and how often the vote of each is right."""

    policies: Sequence[str]
    mixture_CM: Ints
    right_CP: Floats
    resampling: Resampling

    def arm(self, row: int, honest: CrossFitted | None) -> Arm:
        """Return a mixture as an arm."""
        allocation = {p: int(k) for p, k in zip(self.policies, self.mixture_CM[row], strict=True) if k}
        return Arm(allocation, self.right_CP[row], {} if honest is None else {"problems": honest})

    def fixed(self, row: int) -> CrossFitted:
        """Return the scores of a mixture that was not chosen."""
        right_P = self.right_CP[row]
        return CrossFitted(right_P, self._weight_RP @ right_P, self.mixture_CM[row][None])

    def singles(self, single_C: Ints, fewest_M: Ints) -> SinglePolicies:
        """Return the scores of single policies, none of them chosen."""
        of_policy = {int(self.mixture_CM[row].argmax()): self.fixed(row) for row in single_C}
        thin = {p: int(fewest_M[m]) for m, p in enumerate(self.policies) if m not in of_policy}
        is_scored_M = np.isin(np.arange(len(self.policies)), list(of_policy))
        return SinglePolicies({self.policies[m]: scores for m, scores in of_policy.items()}, is_scored_M, thin)

    def best_of(self, rows_C: Ints, folds: Sequence[tuple[Ints, Ints]]) -> Arm:
        """Choose the best of some mixtures, on all problems and, for the honest scores, on all folds but one."""
        right_CP, mixture_CM = self.right_CP[rows_C], self.mixture_CM[rows_C]
        best = int(rows_C[_best(right_CP.mean(axis=1))])
        if not folds:
            return self.arm(best, None)
        right_P, resampled_R = np.zeros(right_CP.shape[1]), np.zeros(len(self._weight_RP))
        chosen_F: list[Ints] = []
        for chosen, scored in folds:
            choice = _best(right_CP[:, chosen].mean(axis=1))
            chosen_F.append(mixture_CM[choice])
            right_P[scored] += right_CP[choice, scored]
            choice_R = _best(self._weight_RP[:, chosen] @ right_CP[:, chosen].T)
            right_RC = self._weight_RP[:, scored] @ right_CP[:, scored].T
            resampled_R += right_RC[np.arange(len(right_RC)), choice_R]
        times = sum(len(scored) for _, scored in folds) / len(right_P)
        return self.arm(best, CrossFitted(right_P / times, resampled_R / times, np.array(chosen_F)))

    @property
    def _weight_RP(self) -> Floats:
        return draw_weights(self.right_CP.shape[1], self.resampling)


def _best(right: Floats) -> Ints:
    """Return the index of the largest value on the last axis, the first of equal ones."""
    return np.round(right, _DECIMALS).argmax(axis=-1)
