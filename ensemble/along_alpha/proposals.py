"""Which α to make next: what each would add to the best mixture of one budget, and when more would not pay.

The gain of a candidate is the coverage of the best mixture with it minus that of the best mixture without it. Mixtures
are chosen under the model's mean beliefs (`mixture.search`) and scored on joint draws of whole curves: a candidate that
only repeats its neighbours gains nothing in any draw. A new policy is sampled before it is used, so what counts is the
expected improvement: in each draw the best of a few ways to use the candidate, or none. Axes: `M` measured policies,
`A` measured and candidate α, `P` problems, `S` draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ensemble.allocation import largest_remainder
from ensemble.along_alpha.curves import Curves
from ensemble.along_alpha.sweeps import AlphaError
from ensemble.mixture.search import Budget, best_allocation
from ensemble.pass_at_k import Floats, Ints

_SHARES = (0.125, 0.25, 0.5, 1.0)
"""Parts of the budget that a candidate might take from the best mixture without it, should it turn out well."""
_GRID, _REFINED = 60, 6
"""At most so many α are screened, and for so many the best mixture is searched."""
_SCREENING_DRAWS = 64


@dataclass(frozen=True)
class Question:
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
    """Expected gain of whatever use turns out best, no use included: never below 0."""
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


def propose(curves: Curves, question: Question) -> Proposal:
    """Rank candidates by expected improvement.

    Raises:
        AlphaError: no α within the limits is known well enough.
    """
    budget = question.budget
    posterior = curves.posterior(curves.alpha_M)
    without_M = best_allocation(posterior, Budget.of_samples(budget, len(curves.alpha_M))).allocation_M
    grid_A = candidates(curves, question)
    screened = _screen(curves, question, without_M, grid_A)
    ranked = sorted(_refine(curves, question, without_M, screened), key=lambda one: -one.improvement)
    best, verdict = ranked[0], "make"
    if best.improvement < question.min_gain:
        verdict = "below"
    elif curves.is_flat:
        verdict = "flat"
    elif best.improvement < best.stderr:
        verdict = "noise"
    return Proposal(ranked, without_M, posterior.coverage(without_M), verdict)


def candidates(curves: Curves, question: Question) -> Floats:
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


def _screen(curves: Curves, question: Question, without_M: Ints, grid_A: Floats) -> Floats:
    """Keep the most promising α, none beside another, judged by a few simple mixtures on few draws."""
    measured = len(curves.alpha_M)
    log_miss_SAP = _log_miss(curves, grid_A, _SCREENING_DRAWS, question.seed)
    ways = _ways(without_M, question.budget)
    base_SP = _coverage(log_miss_SAP[:, :measured], without_M)
    score_A = np.array(
        [
            _used_best([_coverage(log_miss_SAP[:, [*range(measured), a]], way) - base_SP for way in ways]).mean()
            for a in range(measured, measured + len(grid_A))
        ]
    )
    step = np.diff(grid_A).min() if len(grid_A) > 1 else 1.0
    kept: list[float] = []
    for alpha in grid_A[np.argsort(-score_A, kind="stable")].tolist():
        if len(kept) < _REFINED and all(abs(alpha - other) > 1.5 * step for other in kept):
            kept.append(alpha)
    return np.array(kept)


def _refine(curves: Curves, question: Question, without_M: Ints, alpha_A: Floats) -> list[Candidate]:
    """Search the best mixture with each candidate and score it on draws."""
    measured = len(curves.alpha_M)
    log_miss_SAP = _log_miss(curves, alpha_A, question.num_draws, question.seed + 1)
    base_SP = _coverage(log_miss_SAP[:, :measured], without_M)
    found: list[Candidate] = []
    for place, alpha in enumerate(alpha_A.tolist()):
        beliefs = curves.posterior(np.append(curves.alpha_M, alpha))
        best = best_allocation(beliefs, Budget.of_samples(question.budget, measured + 1)).allocation_M
        members_SAP = log_miss_SAP[:, [*range(measured), measured + place]]
        gains = [_coverage(members_SAP, way) - base_SP for way in (best, *_ways(without_M, question.budget))]
        gain_S, used_SP = gains[0].mean(axis=1), _used_best(gains)
        low, high = np.quantile(gain_S, [0.025, 0.975])
        found.append(
            Candidate(
                alpha=alpha,
                allocation_M=best[:measured],
                share=int(best[measured]),
                gain=float(gain_S.mean()),
                interval=(float(low), float(high)),
                improvement=float(used_SP.mean()),
                stderr=float(np.sqrt(used_SP.var(axis=1).mean() / max(used_SP.shape[1] - 1, 1))),
                chance=float((used_SP.mean(axis=1) > question.min_gain).mean()),
            )
        )
    return found


def _log_miss(curves: Curves, alpha_A: Floats, num_draws: int, seed: int) -> Floats:
    """Log of the chance that one sample fails, in each draw, `[S, M + A, P]`: measured policies first."""
    rate_SAP = curves.draws(np.concatenate([curves.alpha_M, alpha_A]), num_draws, seed)
    return np.log1p(-np.minimum(rate_SAP, 1 - 1e-12))


def _coverage(log_miss_SAP: Floats, allocation_A: Ints) -> Floats:
    """`[S, P]` coverage of an allocation in each draw."""
    return -np.expm1(np.einsum("sap,a->sp", log_miss_SAP, allocation_A.astype(np.float64), optimize=True))


def _used_best(gains: Sequence[Floats]) -> Floats:
    """`[S, P]` gain of the way that is best in each draw, 0 where all are worse than none."""
    gain_WSP = np.stack([np.zeros_like(gains[0]), *gains])
    best_S = gain_WSP.mean(axis=2).argmax(axis=0)
    return gain_WSP[best_S, np.arange(len(best_S))]


def _ways(without_M: Ints, budget: int) -> list[Ints]:
    """Allocations that give a part of the budget to a candidate, `[M + 1]` each."""
    names = [str(m) for m in range(len(without_M) + 1)]
    ways: list[Ints] = []
    for share in _SHARES:
        parts = np.append((1 - share) * without_M, share * without_M.sum())
        split = largest_remainder(dict(zip(names, parts.tolist(), strict=True)), budget)
        ways.append(np.array([split[name] for name in names]))
    return ways
