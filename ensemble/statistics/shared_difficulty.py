"""How solve rates vary over problems and policies: a prior that all policies share, fitted to a table of counts.

Problems that are hard for one policy are hard for others, and policies of one kind find the same problems hard. Beliefs
that know only one policy at a time forget this: they expect that a second policy solves half of what the first never
did, and promise gains that do not exist. Here each problem has two hidden coordinates, a difficulty and a contrast, and
lies at one node of a grid over them. At node g, the solve rate of policy j follows

    Beta(s_j μ_jg, s_j (1 - μ_jg)),    logit μ_jg = β_j0 + β_j1 difficulty_g + β_j2 contrast_g,

independently of the other policies: s_j says how far rates stray from what the node predicts. So the table decides how
much is shared. With small β_j1, β_j2 and s_j policies are independent; with large ones problems differ in the same way
for all. One more node holds problems that no policy ever solves. How many problems lie at each node is free, but for a
few pseudo-counts of a normal distribution, since the far ends of difficulty decide what large budgets solve.

All numbers are fitted by expectation-maximisation, with one Newton step per policy and round. More rounds raise the
likelihood, but change forecasts on real tables by less than 0.2 points. Axes: `M` policies, `P` problems, `G` nodes,
`T` numbers below a count, `X` coefficients (three β and log s).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.special import expit, gammaln

from alphamix.ensemble.arrays import Floats, Ints

_ROUNDS = 6
_MOST_PROBLEMS = 300
"""Problems that the prior is fitted to. It has few numbers, and its fit would take most of the time on large tables."""
_PSEUDO_PROBLEMS = 10.0
"""Weight, in problems, of the normal distribution over nodes."""
_UNSOLVABLE = 0.05
"""Share of unsolvable problems among the pseudo-counts."""
_NEVER = 1e-9
"""First shape of the rates at the unsolvable node."""
_DIFFICULTIES = np.linspace(-4.2, 3.0, 9)
_CONTRASTS = np.array([-1.5, 0.0, 1.5])
"""Coordinates of the nodes; forecasts and choices on real tables do not change with finer grids."""
_NOISE = 1e-9
"""Variance of logits below which policies do not differ."""
_CENTRE_X = np.array([0.0, 1.0, 0.0, 1.0])
_SPREAD_X = np.array([5.0, 3.0, 2.0, 1.5])
"""Mean and standard deviation of a weak normal prior of β and log s, for what the table says nothing about."""
_LOG_SIZES = (-3.0, 6.0)
_LONGEST_STEP = 1.0
"""Largest change of a coefficient in one step."""


@dataclass(frozen=True)
class SharedDifficulty:
    """Prior of the solve rates of all policies on one problem: a mixture over nodes of independent Betas."""

    a_MG: Floats
    """`[M, G]` first shape of each policy's rate at each node."""
    b_MG: Floats
    """`[M, G]` second shape."""
    weight_G: Floats
    """`[G]` share of problems at each node; sums to 1."""
    contrast_M: Floats
    """`[M]` change of each policy's log odds per unit of contrast."""

    def nodes_of(self, num_samples_MP: Ints, num_correct_MP: Ints) -> Floats:
        """Return the chance that each problem lies at each node given its counts, `[P, G]`."""
        return _responsibilities(self, _counts(num_samples_MP, num_correct_MP))

    @property
    def sharing_M(self) -> Floats:
        """`[M]` share of the variance of each policy's rates that the nodes explain: 0 where nothing is shared."""
        mean_MG = self.a_MG / (self.a_MG + self.b_MG)
        within_M = (mean_MG * (1 - mean_MG) / (self.a_MG + self.b_MG + 1)) @ self.weight_G
        between_M = mean_MG**2 @ self.weight_G - (mean_MG @ self.weight_G) ** 2
        return between_M / (between_M + within_M)


def fit(num_samples_MP: Ints, num_correct_MP: Ints) -> SharedDifficulty:
    """Fit the prior to counts. The order of problems does not matter, and cells with n = 0 say nothing."""
    n_MP, c_MP = _representative(num_samples_MP, num_correct_MP)
    x_GX, base_G = _grid()
    coefficient_MX = _start(n_MP, c_MP)
    counts_M = _counts(n_MP, c_MP)
    prior = _prior(coefficient_MX, x_GX, base_G / base_G.sum())
    for _ in range(_ROUNDS):
        node_PG = _responsibilities(prior, counts_M)
        weight_G = node_PG.sum(axis=0) + base_G
        coefficient_MX = _improved(coefficient_MX, x_GX, counts_M, node_PG[:, :-1])
        prior = _prior(coefficient_MX, x_GX, weight_G / weight_G.sum())
    return prior


