"""How often the most frequent answer among new samples is right, estimated from answers that were kept.

The vote of an allocation is the mean over random choices of k_j of the n_j samples of policy j, without replacement.
Each choice is a vote among as many new samples as it has, so the estimate is unbiased for any k_j ≤ n_j, however few
choices are drawn; their noise is part of the spread over problems, and so of every interval. Answers that tie share the
victory equally. Of samples with the same answer any may be handed out. Axes: `M` policies, `A` answers of one problem,
of which the first is none, `C` allocations, `D` choices.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.statistics.pass_at_k import UndefinedError

_CELLS = 400_000
"""Largest number of allocations × choices × answers that are counted at once."""
_FEWEST_CHOICES, _MOST_CHOICES = 200, 2000


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
    num_allocations, num_answers = len(allocations_CM), num_given_MA.shape[1]
    choices = int(np.clip(_CELLS // (num_allocations * num_answers), _FEWEST_CHOICES, _MOST_CHOICES))
    counts_of_M = [
        {k: rng.multivariate_hypergeometric(given_A, k, choices) for k in np.unique(k_C[k_C > 0]).tolist()}
        for given_A, k_C in zip(num_given_MA, allocations_CM.T, strict=True)
    ]
    right_share_MA = num_correct_MA / np.maximum(num_given_MA, 1)
    num_blocks = num_allocations * choices * num_answers // _CELLS + 1
    blocks = np.array_split(allocations_CM, min(num_allocations, num_blocks))
    return np.concatenate([_accuracies(counts_of_M, right_share_MA, block_CM) for block_CM in blocks])


def _accuracies(counts_of_M: Sequence[Mapping[int, Ints]], right_share_MA: Floats, allocations_CM: Ints) -> Floats:
    """Return the mean over choices, given the counts of answers `[D, A]` of each policy for each k, `[C]`."""
    num_choices = next(len(counts_DA) for counts in counts_of_M for counts_DA in counts.values())
    votes_CDA = np.zeros((len(allocations_CM), num_choices, right_share_MA.shape[1]))
    right_CDA = np.zeros_like(votes_CDA)
    for counts, right_share_A, k_C in zip(counts_of_M, right_share_MA, allocations_CM.T, strict=True):
        for k, counts_DA in counts.items():
            votes_CDA[k_C == k] += counts_DA
            right_CDA[k_C == k] += counts_DA * right_share_A
    votes_CDA[..., 0] = 0
    wins_CDA = (votes_CDA > 0) & (votes_CDA == votes_CDA.max(axis=2, keepdims=True))
    right_CDA *= wins_CDA
    right_CD = (right_CDA / np.maximum(votes_CDA, 1)).sum(axis=2) / np.maximum(wins_CDA.sum(axis=2), 1)
    return right_CD.mean(axis=1)
