"""Which α to make next: what each would add to the best mixture of one budget, and when more would not pay.

The gain of a candidate is the coverage of the best mixture with it minus that of the best mixture without it. Mixtures
are chosen on some joint draws of whole curves (by `mixture.search`) and scored on others: a candidate that only repeats
its neighbours gains nothing. A new policy is sampled before it is used, so what counts is the expected improvement: in
each draw the best of a few ways to use the candidate against the best of the same ways without it. Axes: `M` measured
policies, `A` measured and candidate α, `P` problems, `S` draws, `C` columns of a posterior.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alphamix.ensemble.allocation import largest_remainder
from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.best_allocation import Choice, best_allocation
from alphamix.ensemble.next_alpha.gaussian_process import AlphaCurves
from alphamix.ensemble.next_alpha.lines import AlphaError
from alphamix.ensemble.statistics.beta_posterior import Posterior

_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Parts of the budget that a candidate might take from the best mixture without it, should it turn out well."""
_GRID, _REFINED = 60, 6
"""At most so many α are screened, and for so many the best mixture is searched."""
_CHOOSING_DRAWS, _COLUMNS = 64, 1000
"""Draws that mixtures are chosen on, and at least so many problems, each in one or more draws."""
_CERTAIN = 1e7
"""Size of a Beta distribution that is as good as a known rate."""


@dataclass(frozen=True)
class ProposalOptions:
    """What a new α is wanted for, and how far the answer may reach."""

    budget: int
    """Samples per problem."""
    low: float | None = None
    """Lowest candidate; by default a quarter of the measured range below it."""
    high: float | None = None
    """Highest candidate, likewise."""
    min_gain: float = 0.002
    """Coverage that a new policy must add to be worth its making and sampling."""
    max_sd: float = 1.0
    """No candidate where the curve that all problems share is less certain than this, in logits: a standard deviation
    of 1 makes a rate of 50 % anything between 27 % and 73 %."""
    num_draws: int = 400
    seed: int = 0


@dataclass(frozen=True)
class Candidate:
    """An α that could be made, and what it would add. Gains are differences of coverage."""

    alpha: float
    allocation_M: Ints
    """`[M]` what the best mixture with the candidate leaves to the measured policies."""
    share: int
    """What it gives to the candidate."""
    gain: float
    """Expected gain of that mixture."""
    interval: tuple[float, float]
    """95 % of the draws of its gain."""
    improvement: float
    """Expected gain of whatever use turns out best over what does best without it: never below 0."""
    stderr: float
    """Of the improvement, over problems: what it could be on other problems of the same kind."""
    chance: float
    """Of an improvement above `min_gain`."""


@dataclass(frozen=True)
class Proposal:
    """Candidates, best first, and whether to go on."""

    candidates: list[Candidate]
    allocation_M: Ints
    """`[M]` the best mixture of the measured policies."""
    coverage: float
    """What the model expects of it."""
    verdict: Literal["make", "below", "flat", "noise"]
    """Make the first candidate; or do not: its improvement is below `min_gain`, or rests on curves that could as well
    be flat (`Curves.is_flat`), or is noise, below its own standard error. One error is enough: a proposal claims
    nothing, and what was made is judged by its own samples."""


def propose(curves: AlphaCurves, question: ProposalOptions) -> Proposal:
    """Rank candidates by expected improvement.

    Raises:
        AlphaError: no α within the limits is known well enough, or there is one problem only.
    """
    if len(curves.response_PM) < 2:
        raise AlphaError("what one problem gains says nothing of others: give outcomes of two problems or more")
    measured, grid_A = len(curves.alpha_M), candidates(curves, question)
    rate_SAP = curves.draws(np.concatenate([curves.alpha_M, grid_A]), _CHOOSING_DRAWS, question.seed)
    without = _best(rate_SAP[:, :measured], question.budget)
    kept_A = _screen(rate_SAP, grid_A, without.allocation_M, question.budget)
    with_A = [_best(rate_SAP[:, [*range(measured), measured + a]], question.budget) for a in kept_A]
    found = _score(curves, question, without.allocation_M, grid_A[kept_A], [one.allocation_M for one in with_A])
    ranked = sorted(found, key=lambda one: -one.improvement)
    best, verdict = ranked[0], "make"
    if best.improvement < question.min_gain:
        verdict = "below"
    elif curves.is_flat:
        verdict = "flat"
    elif best.improvement < best.stderr:
        verdict = "noise"
    return Proposal(ranked, without.allocation_M, without.certificate.objective, verdict)


