"""Forecasts of coverage beyond the samples that were drawn, where models replace the missing unbiased estimator.

There are two models, since each fails in its own way. The *power law*, -log coverage(k) = a·k^b (Brown et al. 2024,
arXiv 2407.21787), extends the curve of means, and tends to full coverage. The *zero-inflated beta-binomial* fits
the solve rates behind the curve (Schaeffer et al. 2025, arXiv 2502.17578; Kazdan et al. 2025, arXiv 2510.05197): some
problems are never solved, and the rates of the others follow a Beta distribution. Where the two disagree, the samples
do not decide between them. Axes: `K` values of k, `P` problems, `U` distinct pairs of counts.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln, digamma

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.statistics.pass_at_k import pass_at_ks

Model = Literal["power law", "zero-inflated beta-binomial"]

_CURVE_POINTS = 24
"""Values of k that the power law is fitted to, spaced evenly on the log scale."""
_SHAPE_BOUNDS = (1e-3, 1e3)
"""Bounds of a and b, without which the likelihood has no maximum where all rates are equal."""
_SHARE_BOUNDS = (1e-9, 1 - 1e-9)
"""Bounds of the share of unsolvable problems, whose logarithms must stay finite."""


class ForecastError(EnsembleError):
    """No model can be fitted, or none is needed. The message gives the cause, then the cure."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Mean pass@k according to a model, beyond what the samples alone support."""

    model: Model
    k: int
    value: float
    interval: tuple[float, float]
    """Interval for new problems if the model holds: percentile bootstrap over problems, with a fit for every draw."""
    parameters: dict[str, float]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """The model -log coverage(k) = a·k^b."""

    a: float
    b: float

    def coverage(self, k: int) -> float:
        """Return mean pass@k."""
        return float(np.exp(-self.a * float(k) ** self.b))


@dataclass(frozen=True, slots=True)
class ZeroInflatedBeta:
    """The model of solve rates that are 0 with the chance `unsolvable`, and else follow Beta(a, b)."""

    unsolvable: float
    a: float
    b: float

    def coverage(self, k: int) -> float:
        """Return mean pass@k, (1 - unsolvable)·(1 - B(a, b + k) / B(a, b))."""
        return float((1 - self.unsolvable) * -np.expm1(betaln(self.a, self.b + k) - betaln(self.a, self.b)))


def forecast(
    num_samples_P: Ints,
    num_correct_P: Ints,
    k: int,
    model: Model,
    level: float = 0.95,
    draws: int = 200,
    seed: int = 0,
    groups: Sequence[int] | None = None,
) -> Forecast:
    """Forecast the mean pass@k of one policy for k beyond its samples.

    The interval comes from a number of bootstrap draws of problems, or of `groups` (the index of each problem's group),
    each of which takes a fit.

    Raises:
        ForecastError: k is no larger than the smallest n, so no model is needed, or none can be fitted.
    """
    _check(num_samples_P, num_correct_P, k)
    fit = _FITTERS[model](num_samples_P, num_correct_P)
    group_P = np.arange(len(num_samples_P)) if groups is None else np.array(groups)
    num_groups = int(group_P.max()) + 1
    fitted = fit(np.ones(len(group_P), np.int64))
    share_G = np.full(num_groups, 1 / num_groups)
    values: list[float] = []
    for times_G in np.random.default_rng(seed).multinomial(num_groups, share_G, draws):
        times_P = times_G[group_P]
        try:
            values.append(fit(times_P).coverage(k))
        except ForecastError:  # the draw solved nothing or everything, and so does its forecast
            values.append(float(num_correct_P @ times_P > 0))
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return Forecast(model, k, fitted.coverage(k), (low, high), asdict(fitted))


def fit_power_law(ks_K: Ints, coverage_K: Floats) -> PowerLaw:
    """Fit log(-log coverage) to log k by least squares, over the k whose coverage is neither 0 nor 1.

    Raises:
        ForecastError: there are fewer than two such k.
    """
    inside_K = (coverage_K > 0) & (coverage_K < 1)
    if inside_K.sum() < 2:
        raise ForecastError(
            "coverage is strictly between 0 and 1 at fewer than two k, so no power law can be fitted: draw more samples"
        )
    slope, intercept = np.polyfit(np.log(ks_K[inside_K]), np.log(-np.log(coverage_K[inside_K])), 1)
    return PowerLaw(float(np.exp(intercept)), float(slope))


