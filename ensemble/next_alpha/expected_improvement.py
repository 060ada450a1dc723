"""Which α to make next: what each would add to the best mixture of one budget, and whether another is worth making.

The gain of a candidate is the coverage of the best mixture with it, minus that of the best mixture without it. Mixtures
are chosen on some joint draws of whole curves and scored on others, so a candidate that only repeats its neighbours
gains nothing. A new policy is sampled before it is used, so candidates are ranked by expected improvement: in each
draw, the best of a few ways to use the candidate is compared with the best of the same ways without it. Axes: `M`
measured policies, `A` measured and candidate α, `P` problems, `S` draws, `C` columns of a posterior.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import good_allocation
from alphamix.ensemble.next_alpha.gaussian_process import AlphaCurves
from alphamix.ensemble.next_alpha.lines import AlphaError
from alphamix.ensemble.statistics.posterior import Posterior

_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Shares of the budget that a candidate could take from the best mixture without it."""
_MAX_SCREENED, _MAX_REFINED = 60, 6
"""Maximum numbers of α that are screened, and of α that the best mixture is searched for."""
_CHOOSING_DRAWS, _MIN_COLUMNS, _SCORING_DRAWS = 64, 1000, 400
"""Number of draws that mixtures are chosen on, minimum number of pairs of a problem and a draw among them, and number
of draws that mixtures are scored on."""
_CHOOSING_SEED, _SCORING_SEED = 0, 1
_MAX_SD = 1.0
"""Largest standard deviation of the shared curve at a candidate, in logits. At 1, a rate predicted as 50 % may well lie
anywhere between 27 % and 73 %."""
_CERTAIN = 1e7
"""Size a + b of a Beta distribution so narrow that it stands for a known rate."""


@dataclass(frozen=True)
class ProposalOptions:
    """The budget that a new α is wanted for, and the limits of the search."""

    budget: int
    """Samples per problem."""
    low: float | None = None
    """Lowest candidate; by default a quarter of the measured range below that range."""
    high: float | None = None
    """Highest candidate; by default a quarter of the measured range above that range."""
    min_gain: float = 0.002
    """Coverage that a new policy must add to be worth making and sampling."""


@dataclass(frozen=True)
class Candidate:
    """An α that could be made, and what it would add. Gains are differences of coverage."""

    alpha: float
    allocation_M: Ints
    """`[M]` samples of the measured policies in the best mixture with the candidate."""
    share: int
    """Samples of the candidate in that mixture."""
    gain: float
    """Expected gain of that mixture."""
    interval: tuple[float, float]
    """Range that holds 95 % of the draws of the gain."""
    improvement: float
    """Expected gain of the best use in each draw over the best use of the measured policies; never below 0."""
    stderr: float
    """Standard error of the improvement, for other problems of the same kind."""
    chance: float
    """Chance of an improvement above `min_gain`."""


@dataclass(frozen=True)
class Proposal:
    """Candidates, best first, and whether the first is worth making."""

    candidates: list[Candidate]
    allocation_M: Ints
    """`[M]` the best mixture of the measured policies."""
    coverage: float
    """Coverage that the model expects of that mixture."""
    verdict: Literal["make", "below", "flat", "noise"]
    """`make` the first candidate, or a reason not to: its improvement is `below` `min_gain`, comes from curves that may
    as well be `flat` (`AlphaCurves.is_flat`), or is `noise`, below its own standard error. One standard error is enough
    here, since a proposal claims nothing, and a policy is judged by its own samples once it is made."""