def candidates(curves: AlphaCurves, question: ProposalOptions) -> Floats:
    """List round values of α between the limits, away from measured ones, where the shared curve is known.

    Whatever the limits, none lies further out than half the measured range: there the model only repeats its prior.

    Raises:
        AlphaError: there are none.
    """
    first, last = curves.alpha_M.min(), curves.alpha_M.max()
    low = first - (last - first) / 4 if question.low is None else question.low
    high = last + (last - first) / 4 if question.high is None else question.high
    if not low < high:
        raise AlphaError(f"there is no α from {low:g} to {high:g}: give limits in ascending order")
    low, high = max(low, first - (last - first) / 2), min(high, last + (last - first) / 2)
    if not low < high:
        raise AlphaError(
            f"α was measured from {first:g} to {last:g}, and half as far beyond is all that can be foreseen: give "
            "limits nearer to these, or sample a policy there"
        )
    step = _round_step((high - low) / _GRID)
    grid_A = step * np.arange(np.ceil(low / step - 1e-9), np.floor(high / step + 1e-9) + 1)
    grid_A = grid_A[np.abs(grid_A[:, None] - curves.alpha_M).min(axis=1) > 0.75 * step]
    grid_A = np.round(grid_A, 10) + 0.0
    if len(grid_A):
        sd_A = np.sqrt(np.maximum(np.diag(curves.shared(grid_A)[1]), 0.0))
        grid_A = grid_A[sd_A <= question.max_sd]
    if not len(grid_A):
        raise AlphaError(
            f"no new α from {low:g} to {high:g} is known to {question.max_sd:g} logits: give limits nearer to measured "
            "ones, or sample more"
        )
    return grid_A


def _round_step(least: float) -> float:
    """Smallest of 1, 2.5, 5 times a power of ten that is not below `least`."""
    power = 10.0 ** np.floor(np.log10(least))
    return power * next(factor for factor in (1, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))