def _representative(n_MP: Ints, c_MP: Ints) -> tuple[Ints, Ints]:
    """Return evenly spaced problems of the table in an order that depends only on the counts."""
    order = np.lexsort(np.concatenate([c_MP, n_MP, (c_MP / np.maximum(n_MP, 1)).sum(axis=0)[None]]))
    if len(order) > _MOST_PROBLEMS:
        order = order[np.linspace(0, len(order) - 1, _MOST_PROBLEMS).round().astype(np.int64)]
    return n_MP[:, order], c_MP[:, order]


def _grid() -> tuple[Floats, Floats]:
    """Return the coordinates of the nodes with a leading 1, `[G - 1, 3]`, and pseudo-counts of all nodes, `[G]`."""
    difficulty_G, contrast_G = (axis.ravel() for axis in np.meshgrid(_DIFFICULTIES, _CONTRASTS, indexing="ij"))
    density_G = np.exp(-(difficulty_G**2 + contrast_G**2) / 2)
    base_G = np.append((1 - _UNSOLVABLE) * density_G / density_G.sum(), _UNSOLVABLE)
    return np.column_stack([np.ones_like(difficulty_G), difficulty_G, contrast_G]), _PSEUDO_PROBLEMS * base_G


def _start(n_MP: Ints, c_MP: Ints) -> Floats:
    """Return coefficients to start from: equal slopes, and contrasts along what varies most beside difficulty."""
    rate_M = (c_MP.sum(axis=1) + 0.5) / (n_MP.sum(axis=1) + 1)
    logit_MP = np.log((c_MP + 0.5) / (n_MP - c_MP + 0.5))
    apart_MP = logit_MP - logit_MP.mean(axis=0)
    apart_MP -= apart_MP.mean(axis=1, keepdims=True)
    # The sign of a contrast means nothing, but policies that differ in nothing must start with the same contrast.
    variance_M, vector_MM = np.linalg.eigh(apart_MP @ apart_MP.T)
    contrast_M = vector_MM[:, -1] / np.abs(vector_MM[:, -1]).max() if variance_M[-1] > _NOISE else np.zeros(len(rate_M))
    coefficient_MX = np.tile([0.0, 1.5, 0.0, 1.0], (len(n_MP), 1))
    coefficient_MX[:, 0] = 1.5 * np.log(rate_M / (1 - rate_M))
    coefficient_MX[:, 2] = 0.8 * contrast_M
    return coefficient_MX


def _prior(coefficient_MX: Floats, x_GX: Floats, weight_G: Floats) -> SharedDifficulty:
    mean_MG = expit(coefficient_MX[:, :-1] @ x_GX.T)
    size_M1 = np.exp(coefficient_MX[:, -1:])
    never_M1 = np.full((len(size_M1), 1), _NEVER)
    a_MG = np.concatenate([size_M1 * mean_MG, never_M1], axis=1)
    b_MG = np.concatenate([size_M1 * (1 - mean_MG), np.ones_like(never_M1)], axis=1)
    return SharedDifficulty(a_MG, b_MG, weight_G, coefficient_MX[:, 2].copy())


class _Distinct:
    """Counts of one policy, of which equal ones are evaluated once."""

    def __init__(self, count_P: Ints) -> None:
        num_problems_T = np.bincount(count_P)
        self._count_U = np.flatnonzero(num_problems_T)
        num_distinct_T = (num_problems_T > 0).cumsum()
        self._place_P = num_distinct_T[count_P] - 1
        self._above_T = num_distinct_T[:-1]
        """The first distinct count above each t below the largest."""
        self._first_U = (num_problems_T.cumsum() - num_problems_T)[self._count_U]

    @cached_property
    def _order_P(self) -> Ints:
        """The problems in ascending order of counts, in which `_first_U` is the first one with each count."""
        return np.argsort(self._place_P, kind="stable")

    def log_rising(self, shape_G: Floats) -> Floats:
        """Return log of shape·(shape + 1)…(shape + count - 1), `[P, G]`."""
        return (gammaln(shape_G + self._count_U[:, None]) - gammaln(shape_G))[self._place_P]

    def sums(self, shape_G: Floats, weight_PG: Floats) -> tuple[Floats, Floats]:
        """Return the first two derivatives of the weighted log by the shape, the second negated, `[G]` each.

        They are the sums over t of weight / (shape + t) and of weight / (shape + t)², where the weight is that of the
        problems with counts above t.
        """
        weight_UG = np.add.reduceat(weight_PG[self._order_P], self._first_U, axis=0)
        weight_TG = weight_UG[::-1].cumsum(axis=0)[::-1][self._above_T]
        reciprocal_TG = 1 / (shape_G + np.arange(len(self._above_T))[:, None])
        weight_TG *= reciprocal_TG
        return weight_TG.sum(axis=0), np.einsum("tg,tg->g", weight_TG, reciprocal_TG)


