"""Claims of the paper (arXiv 2605.28751), each tested on the outcomes of one run.

A claim has one or several parts, each a number that the claim says is above 0. A claim is supported when all its parts
are above 0, refuted when one is below 0, undecided otherwise, and not examined when the outcomes cannot test it. The
claims of a run are decided together: a verdict needs an interval on one side of 0 *and* a p-value that survives Holm's
correction over all claims examined. The statements are our wording, and no number of the paper is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy.special import stdtr

from alphamix.ensemble.analysis.complementarity import cross_fitted_wins
from alphamix.ensemble.analysis.failure_frontier import failure_rates, moderate_range
from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.mixture.gains import StrictGain
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, means_over_problems
from alphamix.ensemble.statistics.trend_test import TrendLine, trend

ClaimVerdict = Literal["supported", "refuted", "undecided", "not examined"]

_STATEMENTS = {
    "trade": (
        "Training under higher coverage trades optimisation failures for correctness failures.",
        "Optimisation failures that rise, or correctness failures that fall, from α = 0 to α = 1.",
    ),
    "interpolation": (
        "Interpolation traces the line between the two ends.",
        "Rates with the opposite trend within 0 ≤ α ≤ 1, or an inner α whose rate lies outside those of the ends.",
    ),
    "extrapolation": (
        "Extrapolation continues the line beyond its ends.",
        "More optimisation failures at moderate α > 1 than at α = 1, or more correctness failures at moderate α < 0 "
        "than at α = 0.",
    ),
    "problems": (
        "The two ends solve different problems.",
        "An end that one half of the samples puts ahead on some problems, and the other half behind on the same.",
    ),
}
"""The claims about α: each statement, and the observations that would refute it."""


_DIVISIONS = 20
"""Divisions of the samples that the claim `problems` averages over."""


@dataclass(frozen=True)
class ClaimPart:
    """A number that a claim says is above 0."""

    statistic: str
    """What is estimated, in words."""
    estimate: Estimate
    """A share of samples or problems, or its slope. The interval is not adjusted for the number of claims."""
    p_value: float
    """Two-sided p-value of no effect, not adjusted for the number of claims."""


@dataclass(frozen=True)
class Claim:
    """A statement with the numbers that test it and the verdict."""

    key: str
    statement: str
    falsified_by: str
    """Observations that would refute the statement."""
    parts: tuple[ClaimPart, ...]
    """The numbers; empty where the claim was not examined."""
    verdict: ClaimVerdict
    p_value: float | None
    """p-value of the whole claim, adjusted by Holm's method; None where the claim was not examined."""
    reason: str | None = None
    """Reason why the claim was not examined."""


def examine(
    outcomes: Outcomes,
    alphas: Mapping[str, float | None],
    gains: Mapping[Currency, StrictGain | None],
    resampling: Resampling,
) -> list[Claim]:
    """Test each claim on the outcomes, and return all seven in the paper's order.

    Args:
        outcomes: counts with failure classes.
        alphas: α by policy, None where a policy has none.
        gains: coverage of the ensemble minus that of the single policy that it is least certain to beat, at the same
            budget in each currency; None or absent where it is unknown.
        resampling: how intervals are made; p-values are compared with 1 - `level`.
    """
    alpha_claims = _AlphaClaims(outcomes, TrendLine.of(outcomes, alphas), resampling)
    tested = {
        "trade": alpha_claims.trade(),
        "interpolation": alpha_claims.interpolation(),
        "extrapolation": alpha_claims.extrapolation(alphas),
        "problems": alpha_claims.problems(),
    }
    claims = [_claim(key, *_STATEMENTS[key], parts_or_reason) for key, parts_or_reason in tested.items()]
    for currency in CURRENCIES:
        claims.append(
            _claim(
                f"ensemble.{currency}",
                f"The ensemble covers more than every single policy at matched {currency}.",
                f"Coverage below that of some single policy for the same {currency}.",
                _gain(gains.get(currency), currency, resampling.num_units(len(outcomes.problems))),
            )
        )
    return _decide(claims, 1 - resampling.level)


