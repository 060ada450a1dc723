"""How often the most frequent answer among new samples is right, estimated from answers that were kept.

The vote of an allocation is the mean over random choices of k_j of the n_j samples of policy j, without replacement.
Each choice is a vote among as many new samples as it has, so the estimate is unbiased for any k_j ≤ n_j, however few
choices are drawn; their noise is part of the spread over problems, and so of every interval. Answers that tie share the
victory equally. Of samples with the same answer any may be handed out. Axes: `M` policies, `A` answers of one problem,
of which the first is none, `C` allocations, `D` choices.
"""

from typing import Any

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.statistics.pass_at_k import UndefinedError

_CELLS = 300_000
"""Number of allocations × choices × answers that are counted for one problem, as far as the next two allow."""
_FEWEST_CHOICES, _MOST_CHOICES = 100, 2000


def vote_accuracies(num_given_MA: Ints, num_correct_MA: Ints, allocations_CM: Ints, rng: np.random.Generator) -> Floats:
    """Return the chance that the vote of each allocation on one problem is right, `[C]`; 0 where nobody answers.

    All allocations see the same choices, so the noise of their differences is smaller than their own.

    Args:
        num_given_MA: `[M, A]` samples that gave each answer; those of the first answer are drawn, but do not vote.
        num_correct_MA: `[M, A]` accepted samples among them.
        allocations_CM: `[C, M]` samples k that each policy contributes.
        rng: draws the choices.

    Raises:
        UndefinedError: some policy has fewer samples than it is to contribute.
    """
    asked_M, drawn_M = allocations_CM.max(axis=0), num_given_MA.sum(axis=1)
    if (asked_M > drawn_M).any():
        m = int((asked_M > drawn_M).argmax())
        raise UndefinedError(
            f"a vote with {asked_M[m]} samples of a policy needs as many on every problem, but one has {drawn_M[m]}: "
            "draw more, or lower the budget"
        )
    num_choices = np.clip(_CELLS // (len(allocations_CM) * num_given_MA.shape[1]), _FEWEST_CHOICES, _MOST_CHOICES)
    right_share_M1A = (num_correct_MA / np.maximum(num_given_MA, 1))[:, None]
    drawn_of_M: list[dict[int, Any]] = []
    for given_A, right_share_1A, k_C in zip(num_given_MA, right_share_M1A, allocations_CM.T, strict=True):
        drawn_of_M.append({})
        for k in np.unique(k_C[k_C > 0]).tolist():
            votes_DA = rng.multivariate_hypergeometric(given_A, k, num_choices)
            votes_DA[:, 0] = 0
            drawn_of_M[-1][k] = np.stack([votes_DA.T, (votes_DA * right_share_1A).T])
    accuracy_C = np.empty(len(allocations_CM))
    for c, k_M in enumerate(allocations_CM.tolist()):
        members = [drawn[k] for drawn, k in zip(drawn_of_M, k_M, strict=True) if k]
        accuracy_C[c] = _accuracy(*np.sum(members, axis=0)) if members else 0.0
    return accuracy_C


def _accuracy(votes_AD: Floats, right_AD: Floats) -> float:
    """Return the mean over choices, given how many votes each answer gets, and how many of these are right."""
    most_D = votes_AD.max(axis=0)
    wins_AD = votes_AD == most_D
    # Winners have equally many votes, so the mean of their shares is the share of all of them together.
    right_D = (right_AD * wins_AD).sum(axis=0) / np.maximum(most_D * wins_AD.sum(axis=0), 1)
    return float(right_D.mean())