def _best(rate_SAP: Floats, budget: int) -> Choice:
    """Search the best mixture under draws of curves.

    Beliefs that are independent from policy to policy would spread samples over neighbours, as if these did not know
    of the same curve. So each column is one problem in one draw, where rates are certain; shared curves are dealt out
    over the problems.
    """
    num_draws, num_policies, num_problems = rate_SAP.shape
    repeats = min(num_draws, -(-_COLUMNS // num_problems))
    problem_C = np.tile(np.arange(num_problems), repeats)
    draw_C = (problem_C + np.repeat(np.arange(repeats) * num_draws // repeats, num_problems)) % num_draws
    rate_AC = np.clip(rate_SAP[draw_C, :, problem_C].T, 1e-9, 1 - 1e-9)
    share_C = np.full(len(draw_C), 1 / len(draw_C))
    beliefs = Posterior(_CERTAIN * rate_AC, _CERTAIN * (1 - rate_AC), share_C)
    return best_allocation(beliefs, Budget.of_samples(budget, num_policies), max_nodes=0)


def _screen(rate_SAP: Floats, grid_A: Floats, without_M: Ints, budget: int) -> list[int]:
    """Keep the places of the most promising α, none beside another, judged by a few simple mixtures."""
    measured = len(without_M)
    log_miss_SAP = _log_miss(rate_SAP)
    base_SP = _coverage(log_miss_SAP[:, :measured], without_M)
    score_A = np.array(
        [
            _used_best((_coverage(log_miss_SAP, way) for way in _ways(without_M, place, budget)), base_SP).mean()
            for place in range(measured, measured + len(grid_A))
        ]
    )
    step = np.diff(grid_A).min() if len(grid_A) > 1 else 1.0
    kept: list[int] = []
    for place in np.argsort(-score_A, kind="stable").tolist():
        if len(kept) < _REFINED and all(abs(grid_A[place] - grid_A[other]) > 1.5 * step for other in kept):
            kept.append(place)
    return kept


def _score(
    curves: AlphaCurves, question: ProposalOptions, without_M: Ints, alpha_A: Floats, with_A: list[Ints]
) -> list[Candidate]:
    """Score mixtures with each candidate on draws that did not choose them."""
    measured, budget = len(curves.alpha_M), question.budget
    rate_SAP = curves.draws(np.concatenate([curves.alpha_M, alpha_A]), question.num_draws, question.seed + 1)
    log_miss_SAP = _log_miss(rate_SAP)
    base_SP = _coverage(log_miss_SAP, without_M)
    # The measured policies may be used better too, once more is known: that is no merit of a candidate's.
    ways = [way for place in range(measured) for way in _ways(without_M, place, budget)]
    free_SP = base_SP + _used_best((_coverage(log_miss_SAP, way) for way in ways), base_SP)
    found: list[Candidate] = []
    for place, (alpha, best_A) in enumerate(zip(alpha_A.tolist(), with_A, strict=True), measured):
        best_at_A = _at(best_A, place)
        gain_S = (_coverage(log_miss_SAP, best_at_A) - base_SP).mean(axis=1)
        ways = [best_at_A, *_ways(without_M, place, budget)]
        used_SP = _used_best((_coverage(log_miss_SAP, way) for way in ways), free_SP)
        low, high = np.quantile(gain_S, [0.025, 0.975])
        found.append(
            Candidate(
                alpha=alpha,
                allocation_M=best_A[:measured],
                share=int(best_A[measured]),
                gain=float(gain_S.mean()),
                interval=(float(low), float(high)),
                improvement=float(used_SP.mean()),
                stderr=float(np.sqrt(used_SP.var(axis=1).mean() / (used_SP.shape[1] - 1))),
                chance=float((used_SP.mean(axis=1) > question.min_gain).mean()),
            )
        )
    return found


def _log_miss(rate_SAP: Floats) -> Floats:
    """Log of the chance that one sample fails."""
    return np.log1p(-np.minimum(rate_SAP, 1 - 1e-12))


def _coverage(log_miss_SAP: Floats, allocation_A: Ints) -> Floats:
    """`[S, P]` coverage of an allocation in each draw; policies beyond its end get nothing."""
    used_A = np.flatnonzero(allocation_A)
    total_SP = np.zeros((log_miss_SAP.shape[0], log_miss_SAP.shape[2]))
    for a in used_A.tolist():
        total_SP += allocation_A[a] * log_miss_SAP[:, a]
    return -np.expm1(total_SP)


def _used_best(covered: Iterable[Floats], base_SP: Floats) -> Floats:
    """`[S, P]` gain over `base_SP` of the way that covers most in each draw, 0 where all cover less."""
    used_SP = np.zeros_like(base_SP)
    for covered_SP in covered:
        gain_SP = covered_SP - base_SP
        better_S = gain_SP.mean(axis=1) > used_SP.mean(axis=1)
        used_SP[better_S] = gain_SP[better_S]
    return used_SP


def _ways(without_M: Ints, place: int, budget: int) -> list[Ints]:
    """Allocations that give a part of the budget to the policy at `place`, and the rest as without it."""
    ways: list[Ints] = []
    for share in _SHARES:
        parts_A = np.zeros(max(place + 1, len(without_M)))
        parts_A[: len(without_M)] = (1 - share) * without_M
        parts_A[place] += share * without_M.sum()
        split = largest_remainder({str(a): part for a, part in enumerate(parts_A.tolist())}, budget)
        ways.append(np.array(list(split.values())))
    return ways


def _at(allocation_A: Ints, place: int) -> Ints:
    """Move the last policy of an allocation to `place`."""
    moved_A = np.zeros(place + 1, np.int64)
    moved_A[: len(allocation_A) - 1] = allocation_A[:-1]
    moved_A[place] = allocation_A[-1]
    return moved_A
