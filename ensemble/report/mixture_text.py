"""The text of `alphamix mix`: advice in one sentence, tables for a terminal, and JSON for programs.

Shares are in [0, 1] in JSON and percentages elsewhere.
"""

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.mixture.compare_arms import ArmEstimates, Comparison, naive_and_honest
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS, CrossFit, Division
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


def sentence(comparison: Comparison, by: Division) -> str:
    """Return advice on what to do, and how certain it is."""
    allocation = _allocation(comparison)
    spend = f"Spend {comparison.budget} per problem as {allocation_label(allocation)}"
    gain = comparison.gains.get("mixture")
    honest = gain.honest.get(by) if gain else None
    if honest is None:
        best, expected = _best_expected(comparison)
        covers = 100 * comparison.choice.certificate.objective
        reason = "; ".join(dict.fromkeys(comparison.undefined.values())) or f"no estimate by {by} is defined"
        return (
            f"{spend}: under the posterior it covers {covers:.1f} %, and the best single policy, {shown(best)}, "
            f"{100 * expected:.1f} %. This rests on the model alone: {reason}."
        )
    single = shown(next(iter(comparison.arms["best_single"].allocation)))
    covers = percent(comparison.coverage["mixture"].honest.get(by))
    if allocation == comparison.arms["best_single"].allocation:
        return f"Use {single} alone: it is the best mixture, and covers {covers}."
    over = f"{points(honest)} over {single}, the best single policy"
    if honest.sign > 0:
        return f"{spend}: it covers {covers}, {over}. The gain is more than chance explains."
    if honest.sign < 0:
        return f"Use {single} alone: the best mixture that these outcomes can choose gains {over}."
    return (
        f"Use {single} alone: the best mixture ({allocation_label(allocation)}) gains {over}. Chance could "
        "explain that gain; more problems, or more samples of each, would settle it."
    )


def mixture_tables(comparison: Comparison, by: Division) -> Group:
    """Return everything that is printed in a terminal."""
    arms = [
        Text(f"The same budget: {comparison.budget} per problem, % of problems covered", style="bold"),
        _arms(comparison),
        Text(f"In brackets {interval_note(comparison.resampling)}; of honest estimates Student's t.", style="dim"),
    ]
    notes = [*_undefined(comparison), _certificate(comparison), *_random(comparison)]
    return Group(
        *(arms if comparison.coverage else []),
        *(Text(note, style="dim") for note in notes),
        Text("\nWhat each policy adds, in points of coverage expected under the posterior", style="bold"),
        _contributions(comparison),
        Text("\n" + sentence(comparison, by)),
    )


def _undefined(comparison: Comparison) -> list[str]:
    """Return a note for each reason why estimates are undefined."""
    by_cause: dict[str, list[str]] = {}
    for what, cause in comparison.undefined.items():
        arm, comma, how = what.partition(",")
        by_cause.setdefault(cause, []).append(f"{arm_label(arm)}{comma}{how}")
    return [f"n/a, {'; '.join(what)}: {cause}." for cause, what in by_cause.items()]


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
        "undefined": comparison.undefined,
    }


def _arms(comparison: Comparison) -> Table:
    rows = [[arm_label(name), *map(bare, _row(estimates))] for name, estimates in comparison.coverage.items()]
    for name, estimates in comparison.gains.items():
        optimism = (estimates.optimism(by) for by in DIVISIONS)
        rows.append([_GAIN_LABELS[name], *(points(estimate).replace(" points", "") for estimate in _row(estimates))])
        rows.append(["  optimism", "", *("n/a" if share is None else _signed(share) for share in optimism)])
    return plain_table(["arm", "naive", *(_DIVISION_LABELS[by] for by in DIVISIONS)], rows)


def _row(estimates: ArmEstimates) -> list[Estimate | None]:
    return [estimates.naive, *(estimates.honest.get(by) for by in DIVISIONS)]


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
    expected = f"Expected under the posterior: {100 * certificate.objective:.2f} %"
    if certificate.is_optimal:
        return f"{expected}, and no allocation is expected to cover more (proved)."
    return f"{expected}; no allocation is expected to cover more than {100 * certificate.gap:.3f} points more (proved)."


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
