"""Greedy filling and exchange: a good allocation of whole numbers, found fast and without proof.

Coverage is monotone and has diminishing returns in every direction (it is DR-submodular). So where all samples cost the
same, greedy filling from zero reaches at least 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978; for whole
numbers Soma and Yoshida 2015, arXiv 1503.01218). Exchanging samples between policies gains most of the rest, and
`branch_and_bound` proves how much is left. Axes: `M` policies, `C` columns of the posterior, `N` kinds of moves; in
pairs `[M, M]`, the first policy gives up samples and the second gets them.
"""

import numpy as np

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.mixture.optimiser.relaxation import Region
from alphamix.ensemble.statistics.posterior import Posterior

_IMPROVEMENT = 1e-12
"""Coverage that an exchange must gain; with less, rounding noise could move samples back and forth."""
_NOISE = 1e-13
"""Relative difference below which two chances count as equal."""
_MAX_EXCHANGES = 1000


def fill(posterior: Posterior, region: Region, k_M: Ints) -> Ints:
    """Add samples one at a time, each where it gains most coverage per cost, until none fits.

    Ties go to the policy named first.
    """
    k_M, left = k_M.copy(), region.left(k_M)
    if left < region.cost_M.min():
        return k_M
    miss_C = np.exp(posterior.log_miss_of_all(k_M)) * posterior.weight_C
    while (fits_M := (k_M < region.upper_M) & (region.cost_M <= left)).any():
        next_miss_MC = posterior.next_miss(k_M)
        rate_M = np.where(fits_M, (miss_C.sum() - next_miss_MC @ miss_C) / region.cost_M, -1.0)
        best = int((rate_M >= rate_M.max() * (1 - _NOISE)).argmax())
        miss_C *= next_miss_MC[best]
        k_M[best] += 1
        left = region.left(k_M)
    return k_M


def exchange(posterior: Posterior, region: Region, k_M: Ints) -> Ints:
    """Exchange samples between policies until nothing improves and ties are settled.

    Where costs differ, either one sample is given up for as many as then fit, or as many are given up as one sample
    needs. Settling ties moves samples to the policy named first wherever coverage stays equal, so that equal tables
    give equal answers.
    """
    for _ in range(_MAX_EXCHANGES):
        exchanged_M = _best_exchange(posterior, region, k_M)
        if exchanged_M is None:
            break
        k_M = fill(posterior, region, exchanged_M)
    return k_M


def _best_exchange(posterior: Posterior, region: Region, k_M: Ints) -> Ints | None:
    """Make the exchange that gains most, or if there is none, one that gains nothing and favours an earlier policy.

    Return None if there is no such exchange.
    """
    miss_C = np.exp(posterior.log_miss_of_all(k_M)) * posterior.weight_C
    miss = float(miss_C.sum())
    out_NMM, in_NMM = _moves(region, k_M)
    miss_NMM = np.array([_exchanged_miss(posterior, k_M, miss_C, *move) for move in zip(out_NMM, in_NMM, strict=True)])
    allowed_NMM = np.array([_allowed(region, k_M, *move) for move in zip(out_NMM, in_NMM, strict=True)])
    is_better_NMM = miss_NMM < miss - _IMPROVEMENT
    favours_earlier_NMM = np.tri(len(k_M), k=-1, dtype=bool) & (np.abs(miss_NMM - miss) <= _NOISE * miss)
    for good_NMM in (is_better_NMM & allowed_NMM, favours_earlier_NMM & allowed_NMM):
        if good_NMM.any():
            move, r, a = np.unravel_index(int(np.where(good_NMM, miss_NMM, np.inf).argmin()), miss_NMM.shape)
            exchanged_M = k_M.copy()
            exchanged_M[r] -= out_NMM[move, r, a]
            exchanged_M[a] += in_NMM[move, r, a]
            return exchanged_M
    return None


def _moves(region: Region, k_M: Ints) -> tuple[Ints, Ints]:
    """Return the numbers of samples given up and of samples gained for every pair of policies, `[N, M, M]` each."""
    cost_out_M1, cost_in_1M, left = region.cost_M[:, None], region.cost_M[None, :], region.left(k_M)
    ones_MM = np.ones((len(k_M),) * 2, np.int64)
    if np.ptp(region.cost_M) == 0:
        return ones_MM[None], ones_MM[None]
    room_1M = (region.upper_M - k_M)[None, :]
    as_many_as_fit_MM = np.minimum(np.floor((left + cost_out_M1) / cost_in_1M + 1e-9).astype(np.int64), room_1M)
    as_many_as_needed_MM = np.maximum(1, np.ceil((cost_in_1M - left) / cost_out_M1 - 1e-9).astype(np.int64))
    return np.array([ones_MM, as_many_as_needed_MM]), np.array([as_many_as_fit_MM, ones_MM])


def _allowed(region: Region, k_M: Ints, out_MM: Ints, in_MM: Ints) -> Bools:
    left_MM = region.left(k_M) + out_MM * region.cost_M[:, None] - in_MM * region.cost_M
    policies_MM = (k_M > 0).sum() - (k_M[:, None] == out_MM) + (k_M == 0)
    return (
        (k_M[:, None] - out_MM >= region.lower_M[:, None])
        & (k_M + in_MM <= region.upper_M)
        & (in_MM > 0)
        & (left_MM >= -1e-9 * region.total)
        & (policies_MM >= region.min_policies)
        & ~np.eye(len(k_M), dtype=bool)
    )


def _exchanged_miss(posterior: Posterior, k_M: Ints, miss_C: Floats, out_MM: Ints, in_MM: Ints) -> Floats:
    """Return the chance that all samples fail after each exchange, `[M, M]`, from that of each column before.

    Entries of exchanges that are not allowed are meaningless.
    """
    one_out_MC = miss_C / posterior.next_miss(np.maximum(k_M - 1, 0))
    one_in_MC = posterior.next_miss(k_M)
    miss_MM = one_out_MC @ one_in_MC.T
    if max(out_MM.max(), in_MM.max()) <= 1:
        return miss_MM
    log_miss_MC = posterior.log_miss(k_M)
    for r, in_M in enumerate(in_MM):
        if (in_M > 1).any():
            miss_MM[r] = np.exp(posterior.log_miss(k_M + np.maximum(in_M, 0)) - log_miss_MC) @ one_out_MC[r]
    for a, out_M in enumerate(out_MM.T):
        if (out_M > 1).any():
            fewer_MC = posterior.log_miss(np.maximum(k_M - out_M, 0)) - log_miss_MC
            miss_MM[:, a] = np.exp(fewer_MC) @ (miss_C * one_in_MC[a])
    return miss_MM
