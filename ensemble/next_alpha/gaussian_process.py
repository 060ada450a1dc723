"""Each problem's solve rate as a smooth curve along α: a Gaussian process on logits, seen through binomial counts.

logit p_P(α) = m(α) + g_P(α): a curve m that all problems share and a deviation g_P of each, a Gaussian process with one
kernel for all, a level plus a Matérn-5/2 function of α. The likelihood of c out of n is binomial, by Laplace's
approximation (Rasmussen & Williams 2006, section 3.4): each Newton step is the regression of section 2.2 on a working
response with its own noise variance per cell. Kernel hyperparameters maximise the log marginal likelihood of the
working responses, summed over problems and m (eq. 2.30); m has the same kernel, times a factor of its own.

The kernel, its derivatives and bounds are scikit-learn's. Its GaussianProcessRegressor does the same algebra, but for
one problem at a time: here all problems are solved in one batch, hundreds of times as fast, and a test holds the two
against each other. Axes: `M` measured policies, `A` other α, `P` problems, `S` draws.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.next_alpha.lines import MIN_ALPHAS, AlphaError

_ROUNDS = 3
"""Hyperparameters and curves are fitted in turn, so often."""
_NEWTON_STEPS = 30
_CRITICAL = 2.71
"""A variance of 0 lies on the edge of what is possible: half the chance is at 0, half is χ² with 1 degree of freedom
(Self & Liang 1987). In simulations of flat policies 0 to 4 % are beyond."""
_CONVERGED = 1e-6
_MAX_STEP, _MAX_LOGIT, _MIN_WEIGHT = 3.0, 15.0, 1e-6
"""A Newton step changes no logit by more, none leaves this range, and a cell without samples weighs almost nothing."""
_MAX_SCALE, _JITTER = 1e6, 1e-8


@dataclass(frozen=True)
class AlphaCurves:
    """The fitted curves, their uncertainty, and draws of them at any α."""

    alpha_M: Floats
    """Measured α."""
    kernel: Any
    """Of the deviations, over α scaled to [-1, 1] (a scikit-learn kernel)."""
    shared_M: Floats
    """m at the measured α, in logits."""
    shared_scale: float
    """How much more m varies than a deviation does, as a ratio of variances; at least 1."""
    shared_noise_MM: Floats
    """Covariance with which the samples leave m known at the measured α."""
    response_PM: Floats
    """Working response, minus m."""
    noise_PM: Floats
    """Variance of the working response."""
    evidence: float
    """Twice the log of how much likelier these curves are than flat ones; `is_flat` compares it with chance."""

    @classmethod
    def fit(cls, alpha_M: ArrayLike, num_samples_MP: Ints, num_correct_MP: Ints) -> Self:
        """Fit to counts.

        Args:
            alpha_M: `[M]` where the policies lie, three or more, all different.
            num_samples_MP: `[M, P]` graded samples; 0 where a cell was not sampled.
            num_correct_MP: `[M, P]` accepted samples.

        Raises:
            AlphaError: fewer than three α, or two that are equal.
        """
        alpha_M = np.asarray(alpha_M, np.float64)
        if len(np.unique(alpha_M)) < max(MIN_ALPHAS, len(alpha_M)):
            raise AlphaError(f"a curve needs {MIN_ALPHAS} different α, got {alpha_M.tolist()}: sample more policies")
        n_PM, c_PM = num_samples_MP.T.astype(np.float64), num_correct_MP.T.astype(np.float64)
        at_M1 = _scaled(alpha_M, alpha_M)
        kernel: Any = ConstantKernel(4.0, (1e-4, 1e3)) + ConstantKernel(1.0, (1e-4, 1e3)) * Matern(
            1.0, (0.2, 5.0), nu=2.5
        )
        # Haldane's empirical logits (half a sample is added to either side) are where Newton's method starts.
        logit_PM = np.log((c_PM + 0.5) / (n_PM - c_PM + 0.5))
        noise_PM = 1 / (c_PM + 0.5) + 1 / (n_PM - c_PM + 0.5)
        shared_M = np.average(logit_PM, axis=0, weights=1 / (1 + noise_PM))
        state = _Mode(shared_M, logit_PM, logit_PM, noise_PM, np.diag(1 / (1 / noise_PM).sum(axis=0)))
        shared_scale = 1.0
        for _ in range(_ROUNDS):
            kernel, shared_scale, _ = _most_likely(kernel, shared_scale, at_M1, state)
            state = _mode(kernel(at_M1), n_PM, c_PM, state)
        fitted, flat = (_most_likely(kernel, shared_scale, at_M1, state, flat)[2] for flat in (False, True))
        response_PM = state.response_PM - state.shared_M
        return cls(
            alpha_M,
            kernel,
            state.shared_M,
            shared_scale,
            state.shared_noise_MM,
            response_PM,
            state.noise_PM,
            2 * (flat - fitted),
        )

    @property
    def is_flat(self) -> bool:
        """Whether chance alone could have bent curves that are flat (likelihood ratio test at 5 %)."""
        return self.evidence < _CRITICAL

    def shared(self, alpha_A: Floats) -> tuple[Floats, Floats]:
        """Mean `[A]` and covariance `[A, A]` of the curve that all problems share, in logits."""
        level = self.shared_M.mean()
        noise_1MM = self.shared_noise_MM[None] / self.shared_scale
        mean_PA, covariance_PAA = _regress(
            self.kernel, self._at(self.alpha_M), self._at(alpha_A), (self.shared_M - level)[None], noise_1MM
        )
        return level + mean_PA[0], self.shared_scale * covariance_PAA[0]

    def logits(self, alpha_A: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of each problem's logit, both `[A, P]`; the shared curve's uncertainty is in it."""
        mean_A, covariance_AA = self.shared(alpha_A)
        mean_PA, covariance_PAA = self._deviations(alpha_A)
        variance_PA = np.diag(covariance_AA) + covariance_PAA.diagonal(axis1=1, axis2=2)
        return (mean_A + mean_PA).T, np.maximum(variance_PA, _JITTER).T

    def draws(self, alpha_A: Floats, num_draws: int, seed: int = 0) -> Floats:
        """Draw whole curves: solve rates `[S, A, P]`, joint over all α; the shared curve is drawn once per draw."""
        rng = np.random.default_rng(seed)
        mean_A, covariance_AA = self.shared(alpha_A)
        mean_PA, covariance_PAA = self._deviations(alpha_A)
        shared_SA = rng.standard_normal((num_draws, len(mean_A))) @ _root(covariance_AA).T
        normal_PAS = rng.standard_normal((*mean_PA.shape, num_draws))
        deviation_PAS = _root(covariance_PAA) @ normal_PAS
        return expit((mean_A + shared_SA)[:, :, None] + mean_PA.T + deviation_PAS.transpose(2, 1, 0))

    def _deviations(self, alpha_A: Floats) -> tuple[Floats, Floats]:
        return _regress(
            self.kernel, self._at(self.alpha_M), self._at(alpha_A), self.response_PM, _diagonal(self.noise_PM)
        )

    def _at(self, alpha_A: Floats) -> Floats:
        return _scaled(np.asarray(alpha_A, np.float64), self.alpha_M)