def fit_zero_inflated(
    num_samples_U: Ints, num_correct_U: Ints, count_U: Ints, start: ZeroInflatedBeta | None = None
) -> ZeroInflatedBeta:
    """Fit the share of unsolvable problems and the shapes of the Beta distribution by maximum likelihood.

    There are `count_U` problems, 0 or more, with each distinct pair of counts. The search begins at `start`, which by
    default takes half of the problems that were never solved to be unsolvable.
    """
    seen_U = count_U > 0
    n, c, count = (counts_U[seen_U].astype(np.float64) for counts_U in (num_samples_U, num_correct_U, count_U))
    never = c == 0

    def loss(parameters: Floats) -> tuple[float, Floats]:
        share, a, b = parameters[0], *np.exp(parameters[1:])
        log_beta = betaln(a + c, b + n - c) - betaln(a, b)
        log_solvable = np.log1p(-share) + log_beta
        log_chance = np.where(never, np.logaddexp(np.log(share), log_solvable), log_solvable)
        solvable = count * np.exp(log_solvable - log_chance)
        both = digamma(a + b + n) - digamma(a + b)
        slope_share = count @ np.where(never, -np.expm1(log_beta) * np.exp(-log_chance), -1 / (1 - share))
        slope_a = solvable @ (digamma(a + c) - digamma(a) - both)
        slope_b = solvable @ (digamma(b + n - c) - digamma(b) - both)
        return -(count @ log_chance) / count.sum(), -np.array([slope_share, a * slope_a, b * slope_b]) / count.sum()

    start = start or ZeroInflatedBeta(0.5 * float(count @ never) / float(count.sum()), 0.5, 0.5)
    x0 = np.array([start.unsolvable, np.log(start.a), np.log(start.b)])
    bounds = [_SHARE_BOUNDS, *[tuple(np.log(_SHAPE_BOUNDS))] * 2]
    # L-BFGS-B would hand these three numbers to the threads of BLAS, which is ten times slower where cores are busy.
    share, log_a, log_b = minimize(loss, x0, jac=True, method="TNC", bounds=bounds).x.tolist()
    return ZeroInflatedBeta(share, float(np.exp(log_a)), float(np.exp(log_b)))


def _power_law_fitter(n_P: Ints, c_P: Ints) -> Callable[[Ints], PowerLaw]:
    """Return a function that fits the model to each problem counted a given number of times."""
    ks_K = np.unique(np.geomspace(1, n_P.min(), _CURVE_POINTS).round().astype(np.int64))
    pass_KP = pass_at_ks(n_P, c_P, ks_K.tolist())
    return lambda times_P: fit_power_law(ks_K, pass_KP @ times_P / times_P.sum())


def _zero_inflated_fitter(n_P: Ints, c_P: Ints) -> Callable[[Ints], ZeroInflatedBeta]:
    """Return a function that fits the model to each problem counted a given number of times."""
    (n_U, c_U), unique_of_P, count_U = np.unique([n_P, c_P], axis=1, return_inverse=True, return_counts=True)
    near = fit_zero_inflated(n_U, c_U, count_U)
    return lambda times_P: fit_zero_inflated(
        n_U, c_U, np.bincount(unique_of_P.ravel(), times_P, len(n_U)).astype(np.int64), near
    )


_FITTERS: dict[Model, Callable[[Ints, Ints], Callable[[Ints], PowerLaw | ZeroInflatedBeta]]] = {
    "power law": _power_law_fitter,
    "zero-inflated beta-binomial": _zero_inflated_fitter,
}
MODELS: tuple[Model, ...] = tuple(_FITTERS)


def _check(n_P: Ints, c_P: Ints, k: int) -> None:
    fewest, solved = int(n_P.min()), int(c_P.sum())
    if k <= fewest:
        raise ForecastError(f"every problem has {fewest} samples or more, so pass@{k} needs no model: use the estimate")
    if fewest < 2:
        raise ForecastError("some problem has a single sample, which gives no curve to extend: draw 2 or more for each")
    if solved in (0, n_P.sum()):
        seen = "no sample" if solved == 0 else "every sample"
        raise ForecastError(f"{seen} was accepted, so no model can be fitted: draw more samples, or other problems")