def propose(curves: AlphaCurves, options: ProposalOptions) -> Proposal:
    """Rank candidates by expected improvement.

    Raises:
        AlphaError: no α within the limits is known well enough, or there is only one problem.
    """
    if len(curves.response_PM) < 2:
        raise AlphaError(
            "the gain on a single problem says nothing about others: give outcomes of at least two problems"
        )
    measured, grid_A = len(curves.alpha_M), candidates(curves, options)
    rate_SAP = curves.draws(np.concatenate([curves.alpha_M, grid_A]), _CHOOSING_DRAWS, _CHOOSING_SEED)
    without_M, covered = _best(rate_SAP[:, :measured], options.budget)
    kept_A = _screen(rate_SAP, grid_A, without_M, options.budget)
    with_A = [_best(rate_SAP[:, [*range(measured), measured + a]], options.budget)[0] for a in kept_A]
    scored = _score(curves, options, without_M, grid_A[kept_A], with_A)
    ranked = sorted(scored, key=lambda candidate: -candidate.improvement)
    best, verdict = ranked[0], "make"
    if best.improvement < options.min_gain:
        verdict = "below"
    elif curves.is_flat:
        verdict = "flat"
    elif best.improvement < best.stderr:
        verdict = "noise"
    return Proposal(ranked, without_M, covered, verdict)


