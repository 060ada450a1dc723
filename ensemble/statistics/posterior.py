"""Beliefs about solve rates given the outcomes, as a mixture of independent Beta distributions for each problem.

A cell with c = 0 of n = 10 does not mean that the policy never solves the problem, and choosing as if it did would put
all samples on the policies that were lucky so far. So choices rest on beliefs; reports never do (`pass_at_k`). What one
policy solved says something about others, and `shared_difficulty` says how much: a problem lies at one of several
nodes, and the belief has a column for each node where its counts may have come from. Axes: `M` policies, `P` problems,
`C` columns, `U` distinct pairs of shapes, `G` nodes, `N` allocations, `K` numbers of samples.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.statistics.shared_difficulty import SharedDifficulty, fit

_NEGLIGIBLE = 1e-3
"""Chance of a node, relative to the likeliest of its problem, below which it gets no column."""


@dataclass(frozen=True)
class Posterior:
    """Beliefs about solve rates: in each column, those of all policies are independent Beta distributions."""

    a_MC: Floats
    """`[M, C]` first shape: prior successes and accepted samples."""
    b_MC: Floats
    """`[M, C]` second shape: prior failures and failed samples."""
    weight_C: Floats
    """`[C]` share of all problems that each column stands for; sums to 1."""
    problem_C: Ints | None = None
    """`[C]` index of the problem of each column, in ascending order; None where each column is a problem."""

    @classmethod
    def of(cls, num_samples_MP: Ints, num_correct_MP: Ints, prior: SharedDifficulty | None = None) -> Self:
        """Update a prior with counts; by default the prior that is fitted to them. A cell with n = 0 says nothing."""
        prior = prior or fit(num_samples_MP, num_correct_MP)
        node_PG = prior.nodes_of(num_samples_MP, num_correct_MP)
        problem_C, node_C = np.nonzero(node_PG > _NEGLIGIBLE * node_PG.max(axis=1, keepdims=True))
        chance_C = node_PG[problem_C, node_C]
        weight_C = chance_C / np.bincount(problem_C, chance_C)[problem_C] / len(node_PG)
        a_MC = prior.a_MG[:, node_C] + num_correct_MP[:, problem_C]
        b_MC = prior.b_MG[:, node_C] + (num_samples_MP - num_correct_MP)[:, problem_C]
        return cls(a_MC, b_MC, weight_C, problem_C)

    def log_miss(self, k_M: ArrayLike) -> Floats:
        """Return log E[(1 - p)^k] = log B(a, b + k) - log B(a, b), `[M, C]`; k is real, one per policy or one for all.

        E[(1 - p)^k] is the chance that k samples all fail, and its logarithm is convex in k.
        """
        size_MU, b_MU, unique_MC, start_MU = self._distinct
        k_M1 = np.asarray(k_M, np.float64).reshape(-1, 1)
        return np.take_along_axis(_log_ratio(b_MU + k_M1, size_MU + k_M1) - start_MU, unique_MC, axis=1)

    def log_miss_of_all(self, k_M: ArrayLike) -> Floats:
        """Return the log of the chance that all samples of an allocation fail, `[C]`."""
        k_M = np.broadcast_to(np.asarray(k_M, np.float64), len(self.a_MC))
        size_MU, b_MU, unique_MC, start_MU = self._distinct
        total_C = np.zeros(len(self.weight_C))
        for m in np.flatnonzero(k_M):
            total_C += (_log_ratio(b_MU[m] + k_M[m], size_MU[m] + k_M[m]) - start_MU[m])[unique_MC[m]]
        return np.minimum(total_C, 0.0)  # rounding noise of large shapes

    def next_miss(self, k_M: ArrayLike) -> Floats:
        """Return the chance that one more sample fails after k have failed, (b + k) / (a + b + k), `[M, C]`."""
        b_MC = self.b_MC + np.asarray(k_M, np.float64).reshape(-1, 1)
        return b_MC / (self.a_MC + b_MC)

    def coverage(self, k_M: ArrayLike) -> float:
        """Return the expected coverage of an allocation: 1 - mean over columns of Π_j E[(1 - p_j)^{k_j}].

        It is concave in k, which may be real; the relaxation of the optimiser rests on this.
        """
        return float(-np.expm1(self.log_miss_of_all(k_M)) @ self.weight_C)

    def covered(self, allocations_NM: Ints) -> Floats:
        """Return the expected coverage of each problem under each allocation, `[N, P]`.

        Its mean over problems is `coverage` where problems weigh the same.
        """
        log_miss_NC = np.zeros((len(allocations_NM), len(self.weight_C)))
        size_MU, b_MU, unique_MC, start_MU = self._distinct
        for m, k_N in enumerate(allocations_NM.T):
            # Allocations that are compared differ little, so that few numbers of samples occur.
            k_K, unique_N = np.unique(k_N, return_inverse=True)
            log_miss_KU = _log_ratio(b_MU[m] + k_K[:, None], size_MU[m] + k_K[:, None]) - start_MU[m]
            used_N = np.flatnonzero(k_N)
            log_miss_NC[used_N] += log_miss_KU[unique_N[used_N]][:, unique_MC[m]]
        covered_NC = -np.expm1(np.minimum(log_miss_NC, 0.0))
        if self.problem_C is None:
            return covered_NC
        first_P = np.searchsorted(self.problem_C, np.arange(int(self.problem_C[-1]) + 1))
        weight_P = np.add.reduceat(self.weight_C, first_P)
        return np.add.reduceat(self.weight_C * covered_NC, first_P, axis=1) / weight_P

    def of_policies(self, member_M: Bools) -> Self:
        """Return the beliefs about some of the policies."""
        some = replace(self, a_MC=self.a_MC[member_M], b_MC=self.b_MC[member_M])
        some.__dict__["_distinct"] = tuple(values_M[member_M] for values_M in self._distinct)  # as if it were computed
        return some

    def thinned(self, num_columns: int) -> Self:
        """Return at most this many columns that stand for all, spread over the weights, with equal weights."""
        if len(self.weight_C) <= num_columns:
            return self
        # Even steps through columns in order of difficulty take easy and hard ones in proportion. In the order of the
        # table they would not where difficulty alternates, as it does from task to task of a contest.
        order_C = self.log_miss_of_all(1).argsort(kind="stable")
        at = (np.arange(num_columns) + 0.5) / num_columns * self.weight_C.sum()
        column_C = order_C[np.searchsorted(self.weight_C[order_C].cumsum(), at)]
        return replace(
            self,
            a_MC=self.a_MC[:, column_C],
            b_MC=self.b_MC[:, column_C],
            weight_C=np.full(num_columns, 1 / num_columns),
            problem_C=None,
        )

    @cached_property
    def _distinct(self) -> tuple[Floats, Floats, Ints, Floats]:
        """a + b and b of the distinct beliefs, `[M, U]`, the index of that of each column, `[M, C]`, and their ratio.

        Counts repeat from problem to problem, and evaluating special functions only once for each saves most of the
        work.
        """
        # The two shapes form one complex number, so that `np.unique` sees pairs.
        rows = [np.unique(shapes_C, return_inverse=True) for shapes_C in self.a_MC + 1j * self.b_MC]
        shapes_MU = np.ones((len(rows), max(len(shapes_U) for shapes_U, _ in rows)), np.complex128) * (1 + 1j)
        for row_U, (shapes_U, _) in zip(shapes_MU, rows, strict=True):
            row_U[: len(shapes_U)] = shapes_U
        size_MU, b_MU = shapes_MU.real + shapes_MU.imag, shapes_MU.imag.copy()
        return size_MU, b_MU, np.array([unique_C for _, unique_C in rows]), _log_ratio(b_MU, size_MU)


def _log_ratio(b: Floats, size: Floats) -> Floats:
    """Return log Γ(b) - log Γ(a + b), which is log B(a, b) less a term in a alone, and takes a third of the time."""
    return gammaln(b) - gammaln(size)
