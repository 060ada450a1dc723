"""A primal-dual interior-point method for a smooth convex function of few variables, in a box with one equation.

It is Mehrotra's predictor and corrector (Nocedal and Wright 2006, Numerical Optimization, section 16.6), with the
Hessian evaluated again at each step. There are a few dozen variables and their Hessian is one matrix product, so about
ten steps solve what takes first-order and quasi-Newton methods hundreds of evaluations. Nothing is proved here:
`relaxation` proves a bound from whatever point this returns. Axis: `V` variables.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dgetrf, dgetrs

from alphamix.ensemble.arrays import Floats

Derivatives = Callable[[Floats], tuple[Floats, Floats]]
"""Function that returns the gradient `[V]` and the Hessian `[V, V]` at a point."""

_MAX_STEPS = 60
FULL_PRECISION = 1e-13
"""Mean product of bounds and multipliers at which to stop: smaller ones are lost in rounding noise."""
_TO_BOUNDARY = 0.99
"""Part of the way to the nearest bound that a step may go, so that iterates stay strictly inside."""


def minimise(
    derivatives: Derivatives, price_V: Floats, total: float, complementarity: float = FULL_PRECISION
) -> Floats:
    """Minimise a convex function over 0 ≤ x ≤ 1 with price · x = total, and return the last iterate, `[V]`.

    The search stops where the mean product of bounds and multipliers is below `complementarity`.

    Prices must not all be 0, and some x strictly inside the box must meet the equation; so does the result.
    """
    # Prices, and below the gradients, are scaled to the order of 1, so that the tolerances above fit any problem.
    unit = float(np.abs(price_V).max())
    price_V, total = price_V / unit, total / unit
    at = _start(price_V, total)
    scale = 0.0
    for _ in range(_MAX_STEPS):
        if at.complementarity < complementarity:
            break
        gradient_V, hessian_VV = derivatives(at.x_V)
        scale = scale or float(np.abs(gradient_V).max()) or 1.0
        at = _step(at, gradient_V / scale, hessian_VV / scale, price_V, total)
    return at.x_V


class _Iterate(NamedTuple):
    """A point strictly inside the box, with multipliers of both bounds of each variable and of the equation.

    The distance 1 - x is stored beside x, since near 1 the difference would have no digits left.
    """

    x_V: Floats
    room_V: Floats
    low_V: Floats
    high_V: Floats
    multiplier: float

    @property
    def complementarity(self) -> float:
        return float(self.x_V @ self.low_V + self.room_V @ self.high_V) / (2 * len(self.x_V))

    def moved(self, change: "_Iterate") -> "_Iterate":
        """Go along a change as far as x, 1 - x and the multipliers of bounds stay positive."""
        positive, changes = np.concatenate(self[:4]), np.concatenate(change[:4])
        falls = changes < 0
        t = min(1.0, _TO_BOUNDARY * float((-positive[falls] / changes[falls]).min(initial=np.inf)))
        return _Iterate._make(value + t * step for value, step in zip(self, change, strict=True))


def _start(price_V: Floats, total: float) -> _Iterate:
    """Return a point at the same share of every bound; it meets the equation where all prices have one sign."""
    ones_V = np.ones(len(price_V))
    price = float(price_V.sum())
    share = np.clip(total / price, 0.01, 0.99) if price > 0 else 0.5
    return _Iterate(share * ones_V, (1 - share) * ones_V, ones_V, ones_V, 0.0)


def _step(at: _Iterate, gradient_V: Floats, hessian_VV: Floats, price_V: Floats, total: float) -> _Iterate:
    matrix = np.zeros((len(price_V) + 1,) * 2)
    matrix[:-1, :-1] = hessian_VV + np.diag(at.low_V / at.x_V + at.high_V / at.room_V)
    matrix[:-1, -1] = matrix[-1, :-1] = price_V
    # LAPACK itself, since SciPy's checks of its arguments take longer than matrices as small as these.
    factor, pivots, _ = dgetrf(matrix)
    # Gradient of the Lagrangian.
    dual_V = gradient_V - at.low_V + at.high_V - at.multiplier * price_V

    def change(low_target_V: Floats | float, high_target_V: Floats | float) -> _Iterate:
        """Return Newton's step to where the products of bounds and multipliers have these values."""
        right_V = -dual_V - at.low_V + at.high_V + low_target_V / at.x_V - high_target_V / at.room_V
        solution, _ = dgetrs(factor, pivots, np.append(right_V, total - price_V @ at.x_V))
        dx_V = solution[:-1]
        dlow_V = (low_target_V - at.low_V * dx_V) / at.x_V - at.low_V
        dhigh_V = (high_target_V + at.high_V * dx_V) / at.room_V - at.high_V
        return _Iterate(dx_V, -dx_V, dlow_V, dhigh_V, -float(solution[-1]))

    # The predictor aims at the optimum itself. How far it gets decides how much the corrector aims at the centre.
    predictor = change(0.0, 0.0)
    reached = at.moved(predictor).complementarity
    target = at.complementarity * (reached / at.complementarity) ** 3
    return at.moved(change(target - predictor.x_V * predictor.low_V, target + predictor.x_V * predictor.high_V))
