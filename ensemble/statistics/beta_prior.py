"""The Beta prior of one policy's solve rates, fitted to its counts alone (empirical Bayes).

`shared_difficulty` has the prior that policies share. Axes: `P` problems, `T` numbers below a count.
"""

from math import log

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from alphamix.ensemble.arrays import Floats, Ints

_BOUNDS = [(-log(1e6), log(1e6)), (log(1e-2), log(1e3))]
"""Bounds of the log odds of a prior's mean and of its log size, a + b; where all rates are equal, no size is the most
likely."""


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
        (log_a, slope_a), (log_b, slope_b), (log_ab, slope_ab) = (
            _rising(a, accepted_T),
            _rising(b, failed_T),
            _rising(a + b, drawn_T),
        )
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
