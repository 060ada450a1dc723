"""Branch and bound: split the region at a policy's number of samples, drop what cannot hold anything better.

Best bound first; a node's bound is that of `relaxation`. Stopped early it still leaves a proven bound, the highest of
the nodes that were not looked into.
"""

import heapq
from dataclasses import replace

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.mixture.local_search import fill
from alphamix.ensemble.mixture.relaxation import Misses, Region, Relaxed, relax

CLOSED = 1e-9
"""A gap of at most so much is rounding noise."""


def branch_and_bound(misses: Misses, region: Region, relaxed: Relaxed, k_M: Ints, max_nodes: int) -> tuple[Ints, float]:
    """Improve an allocation until its gap is closed or so many nodes are split.

    Args:
        misses: the objective.
        region: not empty.
        relaxed: the region's relaxation.
        k_M: `[M]` a good allocation in the region.
        max_nodes: nodes to split at most.

    Returns:
        `[M]` the best allocation found, and a bound for all allocations in the region.
    """
    best_M, best, dropped = k_M, covered(misses, k_M), 0.0
    heap = [(-relaxed.upper_bound, 0, region, relaxed)]
    for number in range(max_nodes):
        if not heap or -heap[0][0] <= best + CLOSED:
            break
        _, _, node, relaxed = heapq.heappop(heap)
        for side, child in enumerate(_split(node, relaxed.k_M)):
            found = relax(misses, child, np.rint(relaxed.k_M).astype(np.int64))
            candidate_M = fill(misses, child, rounded_down(child, found.k_M))
            if (candidate_M > 0).sum() >= region.min_policies and (value := covered(misses, candidate_M)) > best:
                best_M, best = candidate_M, value
            if found.upper_bound > best + CLOSED:
                heapq.heappush(heap, (-found.upper_bound, 2 * number + side + 1, child, found))
            else:
                dropped = max(dropped, found.upper_bound)
    return best_M, max([best, dropped, *(-node[0] for node in heap[:1])])


def rounded_down(region: Region, k_M: Floats) -> Ints:
    """Whole numbers in the region below a real point of it."""
    whole_M = np.clip(np.floor(k_M + 1e-9).astype(np.int64), region.lower_M, region.upper_M)
    return whole_M if region.left(whole_M) >= 0 else region.lower_M


def _split(region: Region, k_M: Floats) -> list[Region]:
    """Split where the relaxed number is furthest from whole; else at a policy left out; else where most are left."""
    width_M = region.upper_M - region.lower_M
    if not width_M.any():
        return []
    fraction_M = np.where(width_M > 0, np.abs(k_M - np.rint(k_M)), 0)
    out_M = (region.lower_M == 0) & (width_M > 0) & (k_M < 0.5)
    if fraction_M.max() > 1e-6:
        j = int(fraction_M.argmax())
    elif out_M.any() and (k_M >= 0.5).sum() < region.min_policies:
        j = int(out_M.argmax())
    else:
        j = int(width_M.argmax())
    at = min(int(np.floor(k_M[j] + 1e-6)), int(region.upper_M[j]) - 1)
    is_j_M = np.arange(len(k_M)) == j
    below = replace(region, upper_M=np.where(is_j_M, at, region.upper_M))
    above = replace(region, lower_M=np.where(is_j_M, at + 1, region.lower_M))
    return [_with_needed_policies(child) for child in (below, above) if not child.is_empty]


def _with_needed_policies(region: Region) -> Region:
    """Raise lower limits to 1 where no policy can be left out any more."""
    if (region.upper_M > 0).sum() > region.min_policies:
        return region
    return replace(region, lower_M=np.maximum(region.lower_M, np.minimum(region.upper_M, 1)))


def covered(misses: Misses, k_M: Ints) -> float:
    """Coverage of an allocation."""
    return float(-np.expm1(misses.log_miss(k_M).sum(axis=0)) @ misses.weight_P)
