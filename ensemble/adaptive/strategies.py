"""Strategies: fixed shares, shares optimised on a pilot, and Thompson sampling per problem.

Axes: `M` policies, `P` problems. Successive halving has a file of its own (`halving`).
"""

from dataclasses import dataclass

import numpy as np

from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState, fits
from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Bools, Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Split
from alphamix.ensemble.mixture.best_allocation import best_allocation
from alphamix.ensemble.statistics.beta_posterior import Posterior, fit_prior


@dataclass(frozen=True)
class Weights:
    """Samples in proportion to fixed weights, the same on every problem: nothing is learned on the way."""

    weights_M: tuple[float, ...]
    """One per policy, 0 or more."""

    def ask(self, tally: AdaptiveState) -> Ints:
        """Ask for all at once.

        Raises:
            AdaptiveError: there is not one weight for each policy.
        """
        if len(self.weights_M) != len(tally.num_samples_MP):
            raise AdaptiveError(
                f"{len(self.weights_M)} weights for {len(tally.num_samples_MP)} policies: give one for each"
            )
        target_M = _split(self.weights_M, tally.budget)
        return tally.affordable(target_M[:, None] - tally.num_samples_MP)

    def stopped(self, tally: AdaptiveState) -> Bools:
        """Never: sizes were fixed beforehand."""
        return np.zeros(tally.num_samples_MP.shape, np.bool_)


@dataclass(frozen=True)
class Uniform:
    """The same number of samples of each policy, to whole numbers."""

    def ask(self, tally: AdaptiveState) -> Ints:
        """Ask for all at once."""
        return Weights((1.0,) * len(tally.num_samples_MP)).ask(tally)

    def stopped(self, tally: AdaptiveState) -> Bools:
        """Never: sizes were fixed beforehand."""
        return np.zeros(tally.num_samples_MP.shape, np.bool_)


@dataclass(frozen=True)
class Optimised:
    """A pilot of every policy on every problem, then the best mixture under the posterior for what is left.

    One allocation for all problems, as a mixture is; what single problems need is `Thompson`'s business.
    """

    pilot: int = 2
    """Samples of each policy on each problem before anything is chosen."""

    def ask(self, tally: AdaptiveState) -> Ints:
        """Ask for the pilot, then for the rest.

        Raises:
            AdaptiveError: the pilot alone costs more than the budget.
        """
        cost = self.pilot * float(tally.budget.cost_M.sum())
        if self.pilot < 1 or fits(np.array([tally.budget.total]), cost)[0] < 1:
            raise AdaptiveError(
                f"a pilot of {self.pilot} samples of each policy costs {cost:g} of a budget of {tally.budget.total:g}: "
                "give a pilot of 1 or more within the budget"
            )
        missing_MP = tally.affordable(self.pilot - tally.num_samples_MP)
        if missing_MP.any():
            return missing_MP
        left = float(tally.left_P.max())
        if left < tally.budget.cost_M.min():
            return np.zeros_like(missing_MP)
        posterior = Posterior.of(tally.num_samples_MP, tally.num_correct_MP)
        choice = best_allocation(posterior, Budget(left, tally.budget.cost_M, tally.budget.currency))
        return tally.affordable(np.broadcast_to(choice.allocation_M[:, None], missing_MP.shape))

    def stopped(self, tally: AdaptiveState) -> Bools:
        """Everywhere once the pilot is in: its luck decides who gets the rest."""
        return np.full(tally.num_samples_MP.shape, np.all(tally.num_samples_MP >= self.pilot))


@dataclass(frozen=True)
class Thompson:
    """Per problem: draw a rate per policy from its Beta posterior, sample the best rate per cost, stop when solved.

    Needs a verifier at inference. Thompson 1933; the prior is fitted per policy to all its counts (empirical Bayes),
    together with one success and one failure, so that no policy is given up for a little bad luck. A likelihood does
    not mind that sampling stopped at a success, so neither does the posterior.
    """

    batch: int = 1
    """Samples per problem and ask. Larger batches wait less and overshoot more."""

    def ask(self, tally: AdaptiveState) -> Ints:
        """Ask for one batch on every problem that is not solved and can pay for a sample."""
        rng = np.random.default_rng([tally.seed, int(tally.num_samples_MP.sum())])
        cost_M1 = tally.budget.cost_M[:, None]
        a_MP, b_MP = _beliefs(tally)
        asked_MP = np.zeros_like(tally.num_samples_MP)
        left_P = np.where(tally.solved_P, 0.0, tally.left_P)
        for _ in range(self.batch):
            # A later sample of the batch matters only where the earlier ones fail: they count as failures.
            rate_MP = rng.beta(a_MP, b_MP + asked_MP)
            affordable_MP = fits(left_P / cost_M1, 1.0) >= 1
            best_P = np.where(affordable_MP, rate_MP / cost_M1, -1.0).argmax(axis=0)
            drawn_MP = (np.arange(len(cost_M1))[:, None] == best_P) & affordable_MP
            if not drawn_MP.any():
                break
            asked_MP += drawn_MP
            left_P = left_P - (drawn_MP * cost_M1).sum(axis=0)
        return asked_MP

    def stopped(self, tally: AdaptiveState) -> Bools:
        """Everywhere once something was drawn: a success ends a problem, a failure sends others."""
        return np.full(tally.num_samples_MP.shape, tally.num_samples_MP.any())


def _split(weights_M: tuple[float, ...], budget: Budget) -> Ints:
    """Find the most samples in proportion to the weights that the budget pays for.

    Raises:
        AdaptiveError: the weights are no weights.
    """
    weights = {str(m): weight for m, weight in enumerate(weights_M)}
    try:
        largest_remainder(weights, 1)
    except ValueError as error:
        raise AdaptiveError(f"{error}: correct the weights") from error
    return Split(weights, budget).allocation_M(list(weights))


def _beliefs(tally: AdaptiveState) -> tuple[Floats, Floats]:
    """Shapes of the Beta posteriors, both `[M, P]`."""
    n_MP, c_MP = tally.num_samples_MP, tally.num_correct_MP
    prior_M2: Floats = np.array([_prior(n_P, c_P) for n_P, c_P in zip(n_MP, c_MP, strict=True)])
    a_M1, b_M1 = np.split(prior_M2, 2, axis=1)
    return a_M1 + c_MP, b_M1 + (n_MP - c_MP)


def _prior(n_P: Ints, c_P: Ints) -> tuple[float, float]:
    """Fit one policy's prior to its counts, each kind of cell once, and one success and one failure."""
    cells_2K, count_K = np.unique(np.stack([n_P, c_P]), axis=1, return_counts=True)
    n_K, c_K = np.append(cells_2K, [[1, 1], [0, 1]], axis=1).astype(np.float64)
    return fit_prior(n_K, c_K, np.append(count_K, [1, 1]))
