"""Branch and bound: split a region at one policy's number of samples, and drop the parts that hold nothing better.

The node with the highest bound is split first, and a node's bound is that of its relaxation. Stopped early, the search
still leaves a proven bound: the highest of the nodes not yet split.
"""

import heapq
from dataclasses import replace

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.mixture.optimiser.local_search import fill
from alphamix.ensemble.mixture.optimiser.relaxation import Region, Relaxed, relax
from alphamix.ensemble.statistics.posterior import Posterior

CLOSED = 1e-9
"""Largest gap between bound and coverage that counts as closed: both carry rounding noise of this order."""


def branch_and_bound(
    posterior: Posterior, region: Region, relaxed: Relaxed, k_M: Ints, max_nodes: int
) -> tuple[Ints, float]:
    """Improve an allocation until its gap is closed or `max_nodes` nodes have been split.

    The search starts from a good allocation `k_M` in a region that is not empty, and from its relaxation. It returns
    the best allocation found, and a bound for all allocations in the region.
    """
    best_M, best, dropped = k_M, posterior.coverage(k_M), 0.0
    # The second entry, a running number, orders nodes of equal bound, so that the search is deterministic.
    heap = [(-relaxed.upper_bound, 0, region, relaxed)]
    for number in range(max_nodes):
        if not heap or -heap[0][0] <= best + CLOSED:
            break
        _, _, node, relaxed = heapq.heappop(heap)
        for side, child in enumerate(_split(node, relaxed.k_M)):
            relaxed_child = relax(posterior, child, np.rint(relaxed.k_M).astype(np.int64))
            candidate_M = fill(posterior, child, rounded_down(child, relaxed_child.k_M))
            if (candidate_M > 0).sum() >= region.min_policies and (value := posterior.coverage(candidate_M)) > best:
                best_M, best = candidate_M, value
            if relaxed_child.upper_bound > best + CLOSED:
                heapq.heappush(heap, (-relaxed_child.upper_bound, 2 * number + side + 1, child, relaxed_child))
            else:
                dropped = max(dropped, relaxed_child.upper_bound)
    return best_M, max([best, dropped, *(-node[0] for node in heap[:1])])


def rounded_down(region: Region, k_M: Floats) -> Ints:
    """Return whole numbers in the region at or below a real point of it."""
    whole_M = np.clip(np.floor(k_M + 1e-9).astype(np.int64), region.lower_M, region.upper_M)
    return whole_M if region.left(whole_M) >= 0 else region.lower_M


def _split(region: Region, k_M: Floats) -> list[Region]:
    """Split a region in two at one policy.

    This is the policy whose relaxed number is furthest from whole. If all are whole, it is one that must still be added
    to reach `min_policies`, or else the one with the widest range.
    """
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
    """Raise lower limits to 1 where leaving out one more policy would leave too few."""
    if (region.upper_M > 0).sum() > region.min_policies:
        return region
    return replace(region, lower_M=np.maximum(region.lower_M, np.minimum(region.upper_M, 1)))
