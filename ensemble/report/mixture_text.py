"""What `alphamix mix` says: a sentence to act on, tables for a terminal, and JSON for machines.

Shows a `Comparison`; computes nothing. Shares are in [0, 1] in JSON and per cent elsewhere.
"""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.mixture.compare_arms import ArmEstimates, Comparison
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS, CrossFit, Division
from alphamix.ensemble.report.tables import (
    allocation_label,
    arm_label,
    bare,
    bare_difference,
    intervals,
    percent,
    plain_table,
    points,
    shown,
)
from alphamix.ensemble.statistics.intervals import Estimate

_DIVISION_LABELS: dict[Division, str] = {"problems": "new problems", "samples": "new samples"}
_GAIN_LABELS = {"mixture": "mixture − single", "equal": "equal − single"}
_NEGLIGIBLE = 5e-5
"""Coverage that rounds to 0.0 points, twice over."""


def sentence(comparison: Comparison, by: Division) -> str:
    """What to do, and how sure that is."""
    spend = f"Spend {comparison.budget} per problem as {allocation_label(_allocation(comparison))}"
    gain = comparison.gains.get("mixture")
    honest = gain.honest.get(by) if gain else None
    if honest is None:
        best, expected = _best_expected(comparison)
        covers = 100 * comparison.choice.certificate.objective
        return (
            f"{spend}: under the posterior it covers {covers:.1f} % and the best "
            f"single policy, {shown(best)}, {100 * expected:.1f} %. That is a model's word: {_reason(comparison, by)}."
        )
    single = shown(next(iter(comparison.arms["best_single"].allocation)))
    if _allocation(comparison) == comparison.arms["best_single"].allocation:
        covers = percent(comparison.coverage["mixture"].honest.get(by))
        return f"{single} alone will do: the best mixture is all of it, and covers {covers}."
    over = f"{points(honest)} over {single}, the best single policy"
    if honest.sign > 0:
        covers = percent(comparison.coverage["mixture"].honest.get(by))
        return f"{spend}: it covers {covers}, {over}. The gain is more than chance explains."
    if honest.sign < 0:
        return f"Use {single} alone: the best mixture that can be chosen from these outcomes gains {over}."
    return (
        f"{single} alone will do: the best mixture ({allocation_label(_allocation(comparison))}) gains {over}, which "
        "cannot be told from chance. More problems, or more samples of each, would tell."
    )


def tables(comparison: Comparison, by: Division) -> Group:
    """Everything, for a terminal."""
    arms = [
        Text(f"The same budget: {comparison.budget} per problem, % of problems covered", style="bold"),
        _arms(comparison),
        Text(f"In brackets {intervals(comparison.resampling)}; of honest figures Student's t.", style="dim"),
    ]
    notes = [*_undefined(comparison), _certificate(comparison), *_random(comparison)]
    return Group(
        *(arms if comparison.coverage else []),
        *(Text(note, style="dim") for note in notes),
        Text("\nWhat each policy adds, points of coverage expected under the posterior", style="bold"),
        _contributions(comparison),
        Text("\n" + sentence(comparison, by)),
    )


def _undefined(comparison: Comparison) -> list[str]:
    """Each cause once."""
    by_cause: dict[str, list[str]] = {}
    for what, cause in comparison.undefined.items():
        arm, comma, how = what.partition(",")
        by_cause.setdefault(cause, []).append(f"{arm_label(arm)}{comma}{how}")
    return [f"n/a, {'; '.join(what)}: {cause}." for cause, what in by_cause.items()]


def as_json(comparison: Comparison, crossfit: CrossFit) -> dict[str, Any]:
    """The object that `--json` prints; null where a figure is undefined, and `undefined` says why."""
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
        "coverage": _figures(mixture, by),
        "best_single": {"policy": chosen, **_figures(single, by), "expected": expected},
        "equal_split": {"coverage": equal.naive.value if equal else None},
        "gain": {**_figures(gain, by), "optimism": gain.optimism(by) if gain else None},
        "certificate": {
            "objective": certificate.objective,
            "upper_bound": certificate.upper_bound,
            "gap": certificate.gap,
            "is_optimal": certificate.is_optimal,
            "method": certificate.method,
        },
        "random_routing": _random_json(comparison),
        "intervals": {"level": comparison.resampling.level, "naive": comparison.resampling.method, "honest": "student"},
        "crossfit": {"by": by, "folds": crossfit.folds, "repeats": crossfit.repeats},
        "crossfits": {
            division: {
                "coverage": _figures(mixture, division),
                "best_single": _figures(single, division),
                "gain": _figures(gain, division),
            }
            for division in DIVISIONS
        },
        "contributions": {
            policy: {"marginal": one.marginal, "shapley": one.shapley, "shapley_stderr": one.shapley_stderr}
            for policy, one in comparison.contributions.items()
        },
        "undefined": comparison.undefined,
    }


def _figures(figures: ArmEstimates | None, by: Division) -> dict[str, Any]:
    honest = figures.honest.get(by) if figures else None
    return {
        "naive": figures.naive.value if figures else None,
        "honest": honest.value if honest else None,
        "interval": honest.interval if honest else None,
    }


def _random_json(comparison: Comparison) -> dict[str, Any] | None:
    if comparison.random is None:
        return None
    random = comparison.random
    return {"weights": random.weights, "coverage": random.coverage, "fixed_coverage": random.fixed_coverage}


def _arms(comparison: Comparison) -> Table:
    rows = [[arm_label(name), *map(bare, _row(figures))] for name, figures in comparison.coverage.items()]
    for name, figures in comparison.gains.items():
        optimism = (figures.optimism(by) for by in DIVISIONS)
        rows.append([_GAIN_LABELS[name], *map(bare_difference, _row(figures))])
        rows.append(["  of it optimism", "", *("n/a" if one is None else _signed(one) for one in optimism)])
    return plain_table(["arm", "naive", *(_DIVISION_LABELS[by] for by in DIVISIONS)], rows)


def _row(figures: ArmEstimates) -> list[Estimate | None]:
    return [figures.naive, *(figures.honest.get(by) for by in DIVISIONS)]


def _contributions(comparison: Comparison) -> Table:
    allocation = _allocation(comparison)

    def row(policy: str) -> list[str]:
        one = comparison.contributions[policy]
        error = f" ± {100 * one.shapley_stderr:.1f}" if one.shapley_stderr else ""
        return [
            shown(policy),
            str(allocation.get(policy, 0)),
            f"{100 * comparison.expected[policy]:.1f}",
            f"{100 * one.marginal:z.2f}",
            f"{100 * one.shapley:z.1f}{error}",
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


def _reason(comparison: Comparison, by: Division) -> str:
    return "; ".join(dict.fromkeys(comparison.undefined.values())) or f"nothing is known by {by}"