def candidates(curves: AlphaCurves, options: ProposalOptions) -> Floats:
    """Return round values of α within the limits, away from measured ones, where the shared curve is well known.

    Whatever the limits, no candidate lies more than half the measured range outside it, where the model only repeats
    its prior.

    Raises:
        AlphaError: there is no such α.
    """
    first, last = curves.alpha_M.min(), curves.alpha_M.max()
    low = first - (last - first) / 4 if options.low is None else options.low
    high = last + (last - first) / 4 if options.high is None else options.high
    if not low < high:
        raise AlphaError(f"no α lies between {low:g} and {high:g}: give limits in ascending order")
    low, high = max(low, first - (last - first) / 2), min(high, last + (last - first) / 2)
    if not low < high:
        raise AlphaError(
            f"α was measured from {first:g} to {last:g}, and predictions reach half as far beyond that range: give "
            "limits nearer to it, or sample a policy there"
        )
    step = _round_step((high - low) / _MAX_SCREENED)
    grid_A = step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)
    grid_A = grid_A[np.abs(grid_A[:, None] - curves.alpha_M).min(axis=1) > 0.75 * step]
    grid_A = np.round(grid_A, 10) + 0.0  # adding 0.0 turns -0.0 into 0.0
    if len(grid_A):
        sd_A = np.sqrt(np.maximum(np.diag(curves.shared(grid_A)[1]), 0.0))
        grid_A = grid_A[sd_A <= _MAX_SD]
    if not len(grid_A):
        raise AlphaError(
            f"the curve is too uncertain at every new α from {low:g} to {high:g}: give limits nearer to measured α, or "
            "draw more samples"
        )
    return grid_A


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2.5 and 5 times a power of ten that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return power * next(factor for factor in (1, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def _best(rate_SAP: Floats, budget: int) -> tuple[Ints, float]:
    """Search the best mixture under draws of curves, and return it with its coverage.

    Rates of neighbouring α depend on the same curve. Independent beliefs about each policy would ignore that, and
    spread samples over neighbours. So each column of the posterior is one problem in one draw, where the rates are
    certain; repeats of a problem get draws that are spread over all of them.
    """
    num_draws, num_policies, num_problems = rate_SAP.shape
    repeats = min(num_draws, -(-_MIN_COLUMNS // num_problems))
    problem_C = np.tile(np.arange(num_problems), repeats)
    draw_C = (problem_C + np.repeat(np.arange(repeats) * num_draws // repeats, num_problems)) % num_draws
    rate_AC = np.clip(rate_SAP[draw_C, :, problem_C].T, 1e-9, 1 - 1e-9)
    share_C = np.full(len(draw_C), 1 / len(draw_C))
    beliefs = Posterior(_CERTAIN * rate_AC, _CERTAIN * (1 - rate_AC), share_C)
    return good_allocation(beliefs, Budget.of_samples(budget, num_policies))


def _screen(rate_SAP: Floats, grid_A: Floats, without_M: Ints, budget: int) -> list[int]:
    """Return the indices of the most promising α, no two of them adjacent, judged by a few simple mixtures."""
    measured = len(without_M)
    log_miss_SAP = _log_miss(rate_SAP)
    base_SP = _coverage(log_miss_SAP[:, :measured], without_M)
    ways_A = (_ways(without_M, measured + a, budget) for a in range(len(grid_A)))
    score_A = np.array([_best_gain(log_miss_SAP, ways, base_SP).mean() for ways in ways_A])
    step = np.diff(grid_A).min() if len(grid_A) > 1 else 1.0
    kept: list[int] = []
    for a in np.argsort(-score_A, kind="stable").tolist():
        if len(kept) < _MAX_REFINED and all(abs(grid_A[a] - grid_A[other]) > 1.5 * step for other in kept):
            kept.append(a)
    return kept


def _score(
    curves: AlphaCurves, options: ProposalOptions, without_M: Ints, alpha_A: Floats, with_A: list[Ints]
) -> list[Candidate]:
    """Score the mixture with each candidate on draws that did not choose it."""
    measured, budget = len(curves.alpha_M), options.budget
    log_miss_SAP = _log_miss(curves.draws(np.concatenate([curves.alpha_M, alpha_A]), _SCORING_DRAWS, _SCORING_SEED))
    base_SP = _coverage(log_miss_SAP, without_M)
    # Once more is known, the measured policies may be used better as well, and that gain is not the candidate's.
    ways = [way for place in range(measured) for way in _ways(without_M, place, budget)]
    free_SP = base_SP + _best_gain(log_miss_SAP, ways, base_SP)
    scored: list[Candidate] = []
    for place, (alpha, best_A) in enumerate(zip(alpha_A.tolist(), with_A, strict=True), measured):
        best_at_A = np.insert(best_A, measured, np.zeros(place - measured, np.int64))
        gain_S = (_coverage(log_miss_SAP, best_at_A) - base_SP).mean(axis=1)
        improvement_SP = _best_gain(log_miss_SAP, [best_at_A, *_ways(without_M, place, budget)], free_SP)
        low, high = np.quantile(gain_S, [0.025, 0.975]).tolist()
        scored.append(
            Candidate(
                alpha=alpha,
                allocation_M=best_A[:measured],
                share=int(best_A[measured]),
                gain=float(gain_S.mean()),
                interval=(low, high),
                improvement=float(improvement_SP.mean()),
                stderr=float(np.sqrt(improvement_SP.var(axis=1).mean() / (improvement_SP.shape[1] - 1))),
                chance=float((improvement_SP.mean(axis=1) > options.min_gain).mean()),
            )
        )
    return scored


def _log_miss(rate_SAP: Floats) -> Floats:
    """Return the log of the chance that one sample fails, kept finite where the rate is 1."""
    return np.log1p(-np.minimum(rate_SAP, 1 - 1e-12))


def _coverage(log_miss_SAP: Floats, allocation_A: Ints) -> Floats:
    """Return the coverage of an allocation in each draw, `[S, P]`; policies beyond its end get no samples."""
    total_SP = np.zeros((log_miss_SAP.shape[0], log_miss_SAP.shape[2]))
    for a in np.flatnonzero(allocation_A).tolist():
        total_SP += allocation_A[a] * log_miss_SAP[:, a]
    return -np.expm1(total_SP)


def _best_gain(log_miss_SAP: Floats, ways: Sequence[Ints], base_SP: Floats) -> Floats:
    """Return the gain over `base_SP` of the allocation that covers most in each draw, `[S, P]`, or 0 if none gains."""
    best_SP = np.zeros_like(base_SP)
    for way_A in ways:
        gain_SP = _coverage(log_miss_SAP, way_A) - base_SP
        better_S = gain_SP.mean(axis=1) > best_SP.mean(axis=1)
        best_SP[better_S] = gain_SP[better_S]
    return best_SP


def _ways(without_M: Ints, place: int, budget: int) -> list[Ints]:
    """Return allocations that give a share of the budget to the policy at `place`, and the rest as without it."""
    ways: list[Ints] = []
    for share in _SHARES:
        parts_A = np.zeros(max(place + 1, len(without_M)))
        parts_A[: len(without_M)] = (1 - share) * without_M
        parts_A[place] += share * without_M.sum()
        split = largest_remainder({str(a): part for a, part in enumerate(parts_A.tolist())}, budget)
        ways.append(np.array(list(split.values())))
    return ways