def _scaled(alpha_A: Floats, alpha_M: Floats) -> Floats:
    """Scale α so that the measured range is [-1, 1], `[A, 1]`, as scikit-learn's kernels take it."""
    low, high = alpha_M.min(), alpha_M.max()
    return ((2 * alpha_A - low - high) / (high - low))[:, None]


def _regress(
    kernel: Any, at_M1: Floats, at_A1: Floats, response_PM: Floats, noise_PMM: Floats
) -> tuple[Floats, Floats]:
    """Mean `[P, A]` and covariance `[P, A, A]` of the process given noisy values (eqs. 2.23 and 2.24)."""
    across_MA = kernel(at_M1, at_A1)
    covariance_PMM = kernel(at_M1) + noise_PMM
    gain_PMA = np.linalg.solve(covariance_PMM, np.broadcast_to(across_MA, (len(noise_PMM), *across_MA.shape)))
    return (response_PM[:, None] @ gain_PMA)[:, 0], kernel(at_A1) - across_MA.T @ gain_PMA


class _Mode(NamedTuple):
    """Where Newton's method stands."""

    shared_M: Floats
    logit_PM: Floats
    response_PM: Floats
    noise_PM: Floats
    shared_noise_MM: Floats


def _most_likely(
    kernel: Any, shared_scale: float, at_M1: Floats, state: _Mode, flat: bool = False
) -> tuple[Any, float, float]:
    """Fit the hyperparameters and the scale of m: the most likely ones, given a weak prior on the length scale.

    Returns:
        The kernel, the scale, and the negative log likelihood; where curves are to be flat only the level is fitted.
    """
    response_PM = state.response_PM - state.shared_M
    shared_1M = (state.shared_M - state.shared_M.mean())[None]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        theta, scale = parameters[:-1], np.exp(parameters[-1])
        kernel_MM, slope_MMK = kernel.clone_with_theta(theta)(at_M1, eval_gradient=True)
        value, slope_MM = _unlikelihood(kernel_MM + _diagonal(state.noise_PM), response_PM)
        shared_value, shared_slope_MM = _unlikelihood(scale * kernel_MM[None] + state.shared_noise_MM, shared_1M)
        gradient = np.einsum("ij,ijk->k", slope_MM + scale * shared_slope_MM, slope_MMK)
        # log length scale ~ N(0, 1): without a word from the data, curves bend once over the measured range.
        gradient[-1] += theta[-1]
        value += shared_value + theta[-1] ** 2 / 2
        gradient = np.append(gradient, scale * (shared_slope_MM * kernel_MM).sum())
        return value / len(response_PM), gradient / len(response_PM)

    bounds = [(low, high) for low, high in [*kernel.bounds.tolist(), (0.0, np.log(_MAX_SCALE))]]
    start = np.append(kernel.theta, np.log(shared_scale))
    if flat:
        start[1:] = [bounds[1][0], 0.0, 0.0]
        bounds[1:] = [(value, value) for value in start[1:].tolist()]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-7})
    return kernel.clone_with_theta(found.x[:-1]), float(np.exp(found.x[-1])), float(found.fun) * len(response_PM)


