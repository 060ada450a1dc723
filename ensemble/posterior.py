"""What is believed about solve rates after the outcomes: one Beta distribution per problem and policy, independent.

A table with c = 0 of n = 10 does not say that a policy never solves a problem; choosing as if it did would put all
samples on what has been lucky so far. Choosing therefore rests on beliefs, reporting never does (`pass_at_k`). Axes:
`M` policies, `P` problems.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import betaln, digamma

from ensemble.pass_at_k import Floats, Ints

_SHAPE_BOUNDS = (1e-3, 1e3)
"""A prior is kept proper: where all rates are equal the likelihood has no maximum."""


@dataclass(frozen=True)
class Posterior:
    """Independent Beta beliefs about solve rates."""

    a_MP: Floats
    """`[M, P]` first shape: prior successes and accepted samples."""
    b_MP: Floats
    """`[M, P]` second shape: prior failures and failed samples."""
    weight_P: Floats
    """`[P]` share of the problems that this column stands for; sums to 1."""
    column_P: Ints
    """Column of each problem that these beliefs were made from, of any number."""

    @classmethod
    def of(cls, num_samples_MP: Ints, num_correct_MP: Ints) -> Self:
        """Update a prior per policy, fitted to its own counts (`fit_prior`); n = 0 is allowed and leaves the prior.

        Problems with the same counts everywhere become one column.
        """
        cells_KP = np.concatenate([num_samples_MP, num_correct_MP])
        unique_KP, column_P, count_P = np.unique(cells_KP, axis=1, return_inverse=True, return_counts=True)
        n_MP, c_MP = np.split(unique_KP.astype(np.float64), 2)
        prior_M2 = np.array([fit_prior(n_P, c_P, count_P) for n_P, c_P in zip(n_MP, c_MP, strict=True)])
        a_MP, b_MP = prior_M2[:, :1] + c_MP, prior_M2[:, 1:] + n_MP - c_MP
        return cls(a_MP, b_MP, count_P / count_P.sum(), column_P.ravel())

    def log_miss(self, k_M: ArrayLike) -> Floats:
        """`[M, P]` log E[(1 - p)^k], k real and ≥ 0, one per policy: log B(a, b + k) - log B(a, b)."""
        k_M1 = np.asarray(k_M, np.float64)[:, None]
        return betaln(self.a_MP, self.b_MP + k_M1) - betaln(self.a_MP, self.b_MP)

    def coverage(self, k_M: ArrayLike) -> float:
        """Expected coverage of an allocation: 1 - mean over problems of Π_j E[(1 - p_j)^{k_j}].

        Concave in k, and k may be real (statistics of the relaxation rest on this).
        """
        return float(-np.expm1(self.log_miss(k_M).sum(axis=0)) @ self.weight_P)

    def covered(self, allocations_CM: Ints) -> Floats:
        """`[C, P]` expected coverage of each column under each of many allocations."""
        log_miss_CP = np.zeros((len(allocations_CM), self.a_MP.shape[1]))
        for a_P, b_P, k_C in zip(self.a_MP, self.b_MP, allocations_CM.T, strict=True):
            nothing_P = betaln(a_P, b_P)
            for k in np.unique(k_C[k_C > 0]):
                log_miss_CP[k_C == k] += betaln(a_P, b_P + k) - nothing_P
        return -np.expm1(log_miss_CP)


def fit_prior(num_samples_P: Floats, num_correct_P: Floats, count_P: Ints) -> tuple[float, float]:
    """Shapes (a, b) of the Beta prior under which the counts of one policy are most likely (beta-binomial likelihood).

    Args:
        num_samples_P: n per problem; problems with n = 0 say nothing.
        num_correct_P: c per problem.
        count_P: how many problems have these counts.
    """
    seen_P = num_samples_P > 0
    n, c, count = num_samples_P[seen_P], num_correct_P[seen_P], count_P[seen_P]

    def loss(log_shapes: Floats) -> tuple[float, Floats]:
        a, b = np.exp(log_shapes)
        value = count @ (betaln(a + c, b + n - c) - betaln(a, b))
        both = digamma(a + b + n) - digamma(a + b)
        slope_a = count @ (digamma(a + c) - digamma(a) - both)
        slope_b = count @ (digamma(b + n - c) - digamma(b) - both)
        return -value, -np.array([a * slope_a, b * slope_b])

    bounds = [tuple(np.log(_SHAPE_BOUNDS))] * 2
    a, b = np.exp(minimize(loss, np.log([0.5, 0.5]), jac=True, method="L-BFGS-B", bounds=bounds).x)
    return float(a), float(b)
