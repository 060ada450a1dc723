"""Coverage beyond the samples that were drawn. No unbiased estimator exists there: these are statements of a model.

Two models, since each fails in its own way. The *power law*, -log coverage(k) = a·k^b (Brown et al. 2024, arXiv
2407.21787), extends the curve of means; it ends at covering everything. The *zero-inflated beta-binomial* fits the
solve rates behind the curve (Schaeffer et al. 2025, arXiv 2502.17578; Kazdan et al. 2025, arXiv 2510.05197): a share of
the problems is never solved, the rates of the others follow a Beta distribution. Where the two disagree, the samples do
not say. Axes: `K` values of k, `P` problems, `U` distinct pairs of counts.
"""

from collections.abc import Callable
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
_SHAPE_BOUNDS = (1e-3, 1e3)
"""Of a and b: where all rates are equal the likelihood has no maximum."""
_SHARE_BOUNDS = (1e-9, 1 - 1e-9)


class ForecastError(EnsembleError):
    """No model can be fitted, or none is needed: the message says why, then what to do."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Mean pass@k as a model has it, which the samples alone do not support."""

    model: Model
    k: int
    value: float
    interval: tuple[float, float]
    """For new problems, if the model holds: percentile bootstrap over problems, every draw fitted anew."""
    parameters: dict[str, float]


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """-log coverage(k) = a·k^b."""

    a: float
    b: float

    def coverage(self, k: int) -> float:
        """Mean pass@k."""
        return float(np.exp(-self.a * float(k) ** self.b))


@dataclass(frozen=True, slots=True)
class ZeroInflatedBeta:
    """Solve rates of problems: 0 with the chance `unsolvable`, else distributed as Beta(a, b)."""

    unsolvable: float
    a: float
    b: float

    def coverage(self, k: int) -> float:
        """Mean pass@k: (1 - unsolvable)·(1 - B(a, b + k) / B(a, b))."""
        return float((1 - self.unsolvable) * -np.expm1(betaln(self.a, self.b + k) - betaln(self.a, self.b)))


def forecast(
    num_samples_P: Ints, num_correct_P: Ints, k: int, model: Model, level: float = 0.95, draws: int = 200, seed: int = 0
) -> Forecast:
    """Forecast mean pass@k of one policy for k beyond its samples.

    Args:
        num_samples_P: `[P]` graded samples.
        num_correct_P: `[P]` accepted samples.
        k: more than some problem has samples.
        model: whose forecast.
        level: of the interval.
        draws: of the bootstrap; each one is a fit.
        seed: of the draws.

    Raises:
        ForecastError: no model is needed, or none can be fitted.
    """
    _check(num_samples_P, num_correct_P, k)
    fit = _FITTERS[model](num_samples_P, num_correct_P)
    num_problems = len(num_samples_P)
    fitted = fit(np.ones(num_problems, np.int64))
    rng = np.random.default_rng(seed)
    values: list[float] = []
    for times_P in rng.multinomial(num_problems, np.full(num_problems, 1 / num_problems), draws):
        try:
            values.append(fit(times_P).coverage(k))
        except ForecastError:  # nothing or everything was solved in this draw, and a model would say the same of k
            values.append(float(num_correct_P @ times_P > 0))
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail]).tolist()
    return Forecast(model, k, fitted.coverage(k), (low, high), asdict(fitted))


def fit_power_law(ks_K: Ints, coverage_K: Floats) -> PowerLaw:
    """Least squares of log(-log coverage) on log k, over the k whose coverage is neither 0 nor 1.

    Raises:
        ForecastError: fewer than two such k.
    """
    inside_K = (coverage_K > 0) & (coverage_K < 1)
    if inside_K.sum() < 2:
        raise ForecastError("coverage is 0 or 1 at all k but one, so no power law can be fitted: draw more samples")
    slope, intercept = np.polyfit(np.log(ks_K[inside_K]), np.log(-np.log(coverage_K[inside_K])), 1)
    return PowerLaw(float(np.exp(intercept)), float(slope))


def fit_zero_inflated(
    num_samples_U: Ints, num_correct_U: Ints, count_U: Ints, start: ZeroInflatedBeta | None = None
) -> ZeroInflatedBeta:
    """Most likely share of unsolvable problems and shapes of the Beta distribution (beta-binomial likelihood).

    Args:
        num_samples_U: n, each pair (n, c) once.
        num_correct_U: c.
        count_U: how many problems have these counts; 0 is allowed.
        start: where the search begins.
    """
    seen_U = count_U > 0
    n, c, count = (one_U[seen_U].astype(np.float64) for one_U in (num_samples_U, num_correct_U, count_U))
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
    # Not L-BFGS-B, which hands these three numbers to the threads of BLAS: 10 times slower where cores are busy.
    share, log_a, log_b = minimize(loss, x0, jac=True, method="TNC", bounds=bounds).x.tolist()
    return ZeroInflatedBeta(share, float(np.exp(log_a)), float(np.exp(log_b)))


def _power_law_fitter(n_P: Ints, c_P: Ints) -> Callable[[Ints], PowerLaw]:
    """Fit to problems that are taken so many times each."""
    ks_K = np.unique(np.geomspace(1, n_P.min(), _CURVE_POINTS).round().astype(np.int64))
    pass_KP = pass_at_ks(n_P, c_P, ks_K.tolist())
    return lambda times_P: fit_power_law(ks_K, pass_KP @ times_P / times_P.sum())


def _zero_inflated_fitter(n_P: Ints, c_P: Ints) -> Callable[[Ints], ZeroInflatedBeta]:
    """Fit to problems that are taken so many times each."""
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
        raise ForecastError(f"every problem has {fewest} samples, so pass@{k} needs no model: ask for the estimate")
    if fewest < 2:
        raise ForecastError("some problem has a single sample, which says nothing of a curve: draw 2 or more of each")
    if solved in (0, n_P.sum()):
        seen = "no sample" if solved == 0 else "every sample"
        raise ForecastError(f"{seen} was accepted, so no model can be fitted: draw more samples, or other problems")
