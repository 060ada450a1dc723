"""Arms: ways to spend one budget per problem, compared on equal terms.

Choosing and reporting never share data: an arm that is chosen by looking at outcomes (the best single policy) is
chosen on some problems and scored on others. The naive figure, picked and scored on the same problems, stands beside
the honest one. Axes: `M` policies, `P` problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ensemble.allocation import largest_remainder
from ensemble.outcomes import Outcomes
from ensemble.pass_at_k import Floats, coverage, pass_at_k


@dataclass(frozen=True)
class CrossFit:
    """Folds of problems: each fold is scored with the choice that the other folds made, over several divisions."""

    folds: int = 10
    repeats: int = 20
    seed: int = 0


@dataclass(frozen=True)
class Arm:
    """One way to spend the budget, with what it covers of each problem."""

    name: str
    allocation: dict[str, int]
    """Samples per policy and problem; for a chosen arm, the choice that all problems together make."""
    naive_P: Floats
    """`[P]` coverage under that allocation."""
    honest_P: Floats
    """`[P]` coverage under allocations chosen without the problem in question."""


def equal_split(outcomes: Outcomes, policies: Sequence[str], budget: int) -> Arm:
    """Spread the budget evenly. Nothing is chosen by looking, so naive and honest agree.

    Raises:
        UndefinedError: a policy has fewer samples than its share.
    """
    allocation = largest_remainder(dict.fromkeys(policies, 1.0), budget)
    allocation_M = [allocation.get(policy, 0) for policy in outcomes.policies]
    covered_P = coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, allocation_M)
    return Arm("equal", allocation, covered_P, covered_P)


def best_single(outcomes: Outcomes, budget: int, crossfit: CrossFit) -> Arm:
    """Spend all on the policy with the highest pass@budget; its honest score comes from problem folds.

    Raises:
        UndefinedError: a policy has fewer samples than the budget.
    """
    pass_MP = pass_at_k(outcomes.num_samples_MP, outcomes.num_correct_MP, budget)
    best = int(pass_MP.mean(axis=1).argmax())
    honest_P = cross_fitted_best(pass_MP, crossfit)
    return Arm("best_single", {outcomes.policies[best]: budget}, pass_MP[best], honest_P)


def cross_fitted_best(values_MP: Floats, crossfit: CrossFit) -> Floats:
    """Score of the best row, chosen for each problem on folds that do not hold it; mean over random divisions.

    With one problem there is nothing to choose on: the honest score is then the mean over the rows.

    Returns:
        `[P]` honest values.
    """
    num_problems = values_MP.shape[1]
    folds = min(crossfit.folds, num_problems)
    if folds < 2:
        return values_MP.mean(axis=0)
    rng = np.random.default_rng(crossfit.seed)
    honest_P = np.zeros(num_problems)
    for _ in range(crossfit.repeats):
        fold_P = rng.permutation(num_problems) % folds
        for fold in range(folds):
            held_P = fold_P == fold
            chosen = values_MP[:, ~held_P].mean(axis=1).argmax()
            honest_P[held_P] += values_MP[chosen, held_P]
    return honest_P / crossfit.repeats
