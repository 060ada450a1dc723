"""Beliefs about solve rates given the outcomes: one independent Beta distribution per problem and policy.

A cell with c = 0 of n = 10 does not mean that the policy never solves the problem, and choosing as if it did would put
all samples on the policies that were lucky so far. So choices are made from beliefs, and reports never are
(`pass_at_k`). Axes: `M` policies, `P` problems, `U` distinct beliefs, `T` numbers below a count.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import betaln, expit

from alphamix.ensemble.arrays import Floats, Ints

_BOUNDS = [(-log(1e6), log(1e6)), (log(1e-2), log(1e3))]
"""Bounds of the log odds of a prior's mean and of its log size, a + b; where all rates are equal, the likelihood
has no maximum in the size."""


@dataclass(frozen=True)
class Posterior:
    """Independent Beta beliefs about solve rates."""

    a_MP: Floats
    """`[M, P]` first shape: prior successes and accepted samples."""
    b_MP: Floats
    """`[M, P]` second shape: prior failures and failed samples."""
    weight_P: Floats
    """`[P]` share of all problems that each column stands for; sums to 1."""

    @classmethod
    def of(cls, num_samples_MP: Ints, num_correct_MP: Ints, *, compress: bool = True) -> Self:
        """Update a prior per policy, fitted to its own counts (`fit_prior`); a cell with n = 0 keeps the prior.

        Problems with the same counts everywhere share one column. With `compress` off, the columns are the problems in
        their order.
        """
        cells_KP = np.concatenate([num_samples_MP, num_correct_MP])
        unique_KP, count_P = cells_KP, np.ones(cells_KP.shape[1], np.int64)
        if compress:
            unique_KP, count_P = np.unique(cells_KP, axis=1, return_counts=True)
        n_MP, c_MP = np.split(unique_KP.astype(np.float64), 2)
        prior_M2 = np.array([fit_prior(n_P, c_P, count_P) for n_P, c_P in zip(n_MP, c_MP, strict=True)])
        a_MP, b_MP = prior_M2[:, :1] + c_MP, prior_M2[:, 1:] + n_MP - c_MP
        return cls(a_MP, b_MP, count_P / count_P.sum())

    def log_miss(self, k_M: ArrayLike) -> Floats:
        """Return log E[(1 - p)^k] = log B(a, b + k) - log B(a, b), `[M, P]`; k is real, one per policy or one for all.

        E[(1 - p)^k] is the chance that k samples all fail, and its logarithm is convex in k.
        """
        a_MU, b_MU, unique_MP = self._distinct
        k_M1 = np.asarray(k_M, np.float64).reshape(-1, 1)
        return np.take_along_axis(betaln(a_MU, b_MU + k_M1) - betaln(a_MU, b_MU), unique_MP, axis=1)

    def next_miss(self, k_M: ArrayLike) -> Floats:
        """Return the chance that one more sample fails after k have failed, (b + k) / (a + b + k), `[M, P]`."""
        b_MP = self.b_MP + np.asarray(k_M, np.float64).reshape(-1, 1)
        return b_MP / (self.a_MP + b_MP)

    def coverage(self, k_M: ArrayLike) -> float:
        """Return the expected coverage of an allocation: 1 - mean over problems of Π_j E[(1 - p_j)^{k_j}].

        It is concave in k, which may be real. The relaxation of the optimiser relies on this.
        """
        return float(-np.expm1(self.log_miss(k_M).sum(axis=0)) @ self.weight_P)

    @cached_property
    def _distinct(self) -> tuple[Floats, Floats, Ints]:
        """Distinct beliefs of each policy, `[M, U]` per shape, and the index of the one each problem has, `[M, P]`.

        Counts repeat from problem to problem, and evaluating special functions only once for each saves most of the
        work.
        """
        # The two shapes form one complex number, so that `np.unique` sees pairs.
        rows = [np.unique(shapes_P, return_inverse=True) for shapes_P in self.a_MP + 1j * self.b_MP]
        shapes_MU = np.ones((len(rows), max(len(shapes_U) for shapes_U, _ in rows)), np.complex128) * (1 + 1j)
        for row_U, (shapes_U, _) in zip(shapes_MU, rows, strict=True):
            row_U[: len(shapes_U)] = shapes_U
        return shapes_MU.real.copy(), shapes_MU.imag.copy(), np.array([unique_P for _, unique_P in rows])


def fit_prior(num_samples_P: Floats, num_correct_P: Floats, count_P: Ints) -> tuple[float, float]:
    """Return the shapes (a, b) of the Beta prior under which the counts of one policy are most likely.

    Two more problems of one sample each, one accepted and one failed, are added with half the weight of others. So a
    policy that solved nothing on a handful of problems is not believed to solve nothing at all, and where there are
    many problems the two hardly count.

    The beta-binomial likelihood is a product of factors (a + t), (b + t) and 1 / (a + b + t) with whole t. Summing
    their logarithms needs no special functions, and loses no digits where the shapes are large.

    Args:
        num_samples_P: `[P]` n; problems with n = 0 carry no information.
        num_correct_P: `[P]` c.
        count_P: `[P]` number of problems with these counts.
    """
    n_P, c_P = np.append(num_samples_P, [1, 1]), np.append(num_correct_P, [0, 1])
    weight_P = np.append(count_P, [0.5, 0.5])
    accepted_T, failed_T, drawn_T = (_exceeding(values_P, weight_P) for values_P in (c_P, n_P - c_P, n_P))

    def loss(x: Floats) -> tuple[float, Floats]:
        a, b = _shapes(x)
        (log_a, slope_a), (log_b, slope_b) = _rising(a, accepted_T), _rising(b, failed_T)
        log_ab, slope_ab = _rising(a + b, drawn_T)
        down_a, down_b = a * (slope_ab - slope_a), b * (slope_ab - slope_b)
        mean = a / (a + b)
        return log_ab - log_a - log_b, np.array([down_a * (1 - mean) - down_b * mean, down_a + down_b])

    fit = minimize(loss, np.zeros(2), jac=True, method="SLSQP", bounds=_BOUNDS, options={"ftol": 1e-12})
    return _shapes(fit.x)


def _shapes(x: Floats) -> tuple[float, float]:
    """Return the shapes with these log odds of the mean and this log size, parameters that hardly interact."""
    mean, size = expit(x[0]), np.exp(x[1])
    return float(size * mean), float(size * expit(-x[0]))


def _exceeding(values_P: Floats, weight_P: Floats) -> Floats:
    """Return how many problems have a value above t, for t = 0, 1, …, `[T]`."""
    return np.bincount(values_P.astype(np.int64), weight_P)[:0:-1].cumsum()[::-1]


def _rising(shape: float, exceeding_T: Floats) -> tuple[float, float]:
    """Return the sum of log(shape + t) over problems and all t below their value, and its derivative by the shape."""
    shape_T = shape + np.arange(len(exceeding_T))
    return float(exceeding_T @ np.log(shape_T)), float(exceeding_T @ (1 / shape_T))