def claims_json(claims: Sequence[Claim], level: float) -> dict[str, Any]:
    """Return the content of `claims.json`."""
    return {
        "paper": "arXiv 2605.28751",
        "level": level,
        "correction": "holm",
        "claims": [asdict(claim) for claim in claims],
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance that any true null hypothesis falls below a level is at most that level.

    The i-th smallest of m p-values is multiplied by m - i + 1, and raised to the one before it if it is smaller
    (Holm 1979, Scandinavian Journal of Statistics 6, 65-70).
    """
    order = np.argsort(p_values)
    scaled = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted.tolist()


class _AlphaClaims:
    """The claims about α. Each method returns the parts of a claim, or the reason why there are none."""

    def __init__(self, outcomes: Outcomes, line: TrendLine, resampling: Resampling) -> None:
        self._outcomes = outcomes
        self._line = line
        self._resampling = resampling
        self._rates_AP = {name: line.rates(rate_MP) for name, rate_MP in failure_rates(outcomes).items()}
        if not {0.0, 1.0} <= set(line.alpha_A.tolist()):
            self._obstacle = "no policies at α = 0 and α = 1"
        elif not {"optimisation", "correctness"} <= self._rates_AP.keys():
            self._obstacle = "the outcomes have no failure classes"
        else:
            self._obstacle = None

    def trade(self) -> list[ClaimPart] | str:
        if self._obstacle:
            return self._obstacle
        optimisation, correctness = self._at("optimisation"), self._at("correctness")
        return self._parts(
            {
                "optimisation failures at α = 0 - at α = 1": optimisation[0] - optimisation[1],
                "correctness failures at α = 1 - at α = 0": correctness[1] - correctness[0],
            }
        )

    def interpolation(self) -> list[ClaimPart] | str:
        if self._obstacle:
            return self._obstacle
        inside_A = (self._line.alpha_A >= 0) & (self._line.alpha_A <= 1)
        alpha_A = self._line.alpha_A[inside_A]
        if len(alpha_A) < 3:
            return "no policy with 0 < α < 1"
        parts: list[ClaimPart] = []
        for name, sign, verb in (("optimisation", -1, "fall"), ("correctness", 1, "rise")):
            rising_AP = sign * self._rates_AP[name][inside_A]
            rise = trend(rising_AP, alpha_A, self._resampling)
            statistic = f"{verb} of {name} failures per unit of α within 0 ≤ α ≤ 1 (Page's trend test)"
            parts += [ClaimPart(statistic, rise.slope, rise.p_value), self._tightest(name, rising_AP, alpha_A)]
        return parts

    def extrapolation(self, alphas: Mapping[str, float | None]) -> list[ClaimPart] | str:
        if self._obstacle:
            return self._obstacle
        moderate = moderate_range(self._outcomes, alphas, self._resampling)
        usable = [alpha for alpha in self._line.alpha_A.tolist() if moderate is not None and moderate.holds(alpha)]
        sides = {
            ("optimisation", 1.0): [alpha for alpha in usable if alpha > 1],
            ("correctness", 0.0): [alpha for alpha in usable if alpha < 0],
        }
        differences: dict[str, Floats] = {}
        for (name, end), beyond in sides.items():
            if beyond:
                at = self._at(name)
                statistic = (
                    f"{name} failures at α = {end:g} - mean at α = {', '.join(f'{alpha:g}' for alpha in beyond)}"
                )
                differences[statistic] = at[end] - np.mean([at[alpha] for alpha in beyond], axis=0)
        return self._parts(differences) if differences else "no policy with α < 0 or α > 1 in the moderate range"

    def problems(self) -> list[ClaimPart] | str:
        if not {0.0, 1.0} <= set(self._line.alpha_A.tolist()):
            return "no policies at α = 0 and α = 1"
        n_MP, c_MP = self._outcomes.num_samples_MP, self._outcomes.num_correct_MP
        if n_MP.min() < 2:
            return "some policy has only one sample on some problem"
        ends_2M = self._line.share_AM[np.isin(self._line.alpha_A, (0, 1))] > 0
        statistic = "solve rate at α = {} - at α = {}, on problems where the other half of the samples has it higher"

        def parts(divisions: int) -> list[ClaimPart]:
            low_P, high_P = cross_fitted_wins(ends_2M @ n_MP, ends_2M @ c_MP, self._resampling.seed, divisions)
            return self._parts({statistic.format(0, 1): low_P, statistic.format(1, 0): high_P})

        averaged = parts(_DIVISIONS)
        # Means over divisions are skewed towards losses, so a loss needs the test of a single division.
        return averaged if all(part.estimate.value > 0 for part in averaged) else parts(1)

    def _at(self, name: str) -> dict[float, Floats]:
        return dict(zip(self._line.alpha_A.tolist(), self._rates_AP[name], strict=True))

    def _tightest(self, name: str, rising_AP: Floats, alpha_A: Floats) -> ClaimPart:
        """Test that inner α lie between the ends, at the inner α and the end where this is least certain."""
        margins_VP = np.concatenate([rising_AP[1:-1] - rising_AP[0], rising_AP[-1] - rising_AP[1:-1]])
        against = [(inner, end) for end in (0, 1) for inner in alpha_A[1:-1].tolist()]
        estimates = means_over_problems(margins_VP, self._resampling)
        num_units = self._resampling.num_units(len(self._outcomes.problems))
        p_values = [_p_value(estimate, num_units) for estimate in estimates]
        worst = min(range(len(against)), key=lambda v: np.sign(estimates[v].value) * (1 - p_values[v]))
        inner, end = against[worst]
        statistic = (
            f"{name} failures: distance between α = {inner:g} and α = {end:g}, the least certain of {len(against)} "
            "such distances of inner α from the ends"
        )
        # All distances must be above 0, which the least certain one decides without a correction. One below 0 was
        # picked from many, so it gets Bonferroni's.
        p_value = p_values[worst] if estimates[worst].value > 0 else min(1.0, len(against) * p_values[worst])
        return ClaimPart(statistic, estimates[worst], p_value)

    def _parts(self, differences: Mapping[str, Floats]) -> list[ClaimPart]:
        estimates = means_over_problems(np.stack(list(differences.values())), self._resampling)
        num_problems = self._resampling.num_units(len(self._outcomes.problems))
        return [
            ClaimPart(statistic, estimate, _p_value(estimate, num_problems))
            for statistic, estimate in zip(differences, estimates, strict=True)
        ]


def _gain(strict: StrictGain | None, currency: Currency, num_problems: int) -> list[ClaimPart] | str:
    if strict is None:
        return f"no ensemble and single policies were compared at matched {currency}"
    statistic = (
        f"coverage of the ensemble - of {strict.policy} alone, the least certain of {strict.num_compared} single "
        f"policies, at matched {currency}"
    )
    p_value = _p_value(strict.gain, num_problems)
    # As above: every policy must be beaten, and one that is not was picked from all.
    return [
        ClaimPart(statistic, strict.gain, p_value if strict.gain.value > 0 else min(1.0, strict.num_compared * p_value))
    ]


def _claim(key: str, statement: str, falsified_by: str, parts: list[ClaimPart] | str) -> Claim:
    """Return a claim before the verdict, with a p-value that is not yet adjusted."""
    if isinstance(parts, str):
        return Claim(key, statement, falsified_by, (), "not examined", None, parts)
    if all(part.estimate.value > 0 for part in parts):
        # All parts must hold, which is an intersection-union test: the largest p-value counts, without a correction.
        p_value = max(part.p_value for part in parts)
    else:
        p_value = min(1.0, len(parts) * min(part.p_value for part in parts if part.estimate.value <= 0))
    return Claim(key, statement, falsified_by, tuple(parts), "undecided", p_value)


def _decide(claims: Sequence[Claim], alpha: float) -> list[Claim]:
    examined = [claim.p_value for claim in claims if claim.p_value is not None]
    adjusted = iter(holm(examined))
    decided: list[Claim] = []
    for claim in claims:
        if claim.p_value is None:
            decided.append(claim)
            continue
        p_value = next(adjusted)
        signs = [part.estimate.sign for part in claim.parts]
        verdict: ClaimVerdict = "undecided"
        if p_value <= alpha and all(sign == 1 for sign in signs):
            verdict = "supported"
        elif p_value <= alpha and -1 in signs:
            verdict = "refuted"
        decided.append(replace(claim, p_value=p_value, verdict=verdict))
    return decided


def _p_value(estimate: Estimate, num_problems: int) -> float:
    """Return a two-sided p-value by Student's t, with one degree of freedom less than there are problems or groups.

    Where all problems have the same value, t is infinite however few they are. The sign test replaces it, which asks
    only how likely all problems are to fall on one side.
    """
    if estimate.stderr is None or estimate.value == 0:
        return 1.0
    if estimate.stderr == 0:
        return 0.5 ** (num_problems - 1)
    return float(2 * stdtr(num_problems - 1, -abs(estimate.value) / estimate.stderr))