class _Counts(NamedTuple):
    """Counts of one policy on each problem."""

    accepted: _Distinct
    failed: _Distinct
    drawn: _Distinct


def _counts(n_MP: Ints, c_MP: Ints) -> list[_Counts]:
    return [_Counts(_Distinct(c_P), _Distinct(n_P - c_P), _Distinct(n_P)) for n_P, c_P in zip(n_MP, c_MP, strict=True)]


def _responsibilities(prior: SharedDifficulty, counts_M: Sequence[_Counts]) -> Floats:
    """Return the chance of each problem to lie at each node, `[P, G]`, from the beta-binomial likelihood."""
    log_PG: Floats = np.log(prior.weight_G)
    for a_G, b_G, counts in zip(prior.a_MG, prior.b_MG, counts_M, strict=True):
        log_PG = log_PG + counts.accepted.log_rising(a_G) + counts.failed.log_rising(b_G)
        log_PG -= counts.drawn.log_rising(a_G + b_G)
    chance_PG = np.exp(log_PG - log_PG.max(axis=1, keepdims=True))
    return chance_PG / chance_PG.sum(axis=1, keepdims=True)


def _improved(coefficient_MX: Floats, x_GX: Floats, counts_M: Sequence[_Counts], node_PG: Floats) -> Floats:
    """Return the coefficients after one Newton step of limited length for each policy."""
    gradient_MX, hessian_MXX = _derivatives(coefficient_MX, x_GX, counts_M, node_PG)
    eigenvalue_MX, vector_MXX = np.linalg.eigh(hessian_MXX)
    # Where the likelihood is not concave, the size of the curvature still gives a sensible length.
    along_MX = np.einsum("mxy,mx->my", vector_MXX, gradient_MX) / np.maximum(np.abs(eigenvalue_MX), 1e-3)
    step_MX = np.einsum("mxy,my->mx", vector_MXX, along_MX)
    longest_M1 = np.abs(step_MX).max(axis=1, keepdims=True)
    moved_MX = coefficient_MX + step_MX * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest_M1, 1e-12))
    moved_MX[:, -1] = np.clip(moved_MX[:, -1], *_LOG_SIZES)
    return moved_MX


def _derivatives(
    coefficient_MX: Floats, x_GX: Floats, counts_M: Sequence[_Counts], node_PG: Floats
) -> tuple[Floats, Floats]:
    """Return the gradients of the log likelihood, and matrices near its negative Hessians (without the term in μ'')."""
    mean_MG, size_M1 = expit(coefficient_MX[:, :-1] @ x_GX.T), np.exp(coefficient_MX[:, -1:])
    a_MG, b_MG, slope_MG = size_M1 * mean_MG, size_M1 * (1 - mean_MG), size_M1 * mean_MG * (1 - mean_MG)
    node_P1 = node_PG.sum(axis=1, keepdims=True)
    of_policy_M = zip(a_MG, b_MG, size_M1, counts_M, strict=True)
    sums_M = [
        (*counts.accepted.sums(a_G, node_PG), *counts.failed.sums(b_G, node_PG), *counts.drawn.sums(size_1, node_P1))
        for a_G, b_G, size_1, counts in of_policy_M
    ]
    first_a_MG, second_a_MG, first_b_MG, second_b_MG, first_s_M1, second_s_M1 = map(np.array, zip(*sums_M, strict=True))
    tilt_MG = first_a_MG - first_b_MG
    by_size_M1 = (first_a_MG * a_MG + first_b_MG * b_MG).sum(axis=1, keepdims=True) - first_s_M1 * size_M1
    curvature_MG, mixed_MG = (
        (second_a_MG + second_b_MG) * slope_MG**2,
        second_a_MG * a_MG - second_b_MG * b_MG - tilt_MG,
    )
    of_size_MG = second_a_MG * a_MG**2 + second_b_MG * b_MG**2
    num_coefficients = coefficient_MX.shape[1]
    hessian_MXX = np.empty((len(coefficient_MX), num_coefficients, num_coefficients))
    hessian_MXX[:, :-1, :-1] = (x_GX.T * curvature_MG[:, None]) @ x_GX
    hessian_MXX[:, :-1, -1] = hessian_MXX[:, -1, :-1] = (mixed_MG * slope_MG) @ x_GX
    hessian_MXX[:, -1, -1] = of_size_MG.sum(axis=1) - (second_s_M1 * size_M1**2 + by_size_M1)[:, 0]
    gradient_MX = np.concatenate([(tilt_MG * slope_MG) @ x_GX, by_size_M1], axis=1)
    return (
        gradient_MX - (coefficient_MX - _CENTRE_X) / _SPREAD_X**2,
        hessian_MXX + np.diag(1 / _SPREAD_X**2),
    )
