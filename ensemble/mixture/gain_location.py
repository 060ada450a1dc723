"""Where an ensemble's gain lives: the gain that a mixture can have over the best single policy, at each budget.

A mixture gains where some problems are solved by one kind of policy, others by another kind, and no single policy
solves both kinds soon enough for the budget. With a small budget no policy solves them, and with a large one every
policy does, so the gain is a bump over budgets, which lies further right for harder problems. The prior of
`shared_difficulty` knows all of this: how hard problems are, how much policies differ along the contrast, and how many
problems no policy solves. So the gain follows for budgets and mixtures that were never drawn.

These gains are a model's. They are for new problems of the same kind, and their intervals come from fits to resampled
problems. Beside them stands a check: the prior that is fitted to one half of the problems chooses a mixture and a
single policy, and the other half says without a model what the mixture gains. Axes: `M` policies, `P` problems, `K`
budgets, `B` resamples of the problems.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtri

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import good_allocation
from alphamix.ensemble.mixture.cross_fitting import Evidence
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.intervals import (
    NO_DIFFERENCE,
    Estimate,
    Resampling,
    mean_over_problems,
)
from alphamix.ensemble.statistics.pass_at_k import coverage
from alphamix.ensemble.statistics.posterior import Posterior
from alphamix.ensemble.statistics.shared_difficulty import SharedDifficulty, fit

Place = Literal["no contrast", "before the bump", "on the bump", "past the bump"]

BUDGETS = tuple(2**power for power in range(11))
FEW_BUDGETS = BUDGETS[::2]
_REPEATS = 4
"""Divisions of the problems into halves."""
_LEAST_GAIN = 0.01
"""Gain that the peak must surely have; less is not worth more than one policy, whatever the budget."""
_DECIMALS = 12
"""Decimals of a gain that are kept: the rest is rounding noise."""
_NEAR_PEAK = 0.8
"""Share of the peak's gain that a budget on the bump has."""


@dataclass(frozen=True)
class GainAtBudget:
    """What the best mixture gains over the best single policy at one budget."""

    samples: int
    """Budget: samples per problem."""
    gain: float
    """Gain that the model expects on new problems, in coverage."""
    interval: tuple[float, float]
    allocation: Mapping[str, int]
    """Best mixture according to the model."""
    best_single: str
    """Best single policy according to the model."""
    held_out: Estimate | None
    """Gain on problems that were left out of fitting and choosing, without a model; None where too few samples or
    problems were drawn."""


@dataclass(frozen=True)
class GainLocation:
    """The gain along the budget, and where a given budget stands."""

    points: tuple[GainAtBudget, ...]
    """By budget, in ascending order."""
    samples: int
    """The budget that was asked about."""
    place: Place
    sharing: Mapping[str, float]
    """By policy, the share of the variance of its solve rates that difficulty and contrast explain."""
    contrast: Mapping[str, float]
    """By policy, the change of its log odds per unit of contrast, minus the mean of all; signs mean nothing by
    themselves, but policies of opposite sign are good at different problems."""

    @property
    def peak(self) -> GainAtBudget:
        """The budget with the largest gain."""
        return max(self.points, key=lambda point: point.gain)

    @property
    def here(self) -> GainAtBudget:
        """The budget that was asked about."""
        return next(point for point in self.points if point.samples == self.samples)


@one_thread()
def locate_gain(
    outcomes: Outcomes, samples: int, resampling: Resampling, budgets: Sequence[int] = BUDGETS
) -> GainLocation:
    """Say where the gain lies along the budget, and where a budget of `samples` per problem stands.

    It is computed at `budgets`, and at that of `samples`.

    Raises:
        OutcomesError: the table says nothing about gains (`check_tells_of_gains`).
    """
    check_tells_of_gains(outcomes)
    table = outcomes.canonical()
    resampling = resampling.with_groups(table.groups)
    budgets = sorted({*budgets, samples})
    evidence = Evidence(table)
    choices = [choose_for_new_problems(evidence.prior, k) for k in budgets]
    gain_BK = [
        [choose_for_new_problems(prior, k).gain for k in budgets] for prior in evidence.resampled_priors(resampling)
    ]
    spread_K = np.std(gain_BK, axis=0, ddof=1)
    reach_K = float(ndtri((1 + resampling.level) / 2)) * spread_K
    held_out = _held_out(table, budgets, resampling)
    points = tuple(
        GainAtBudget(
            samples=k,
            gain=choice.gain,
            interval=(max(0.0, choice.gain - reach), choice.gain + reach),
            allocation={name: int(n) for name, n in zip(table.policies, choice.allocation_M, strict=True) if n},
            best_single=table.policies[int(choice.single_M.argmax())],
            held_out=estimate,
        )
        for k, choice, reach, estimate in zip(budgets, choices, reach_K.tolist(), held_out, strict=True)
    )
    place = _place(points, samples)
    sharing = dict(zip(table.policies, evidence.prior.sharing_M.tolist(), strict=True))
    contrast_M = evidence.prior.contrast_M - evidence.prior.contrast_M.mean()
    contrast = dict(zip(table.policies, contrast_M.tolist(), strict=True))
    return GainLocation(points, samples, place, outcomes.in_order(sharing), outcomes.in_order(contrast))


