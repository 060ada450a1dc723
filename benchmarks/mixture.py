"""The best mixture of 20 policies over 1,000 problems, compared with a conic solver behind cvxpy on its relaxation.

The solver handles relaxations only; whole numbers and their proof are on our side alone. At known solve rates both
sides relax the same problem. Under the posterior, of one policy at a time, the solver gets the relaxation behind our
bound: piecewise linear log misses with one variable for each sample of each policy.
"""

from dataclasses import replace
from functools import cached_property
from typing import Any

import cvxpy
import numpy as np
from measure import Row, compare, cpu_s
from numpy.typing import ArrayLike
from scipy.special import ndtr
from scipy.stats import beta

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import best_allocation, good_allocation
from alphamix.ensemble.mixture.optimiser.relaxation import Region, relax
from alphamix.ensemble.statistics.posterior import Posterior

_POLICIES, _PROBLEMS, _SAMPLES = 20, 1000, 250
_BUDGET, _SMALL_BUDGET = 250, 20
_SIZE = f"{_POLICIES} policies, {_PROBLEMS:,} problems"
_PRIOR = 0.2, 1.0
_ROUNDS, _CALLS = 3, 10


class Rates(Posterior):
    """Known solve rates a / (a + b), in place of beliefs, which change with each failure."""

    @cached_property
    def log_miss_MC(self) -> Floats:
        """`[M, C]` log(1 - p)."""
        return np.log(self.next_miss(0))

    def log_miss_of_all(self, k_M: ArrayLike) -> Floats:
        """`[C]` Σ k log(1 - p)."""
        return np.asarray(k_M, np.float64) @ self.log_miss_MC

    def next_miss(self, k_M: ArrayLike) -> Floats:
        """`[M, C]` 1 - p."""
        return self.b_MC / (self.a_MC + self.b_MC)


def rows() -> list[Row]:
    """Compare on random counts of policies that find the same problems hard."""
    n_MP, c_MP = _counts()
    weight_P = np.full(_PROBLEMS, 1 / _PROBLEMS)
    # The solver fails on the columns of the joint posterior, of which a problem has several.
    solved_MP, failed_MP = c_MP.astype(np.float64), (n_MP - c_MP).astype(np.float64)
    posterior = Posterior(_PRIOR[0] + solved_MP, _PRIOR[1] + failed_MP, weight_P)
    return [_at_known_rates(posterior), _under_posterior(posterior), _proven(n_MP, c_MP), _cross_fitted(n_MP, c_MP)]


def _counts() -> tuple[Ints, Ints]:
    """Draw rates from the prior, with ranks that are correlated between policies."""
    rng = np.random.default_rng(0)
    normal_MP = 0.8 * rng.normal(size=_PROBLEMS) + 0.6 * rng.normal(size=(_POLICIES, _PROBLEMS))
    n_MP = np.full((_POLICIES, _PROBLEMS), _SAMPLES)
    return n_MP, rng.binomial(n_MP, beta.ppf(ndtr(normal_MP), *_PRIOR))


def _at_known_rates(posterior: Posterior) -> Row:
    miss_MC = posterior.next_miss(0)
    rates = Rates(1 - miss_MC, miss_MC, posterior.weight_C)
    region = Region(np.zeros(_POLICIES, int), np.full(_POLICIES, _BUDGET), np.ones(_POLICIES), float(_BUDGET))

    def peer() -> float:
        return _solve(rates.log_miss_MC, rates.weight_C, _BUDGET, most=_BUDGET)

    what = f"relaxation of the best mixture at known rates, {_SIZE}, budget {_BUDGET}, against Clarabel behind cvxpy"
    bounds = f"bounds {relax(rates, region).upper_bound:.8f} and {peer():.8f}"

    def ours() -> None:
        for _ in range(_CALLS):
            relax(rates, region)

    def peers() -> None:
        for _ in range(_CALLS):
            peer()

    row = compare(f"{what} ({bounds})", "bound", _CALLS, ours, peers)
    return replace(row, target="≥ 20 ×")


def _under_posterior(posterior: Posterior) -> Row:
    """Compare at a smaller budget: at 250 the solver has 5,000 variables and takes many minutes."""
    budget = Budget.of_samples(_SMALL_BUDGET, _POLICIES)
    log_next_KMP = np.log([posterior.next_miss(k) for k in range(_SMALL_BUDGET)])

    def peer() -> float:
        return _solve(log_next_KMP.reshape(-1, len(posterior.weight_C)), posterior.weight_C, _SMALL_BUDGET, most=1)

    bound = best_allocation(posterior, budget).certificate.upper_bound
    what = f"best mixture under the posterior with its bound, {_SIZE}, budget {_SMALL_BUDGET}"
    peers = "against the relaxation alone by Clarabel behind cvxpy"
    bounds = f"bounds {bound:.8f} and {peer():.8f}"
    row = compare(f"{what}, {peers} ({bounds})", "mixture", 1, lambda: best_allocation(posterior, budget), peer)
    return replace(row, target="≥ 20 ×")


def _solve(log_miss_VP: Floats, weight_P: Floats, budget: int, most: int) -> float:
    """Return the coverage of the relaxed optimum: variables in [0, most] that sum to the budget; linear log miss."""
    k = cvxpy.Variable(len(log_miss_VP))
    failed = weight_P @ cvxpy.exp(log_miss_VP.T @ k)
    limits: list[Any] = [k >= 0, k <= most, cvxpy.sum(k) <= budget]
    failed_share: Any = cvxpy.Problem(cvxpy.Minimize(failed), limits).solve(solver=cvxpy.CLARABEL)
    return 1 - float(failed_share)


def _proven(n_MP: Ints, c_MP: Ints) -> Row:
    budget = Budget.of_samples(_BUDGET, _POLICIES)
    gap = best_allocation(Posterior.of(n_MP, c_MP), budget).certificate.gap
    spent_s = min(cpu_s(lambda: best_allocation(Posterior.of(n_MP, c_MP), budget)) for _ in range(_ROUNDS))
    what = f"best mixture from a table of counts, {_SIZE}, budget {_BUDGET}, with branch and bound"
    return Row(what, f"{spent_s:.2f} s", "", f"gap {gap:.1g}", "< 2 s")


def _cross_fitted(n_MP: Ints, c_MP: Ints) -> Row:
    kept_P = np.arange(_PROBLEMS) % 10 > 0
    budget = Budget.of_samples(_BUDGET, _POLICIES)

    def fold() -> float:
        return good_allocation(Posterior.of(n_MP[:, kept_P], c_MP[:, kept_P]), budget)[1]

    spent_s = min(cpu_s(fold) for _ in range(_ROUNDS))
    what = f"the same for one of ten folds, without proof, {_SIZE}"
    return Row(what, f"{1000 * spent_s:.0f} ms", "", f"coverage {fold():.6f}", "< 50 ms")
