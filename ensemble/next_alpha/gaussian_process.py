"""Each problem's solve rate as a smooth curve along α: a Gaussian process on logits, observed through binomial counts.

logit p_P(α) = m(α) + g_P(α), where m is a curve that all problems share and g_P the deviation of each problem. The
deviations are Gaussian processes with one kernel, a constant plus a Matérn-5/2 function of α; m has the same kernel
times a factor of its own. The likelihood of c out of n is binomial, by Laplace's approximation (Rasmussen & Williams
2006, section 3.4): each Newton step is the regression of section 2.2 on a working response whose noise variance differs
by cell. Kernel hyperparameters maximise the log marginal likelihood of the working responses, summed over problems and
m (eq. 2.30).

The kernel with its derivatives and bounds is scikit-learn's. Its GaussianProcessRegressor does the same algebra for one
problem at a time; here all problems are solved in one batch, hundreds of times as fast, and a test compares the two.
Axes: `M` measured policies, `A` other α, `P` problems, `S` draws, `K` hyperparameters.
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
"""Number of times that hyperparameters and curves are fitted in turn."""
_MAX_NEWTON_STEPS = 30
_CRITICAL = 2.71
"""Critical value of the likelihood ratio test at 5 %. A variance of 0 lies on the boundary of possible values, so under
flat curves the statistic is 0 with chance 1/2 and else χ² with 1 degree of freedom (Self & Liang 1987). In simulations
of flat policies, 0 to 4 % exceed it."""
_CONVERGED = 1e-6
"""Largest change of a logit in the last Newton step."""
_MAX_STEP, _MAX_LOGIT = 3.0, 15.0
"""Limits of a Newton step and of a logit: where nothing or everything is solved, the likelihood has no maximum."""
_MIN_WEIGHT = 1e-6
"""Smallest weight of a cell, which keeps the noise variance of a cell without samples finite."""
_MAX_SCALE, _JITTER = 1e6, 1e-8


@dataclass(frozen=True)
class AlphaCurves:
    """Fitted curves with their uncertainty, from which logits and draws follow at any α."""

    alpha_M: Floats
    """`[M]` measured α."""
    kernel: Any
    """The scikit-learn kernel of the deviations, over α scaled to [-1, 1]."""
    shared_M: Floats
    """`[M]` the shared curve m at the measured α, in logits."""
    shared_scale: float
    """Ratio of the variance of m to that of a deviation, at least 1."""
    shared_noise_MM: Floats
    """`[M, M]` covariance of the sampling error of m at the measured α."""
    response_PM: Floats
    """`[P, M]` working response minus m."""
    noise_PM: Floats
    """`[P, M]` noise variance of the working response."""
    evidence: float
    """Twice the log likelihood ratio of these curves to flat ones."""

    @classmethod
    def fit(cls, alpha_M: ArrayLike, num_samples_MP: Ints, num_correct_MP: Ints) -> Self:
        """Fit curves to counts, where n is 0 in cells that were not sampled.

        Raises:
            AlphaError: there are fewer than three α, or two are equal.
        """
        alpha_M = np.asarray(alpha_M, np.float64)
        if len(np.unique(alpha_M)) < max(MIN_ALPHAS, len(alpha_M)):
            raise AlphaError(
                f"a curve needs {MIN_ALPHAS} or more different α, not {alpha_M.tolist()}: sample more policies"
            )
        n_PM, c_PM = num_samples_MP.T.astype(np.float64), num_correct_MP.T.astype(np.float64)
        at_M1 = _scaled(alpha_M, alpha_M)
        bend = ConstantKernel(1.0, (1e-4, 1e3)) * Matern(1.0, (0.2, 5.0), nu=2.5)
        kernel: Any = ConstantKernel(4.0, (1e-4, 1e3)) + bend
        # Newton's method starts at Haldane's empirical logits, which add half a success and half a failure.
        logit_PM = np.log((c_PM + 0.5) / (n_PM - c_PM + 0.5))
        noise_PM = 1 / (c_PM + 0.5) + 1 / (n_PM - c_PM + 0.5)
        shared_M = np.average(logit_PM, axis=0, weights=1 / (1 + noise_PM))
        state = _Mode(shared_M, logit_PM, logit_PM, noise_PM, np.diag(1 / (1 / noise_PM).sum(axis=0)))
        shared_scale = 1.0
        for _ in range(_ROUNDS):
            kernel, shared_scale, _ = _most_likely(kernel, shared_scale, at_M1, state)
            state = _mode(kernel(at_M1), n_PM, c_PM, state)
        fitted, flat = (_most_likely(kernel, shared_scale, at_M1, state, flat)[2] for flat in (False, True))
        shared = state.shared_M, shared_scale, state.shared_noise_MM
        return cls(alpha_M, kernel, *shared, state.response_PM - state.shared_M, state.noise_PM, 2 * (flat - fitted))

    @property
    def is_flat(self) -> bool:
        """Whether flat curves could explain the counts (likelihood ratio test at 5 %)."""
        return self.evidence < _CRITICAL

    def shared(self, alpha_A: Floats) -> tuple[Floats, Floats]:
        """Return the mean `[A]` and covariance `[A, A]` of the shared curve, in logits."""
        level = self.shared_M.mean()
        noise_1MM = self.shared_noise_MM[None] / self.shared_scale
        mean_1A, covariance_1AA = self._regress(alpha_A, (self.shared_M - level)[None], noise_1MM)
        return level + mean_1A[0], self.shared_scale * covariance_1AA[0]

    def logits(self, alpha_A: Floats) -> tuple[Floats, Floats]:
        """Return the mean and variance of each problem's logit, `[A, P]` each, shared curve included."""
        mean_A, covariance_AA = self.shared(alpha_A)
        mean_PA, covariance_PAA = self._deviations(alpha_A)
        variance_PA = np.diag(covariance_AA) + covariance_PAA.diagonal(axis1=1, axis2=2)
        return (mean_A + mean_PA).T, np.maximum(variance_PA, _JITTER).T

    def draws(self, alpha_A: Floats, num_draws: int, seed: int = 0) -> Floats:
        """Draw whole curves, as solve rates `[S, A, P]` that are joint over all α and share one curve m per draw."""
        rng = np.random.default_rng(seed)
        mean_A, covariance_AA = self.shared(alpha_A)
        mean_PA, covariance_PAA = self._deviations(alpha_A)
        shared_SA = rng.standard_normal((num_draws, len(mean_A))) @ _root(covariance_AA).T
        deviation_PAS = _root(covariance_PAA) @ rng.standard_normal((*mean_PA.shape, num_draws))
        return expit((mean_A + shared_SA)[:, :, None] + mean_PA.T + deviation_PAS.transpose(2, 1, 0))

    def _deviations(self, alpha_A: Floats) -> tuple[Floats, Floats]:
        return self._regress(alpha_A, self.response_PM, _diagonal(self.noise_PM))

    def _regress(self, alpha_A: Floats, response_PM: Floats, noise_PMM: Floats) -> tuple[Floats, Floats]:
        """Return the mean `[P, A]` and covariance `[P, A, A]` of processes given noisy values (eqs. 2.23 and 2.24)."""
        at_M1, at_A1 = _scaled(self.alpha_M, self.alpha_M), _scaled(np.asarray(alpha_A, np.float64), self.alpha_M)
        across_MA = self.kernel(at_M1, at_A1)
        covariance_PMM = self.kernel(at_M1) + noise_PMM
        gain_PMA = np.linalg.solve(covariance_PMM, np.broadcast_to(across_MA, (len(noise_PMM), *across_MA.shape)))
        return (response_PM[:, None] @ gain_PMA)[:, 0], self.kernel(at_A1) - across_MA.T @ gain_PMA