def check_tells_of_gains(outcomes: Outcomes) -> None:
    """Check that a prior fitted to this table says something about gains, and not only about where the fit started.

    Raises:
        OutcomesError: there is one policy, one problem (or one group), or one sample of each cell; or all samples have
            the same verdict.
    """
    if len(outcomes.policies) < 2:
        raise OutcomesError("a gain needs two policies or more, but the table has one: add the outcomes of another")
    if outcomes.num_samples_MP.max() < 2:
        raise OutcomesError(
            "one sample of each policy does not tell luck from ability: draw 2 or more samples of each to see where an "
            "ensemble would gain"
        )
    if outcomes.group_P.max() == 0:
        raise OutcomesError("one problem, or one group of them, does not tell what others are like: add problems")
    accepted = int(outcomes.num_correct_MP.sum())
    if accepted in (0, outcomes.num_samples_MP.sum()):
        which, cure = ("every sample is accepted", "harder") if accepted else ("no sample is accepted", "easier")
        raise OutcomesError(f"{which}, which does not tell policies apart: take {cure} problems")


@dataclass(frozen=True)
class NewProblemChoice:
    """Best mixture and best single policy for a problem of which only the prior is known."""

    allocation_M: Ints
    single_M: Ints
    """`[M]` all samples to the best single policy."""
    gain: float
    """What the mixture covers more, as the model expects."""


def choose_for_new_problems(prior: SharedDifficulty, samples: int) -> NewProblemChoice:
    """Choose how to spend `samples` on a new problem."""
    beliefs = Posterior(prior.a_MG, prior.b_MG, prior.weight_G)
    num_policies = len(prior.a_MG)
    allocation_M, covered = good_allocation(beliefs, Budget.of_samples(samples, num_policies))
    alone_M = -np.expm1(beliefs.log_miss(samples)) @ prior.weight_G
    gain = max(0.0, round(covered - float(alone_M.max()), _DECIMALS))
    single_M = np.where(np.arange(num_policies) == alone_M.argmax(), samples, 0)
    return NewProblemChoice(allocation_M, single_M, gain)


def _held_out(table: Outcomes, budgets: list[int], resampling: Resampling) -> list[Estimate | None]:
    """Return the gain at each budget on problems that had no part in the choice."""
    group_P = table.group_P
    num_groups, fewest = int(group_P.max()) + 1, int(table.num_samples_MP.min())
    scored = [k for k in budgets if k <= fewest]
    if num_groups < 4 or not scored:
        return [None] * len(budgets)
    rng = np.random.default_rng(resampling.seed)
    gain_KP, differs_K = np.zeros((len(scored), len(group_P))), np.zeros(len(scored), np.bool_)
    for _ in range(_REPEATS):
        half_P = (rng.permutation(num_groups) % 2)[group_P]
        for half in (0, 1):
            fitted, left_out = np.flatnonzero(half_P != half), np.flatnonzero(half_P == half)
            prior = fit(table.num_samples_MP[:, fitted], table.num_correct_MP[:, fitted])
            counts = table.num_samples_MP[:, left_out], table.num_correct_MP[:, left_out]
            for row, k in enumerate(scored):
                choice = choose_for_new_problems(prior, k)
                differs_K[row] |= np.any(choice.allocation_M != choice.single_M)
                gain_KP[row, left_out] += coverage(*counts, choice.allocation_M) - coverage(*counts, choice.single_M)
    estimates = [
        mean_over_problems(gain_P / _REPEATS, resampling) if differs else NO_DIFFERENCE
        for gain_P, differs in zip(gain_KP, differs_K, strict=True)
    ]
    return [*estimates, *[None] * (len(budgets) - len(scored))]


def _place(points: tuple[GainAtBudget, ...], samples: int) -> Place:
    peak = max(points, key=lambda point: point.gain)
    here = next(point for point in points if point.samples == samples)
    if peak.interval[0] < _LEAST_GAIN:
        return "no contrast"
    if here.gain >= _NEAR_PEAK * peak.gain:
        return "on the bump"
    return "before the bump" if here.samples < peak.samples else "past the bump"