def _unlikelihood(covariance_PMM: Floats, response_PM: Floats) -> tuple[float, Floats]:
    """Negative log marginal likelihood (eq. 2.30) without its constant, and its derivative by a common covariance."""
    inverse_PMM = np.linalg.inv(covariance_PMM)
    weight_PM = (inverse_PMM @ response_PM[:, :, None])[:, :, 0]
    value = ((response_PM * weight_PM).sum() + np.linalg.slogdet(covariance_PMM)[1].sum()) / 2
    return float(value), (inverse_PMM.sum(axis=0) - weight_PM.T @ weight_PM) / 2


def _mode(kernel_MM: Floats, n_PM: Floats, c_PM: Floats, start: _Mode) -> _Mode:
    """Find the most likely logits by Newton's method, m by generalised least squares along the way."""
    shared_M, logit_PM, response_PM, noise_PM, shared_noise_MM = start
    for _ in range(_NEWTON_STEPS):
        rate_PM = expit(logit_PM)
        noise_PM = 1 / np.maximum(n_PM * rate_PM * (1 - rate_PM), _MIN_WEIGHT)
        response_PM = logit_PM + noise_PM * (c_PM - n_PM * rate_PM)
        inverse_PMM = np.linalg.inv(kernel_MM + _diagonal(noise_PM))
        shared_noise_MM = np.linalg.inv(inverse_PMM.sum(axis=0))
        shared_M = shared_noise_MM @ (inverse_PMM @ response_PM[:, :, None]).sum(axis=0)[:, 0]
        weight_PM = (inverse_PMM @ (response_PM - shared_M)[:, :, None])[:, :, 0]
        step_PM = np.clip(shared_M + weight_PM @ kernel_MM - logit_PM, -_MAX_STEP, _MAX_STEP)
        logit_PM = np.clip(logit_PM + step_PM, -_MAX_LOGIT, _MAX_LOGIT)
        if np.abs(step_PM).max() < _CONVERGED:
            break
    # That m is the mean of these problems and of no others would be K / P more, but what is known of deviations takes
    # it back: only the part that comes from the samples is noise.
    return _Mode(shared_M, logit_PM, response_PM, noise_PM, shared_noise_MM - kernel_MM / len(n_PM))


def _diagonal(noise_PM: Floats) -> Floats:
    return noise_PM[:, :, None] * np.eye(noise_PM.shape[1])


def _root(covariance_PAA: Floats) -> Floats:
    """Symmetric square root; covariances of smooth functions are singular but for rounding."""
    value_PA, vector_PAA = np.linalg.eigh(covariance_PAA)
    return vector_PAA * np.sqrt(np.maximum(value_PA, 0.0))[..., None, :]
