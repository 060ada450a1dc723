"""How often the most frequent of k answers is right, estimated from n answers that were kept.

The estimate is the mean over all choices of k_j of the n_j samples of policy j, without replacement. Each choice is a
vote among as many new samples as it has, so the estimate is unbiased for any allocation with k_j ≤ n_j. Answers that
tie share the victory equally, and of samples with the same answer any may be handed out. Where there are few different
counts of answers they are enumerated, which is exact; else choices are drawn at random, and the error of that is told.
Axes: `M` policies, `A` answers of one problem, `D` counts that a vote may see.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.statistics.pass_at_k import UndefinedError

_MOST_COUNTS = 4096
"""Counts of answers that are enumerated; where there are more, this many choices are drawn."""


class VoteChance(NamedTuple):
    """Chance that a vote on one problem is right."""

    value: float
    variance: float
    """Of the value over random choices; 0 where all counts were enumerated."""


def vote_chance(
    num_given_MA: Ints, num_correct_MA: Ints, is_vote_A: Bools, allocation_M: Ints, rng: np.random.Generator
) -> VoteChance:
    """Return the chance that the most frequent answer of an allocation is right; 0 where nobody answers.

    Args:
        num_given_MA: `[M, A]` samples that gave each answer.
        num_correct_MA: `[M, A]` accepted samples among them.
        is_vote_A: `[A]` whether an answer takes part in the vote.
        allocation_M: `[M]` samples k that each policy contributes, at least one in total.
        rng: draws choices where there are too many to enumerate.

    Raises:
        UndefinedError: some policy has fewer samples than it is to contribute.
    """
    members = np.flatnonzero(allocation_M)
    given_MA, k_M = num_given_MA[members], allocation_M[members]
    for n, k in zip(given_MA.sum(axis=1).tolist(), k_M.tolist(), strict=True):
        if k > n:
            raise UndefinedError(f"a vote with {k} samples of a policy needs as many on every problem, but one has {n}")
    right_MA = num_correct_MA[members] / np.maximum(given_MA, 1)
    num_counts = [_num_counts(given_A, k) for given_A, k in zip(given_MA, k_M.tolist(), strict=True)]
    if prod(num_counts) > _MOST_COUNTS:
        drawn = [rng.multivariate_hypergeometric(given_A, k, _MOST_COUNTS) for given_A, k in zip(given_MA, k_M, strict=True)]
        score_D = _scores(np.stack(drawn), right_MA, is_vote_A)
        return VoteChance(float(score_D.mean()), float(score_D.var() / _MOST_COUNTS))
    each = [_all_counts(given_A, k) for given_A, k in zip(given_MA, k_M.tolist(), strict=True)]
    place_MD = np.indices(num_counts).reshape(len(each), -1)
    counts_MDA = np.stack([counts_DA[place_D] for (counts_DA, _), place_D in zip(each, place_MD, strict=True)])
    weight_D = np.prod([weight_D[place_D] for (_, weight_D), place_D in zip(each, place_MD, strict=True)], axis=0)
    return VoteChance(float(_scores(counts_MDA, right_MA, is_vote_A) @ weight_D), 0.0)


def _scores(counts_MDA: Ints, right_MA: Floats, is_vote_A: Bools) -> Floats:
    """Return the chance that each vote is right, `[D]`."""
    votes_DA = counts_MDA.sum(axis=0)
    right_DA = (counts_MDA * right_MA[:, None]).sum(axis=0) / np.maximum(votes_DA, 1)
    votes_DA = votes_DA * is_vote_A
    wins_DA = (votes_DA == votes_DA.max(axis=1, keepdims=True)) & (votes_DA > 0)
    return (wins_DA * right_DA).sum(axis=1) / np.maximum(wins_DA.sum(axis=1), 1)


def _num_counts(given_A: Ints, k: int) -> int:
    """Return how many different counts of answers k of the samples may have, `_all_counts` without making them."""
    ways_K = np.zeros(k + 1)
    ways_K[0] = 1.0
    for given in given_A:
        sums_K = ways_K.cumsum()
        sums_K[given + 1 :] -= ways_K.cumsum()[: max(0, k - given)]
        ways_K = sums_K
    return int(min(ways_K[k], _MOST_COUNTS + 1))


def _all_counts(given_A: Ints, k: int) -> tuple[Ints, Floats]:
    """Return all counts of answers that k of the samples may have, `[D, A]`, and the chance of each, `[D]`."""
    counts_DA = np.zeros((1, 0), np.int64)
    left_D = np.array([k])
    behind_A = given_A.sum() - given_A.cumsum()
    for given, behind in zip(given_A.tolist(), behind_A.tolist(), strict=True):
        least_D, most_D = np.maximum(0, left_D - behind), np.minimum(given, left_D)
        times_D = most_D - least_D + 1
        start_D = np.repeat(times_D.cumsum() - times_D, times_D)
        taken_D = np.repeat(least_D, times_D) + np.arange(times_D.sum()) - start_D
        counts_DA = np.column_stack([np.repeat(counts_DA, times_D, axis=0), taken_D])
        left_D = np.repeat(left_D, times_D) - taken_D
    log_ways_D = -(gammaln(counts_DA + 1) + gammaln(given_A - counts_DA + 1)).sum(axis=1)
    weight_D = np.exp(log_ways_D - log_ways_D.max())
    return counts_DA, weight_D / weight_D.sum()