def _scaled(alpha_A: Floats, alpha_M: Floats) -> Floats:
    """Scale α so that the measured range becomes [-1, 1], as a column `[A, 1]` for scikit-learn's kernels."""
    low, high = alpha_M.min(), alpha_M.max()
    return ((2 * alpha_A - low - high) / (high - low))[:, None]


class _Mode(NamedTuple):
    """State of Newton's method, which ends at the posterior mode."""

    shared_M: Floats
    logit_PM: Floats
    response_PM: Floats
    noise_PM: Floats
    shared_noise_MM: Floats


def _most_likely(
    kernel: Any, shared_scale: float, at_M1: Floats, state: _Mode, flat: bool = False
) -> tuple[Any, float, float]:
    """Fit the hyperparameters and the scale of m by maximum likelihood, with a weak prior on the length scale.

    With `flat`, curves are constant and only their level is fitted. The result is the kernel, the scale, and the
    negative log likelihood.
    """
    response_PM = state.response_PM - state.shared_M
    shared_1M = (state.shared_M - state.shared_M.mean())[None]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        theta, scale = parameters[:-1], np.exp(parameters[-1])
        kernel_MM, slope_MMK = kernel.clone_with_theta(theta)(at_M1, eval_gradient=True)
        value, slope_MM = _unlikelihood(kernel_MM + _diagonal(state.noise_PM), response_PM)
        shared_value, shared_slope_MM = _unlikelihood(scale * kernel_MM[None] + state.shared_noise_MM, shared_1M)
        gradient = np.einsum("ij,ijk->k", slope_MM + scale * shared_slope_MM, slope_MMK)
        # The prior is log length scale ~ N(0, 1): without evidence, curves bend about once over the measured range.
        gradient[-1] += theta[-1]
        value += shared_value + theta[-1] ** 2 / 2
        gradient = np.append(gradient, scale * (shared_slope_MM * kernel_MM).sum())
        return value / len(response_PM), gradient / len(response_PM)

    bounds = [(low, high) for low, high in [*kernel.bounds.tolist(), (0.0, np.log(_MAX_SCALE))]]
    start = np.append(kernel.theta, np.log(shared_scale))
    if flat:
        start[1:] = [bounds[1][0], 0.0, 0.0]
        bounds[1:] = [(value, value) for value in start[1:].tolist()]
    fit = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"gtol": 1e-7})
    return kernel.clone_with_theta(fit.x[:-1]), float(np.exp(fit.x[-1])), float(fit.fun) * len(response_PM)


