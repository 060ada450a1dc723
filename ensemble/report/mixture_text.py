"""The text of `alphamix mix`: advice in one sentence, tables for a terminal, and JSON for programs.

Shares are in [0, 1] in JSON and percentages elsewhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.mixture.compare_arms import Comparison
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS, CrossFit, Division
from alphamix.ensemble.mixture.gains import ArmEstimates, StrictGain, naive_and_honest
from alphamix.ensemble.report.formatting import (
    allocation_label,
    arm_label,
    bare,
    interval_note,
    percent,
    plain_table,
    points,
    shown,
)
from alphamix.ensemble.statistics.intervals import Estimate

_DIVISION_LABELS: dict[Division, str] = {"problems": "new problems", "samples": "new samples"}
_GAIN_LABELS = {"mixture": "mixture − single", "equal": "equal − single"}
_NEGLIGIBLE = 5e-5
"""Difference of coverage that rounds to 0.00 points."""


def sentence(comparison: Comparison, by: Division, *, is_strict: bool = False) -> str:
    """Return advice on what to do, and how certain it is. Only a pilot's advice quotes a model, and says so.

    With `is_strict`, the mixture is advised only if it beats every single policy, not just the one that was picked.
    """
    spend = f"Spend {comparison.budget} per problem as {allocation_label(_allocation(comparison))}"
    mixture, gain = comparison.coverage.get("mixture"), comparison.gains.get("mixture")
    if mixture is None:
        return _from_pilot(comparison, spend)
    covered = mixture.honest.get(by)
    if covered is None:
        return (
            f"{spend}: on the outcomes that chose it, it covers {percent(mixture.naive)}, which flatters it. There is "
            f"no honest figure: {_reason(comparison, f'mixture, honest by {by}')}."
        )
    honest = gain.honest.get(by) if gain else None
    if honest is None:
        missing = "best_single" if "best_single" in comparison.undefined else f"best_single, honest by {by}"
        best, expected = _best_expected(comparison)
        return (
            f"{spend}: it covers {percent(covered)}. What that gains over a single policy is unknown, since "
            f"{_reason(comparison, missing)}. A model expects {100 * expected:.1f} % of {shown(best)} alone."
        )
    strict = comparison.strict.get("mixture")
    if is_strict and honest.sign > 0 and not beats_every(strict):
        return f"Use {shown(_single(comparison))} alone. {against_every(strict)}"
    return _from_gain(comparison, by, spend, covered, honest)


def _from_gain(comparison: Comparison, by: Division, spend: str, covered: Estimate, gain: Estimate) -> str:
    single = shown(_single(comparison))
    if _allocation(comparison) == comparison.arms["best_single"].allocation:
        return f"Use {single} alone: it is the best mixture, and covers {percent(covered)}."
    over = f"{points(gain)} over {single}, the policy that you would have picked alone"
    strict = comparison.strict.get("mixture")
    if gain.sign > 0 or (by == "problems" and beats_every(strict)):
        every = f" {against_every(strict)}" if by == "problems" else ""
        return f"{spend}: it covers {percent(covered)}, {over}. The gain is more than chance explains.{every}"
    if gain.sign < 0:
        return f"Use {single} alone: the best mixture that these outcomes can choose gains {over}."
    mixture = allocation_label(_allocation(comparison))
    return (
        f"Use {single} alone: the best mixture ({mixture}) gains {over}. Chance could explain that gain; more "
        "problems, or more samples of each, would settle it."
    )


def beats_every(strict: StrictGain | None) -> bool:
    """Return whether an arm surely beats every single policy."""
    return strict is not None and strict.is_complete and strict.gain.sign > 0


def against_every(strict: StrictGain | None) -> str:
    """Say whether the mixture beats every single policy, which is more than beating the one that was picked."""
    if strict is None:
        return "No single policy has enough samples to be compared with the mixture."
    compared = "every single policy" if strict.is_complete else "every single policy with enough samples"
    nearest = f"over {shown(strict.policy)} it gains {points(strict.gain)}"
    if strict.gain.sign > 0:
        return f"It beats {compared}: even {nearest}."
    return f"Whether it beats {compared} is less certain: {nearest}."


def _single(comparison: Comparison) -> str:
    return next(iter(comparison.arms["best_single"].allocation))


def _from_pilot(comparison: Comparison, spend: str) -> str:
    best, expected = _best_expected(comparison)
    forecast = comparison.forecast
    assert forecast is not None
    low, high = (100 * bound for bound in forecast.interval)
    return (
        f"{spend}: the model of shared difficulty expects it to solve {100 * forecast.value:.1f} % [{low:.1f}, "
        f"{high:.1f}] of these problems, and {100 * expected:.1f} % by {shown(best)} alone. No figure without a model "
        "exists before as many samples are drawn; then `alphamix mix` without --pilot gives one."
    )


def _reason(comparison: Comparison, what: str) -> str:
    return comparison.undefined.get(what, f"no estimate of {what} is defined")


def mixture_tables(comparison: Comparison, by: Division, *, is_strict: bool = False) -> Group:
    """Return everything that is printed in a terminal."""
    arms = [
        Text(f"The same budget: {comparison.budget} per problem, % of problems covered", style="bold"),
        arms_table(comparison.coverage, comparison.gains, DIVISIONS),
        Text(f"In brackets {interval_note(comparison.resampling)}; of honest estimates with Student's t.", style="dim"),
    ]
    notes = [*_undefined(comparison), *_single_notes(comparison), _certificate(comparison), *_random(comparison)]
    return Group(
        *(arms if comparison.coverage else []),
        *(Text(note, style="dim") for note in notes),
        Text("\nWhat each policy adds, in points of coverage that the model expects", style="bold"),
        _contributions(comparison),
        Text("\n" + sentence(comparison, by, is_strict=is_strict)),
    )


def _undefined(comparison: Comparison) -> list[str]:
    """Return a note for each reason why estimates are undefined."""
    by_cause: dict[str, list[str]] = {}
    for what, cause in comparison.undefined.items():
        arm, comma, how = what.partition(",")
        by_cause.setdefault(cause, []).append(f"{arm_label(arm)}{comma}{how}")
    return [f"n/a, {'; '.join(what)}: {cause}." for cause, what in by_cause.items()]


def _single_notes(comparison: Comparison) -> list[str]:
    """Return notes on what the best single policy was chosen from."""
    notes: list[str] = []
    if comparison.left_out:
        thin = ", ".join(f"{shown(name)} ({fewest})" for name, fewest in comparison.left_out.items())
        notes.append(f"Not compared as single policies, since they have too few samples: {thin}.")
    if comparison.ties:
        others = ", ".join(map(shown, comparison.ties))
        notes.append(f"{shown(_single(comparison))} covers no more than {others}; {_why_first(comparison)}.")
    return notes


def _why_first(comparison: Comparison) -> str:
    """Say whether the posterior chose among single policies that cover as much."""
    most = max(comparison.expected[policy] for policy in comparison.ties)
    if comparison.expected[_single(comparison)] - most > _NEGLIGIBLE:
        return "the posterior prefers it"
    return "the posterior hardly tells them apart, so any of them will do"


def mixture_json(comparison: Comparison, crossfit: CrossFit) -> dict[str, Any]:
    """Return the object that `--json` prints. Undefined estimates are null, and `undefined` says why."""
    by = crossfit.by
    mixture, single = comparison.coverage.get("mixture"), comparison.coverage.get("best_single")
    gain = comparison.gains.get("mixture")
    best, expected = _best_expected(comparison)
    certificate = comparison.choice.certificate
    chosen = next(iter(comparison.arms["best_single"].allocation)) if single else best
    equal = comparison.coverage.get("equal")
    return {
        "budget": comparison.budget.total,
        "currency": comparison.budget.currency,
        "allocation": _allocation(comparison),
        "coverage": naive_and_honest(mixture, by),
        "best_single": {"policy": chosen, **naive_and_honest(single, by), "expected": expected},
        "equal_split": {"coverage": equal.naive.value if equal else None},
        "gain": {**naive_and_honest(gain, by), "optimism": gain.optimism(by) if gain else None},
        "certificate": {
            "objective": certificate.objective,
            "upper_bound": certificate.upper_bound,
            "gap": certificate.gap,
            "is_optimal": certificate.is_optimal,
            "method": certificate.method,
        },
        "random_routing": asdict(comparison.random) if comparison.random else None,
        "intervals": {"level": comparison.resampling.level, "naive": comparison.resampling.method, "honest": "student"},
        "crossfit": {"by": by, "folds": crossfit.folds, "repeats": crossfit.repeats},
        "crossfits": {
            division: {
                "coverage": naive_and_honest(mixture, division),
                "best_single": naive_and_honest(single, division),
                "gain": naive_and_honest(gain, division),
            }
            for division in DIVISIONS
        },
        "contributions": {policy: asdict(contribution) for policy, contribution in comparison.contributions.items()},
        "strict": {name: None if strict is None else asdict(strict) for name, strict in comparison.strict.items()},
        "forecast": None if comparison.forecast is None else asdict(comparison.forecast),
        "ties": list(comparison.ties),
        "left_out_singles": comparison.left_out,
        "undefined": comparison.undefined,
    }


def arms_table(
    scores: Mapping[str, ArmEstimates], gains: Mapping[str, ArmEstimates], divisions: Sequence[Division]
) -> Table:
    """Return the naive and the honest scores of arms, and of their gains over the best single policy, in per cent."""

    def row(estimates: ArmEstimates) -> list[Estimate | None]:
        return [estimates.naive, *(estimates.honest.get(by) for by in divisions)]

    rows = [[arm_label(name), *map(bare, row(estimates))] for name, estimates in scores.items()]
    for name, estimates in gains.items():
        optimism = (estimates.optimism(by) for by in divisions)
        rows.append([_GAIN_LABELS[name], *(points(estimate).replace(" points", "") for estimate in row(estimates))])
        rows.append(["  optimism", "", *("n/a" if share is None else _signed(share) for share in optimism)])
    return plain_table(["arm", "naive", *(_DIVISION_LABELS[by] for by in divisions)], rows)


def _contributions(comparison: Comparison) -> Table:
    allocation = _allocation(comparison)

    def row(policy: str) -> list[str]:
        contribution = comparison.contributions[policy]
        error = f" ± {100 * contribution.shapley_stderr:.1f}" if contribution.shapley_stderr else ""
        return [
            shown(policy),
            str(allocation.get(policy, 0)),
            f"{100 * comparison.expected[policy]:.1f}",
            f"{100 * contribution.marginal:z.2f}",
            f"{100 * contribution.shapley:z.1f}{error}",
        ]

    headings = ["policy", "samples", "alone", "missing without it", "Shapley share"]
    return plain_table(headings, map(row, comparison.contributions))


def _allocation(comparison: Comparison) -> dict[str, int]:
    counts = zip(comparison.contributions, comparison.choice.allocation_M.tolist(), strict=True)
    return {policy: k for policy, k in counts if k}


def _best_expected(comparison: Comparison) -> tuple[str, float]:
    return max(comparison.expected.items(), key=lambda item: item[1])


def _certificate(comparison: Comparison) -> str:
    certificate = comparison.choice.certificate
    expected = f"The model of shared difficulty expects {100 * certificate.objective:.2f} % of the mixture"
    if certificate.is_optimal:
        return f"{expected}, and proves that it expects more of no other allocation."
    return f"{expected}, and proves that it expects at most {100 * certificate.gap:.3f} points more of any other."


def _random(comparison: Comparison) -> list[str]:
    if comparison.random is None:
        return []
    random = comparison.random
    gain = random.fixed_coverage - random.coverage
    weights = ", ".join(f"{shown(policy)} {100 * weight:.0f} %" for policy, weight in random.weights.items())
    more = "no more than" if abs(gain) < _NEGLIGIBLE else f"{_signed(gain)} points against"
    return [f"A fixed split covers {more} the best random routing ({weights}: {100 * random.coverage:.2f} %)."]


def _signed(share: float) -> str:
    return f"{100 * share:+z.2f}".replace("-", "−")