def _unlikelihood(covariance_PMM: Floats, response_PM: Floats) -> tuple[float, Floats]:
    """Return the negative log marginal likelihood (eq. 2.30) without its constant, and its derivative.

    The derivative is by a covariance that all problems have in common, `[M, M]`.
    """
    inverse_PMM = np.linalg.inv(covariance_PMM)
    weight_PM = (inverse_PMM @ response_PM[:, :, None])[:, :, 0]
    value = ((response_PM * weight_PM).sum() + np.linalg.slogdet(covariance_PMM)[1].sum()) / 2
    return float(value), (inverse_PMM.sum(axis=0) - weight_PM.T @ weight_PM) / 2


def _mode(kernel_MM: Floats, n_PM: Floats, c_PM: Floats, start: _Mode) -> _Mode:
    """Find the posterior mode of the logits by Newton's method, with m by generalised least squares at each step."""
    shared_M, logit_PM, response_PM, noise_PM, shared_noise_MM = start
    for _ in range(_MAX_NEWTON_STEPS):
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
    # Generalised least squares also counts, with K / P, that m is the mean over these problems only. The deviations of
    # these problems are known, however, so only the part that comes from the samples is noise.
    return _Mode(shared_M, logit_PM, response_PM, noise_PM, shared_noise_MM - kernel_MM / len(n_PM))


def _diagonal(noise_PM: Floats) -> Floats:
    return noise_PM[:, :, None] * np.eye(noise_PM.shape[1])


def _root(covariance_PAA: Floats) -> Floats:
    """Return a square root of each covariance, where eigenvalues that rounding made negative count as 0."""
    value_PA, vector_PAA = np.linalg.eigh(covariance_PAA)
    return vector_PAA * np.sqrt(np.maximum(value_PA, 0.0))[..., None, :]
