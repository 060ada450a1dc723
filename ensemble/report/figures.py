"""The figures of a report. Each function draws one of them from an analysis."""

from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.figure import Figure

from alphamix.atomic import whole_file
from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS
from alphamix.ensemble.mixture.gains import ArmEstimates
from alphamix.ensemble.report.formatting import arm_label, axis_label
from alphamix.ensemble.statistics.intervals import Estimate

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "text.parse_math": False,  # a $ in the name of a policy or an arm is not mathematics
}
_ALPHA_COLOURS = colormaps["plasma"]
_CLASS_COLOURS = {
    "solved": "#2a9d8f",
    "optimisation": "#e76f51",
    "correctness": "#457b9d",
    "format": "#8d99ae",
    "exhausted": "#bc6c25",
}
_ESTIMATE_COLOURS = ("#8d99ae", "#e76f51", "#457b9d")
"""Colours of naive estimates, and of honest estimates by each division."""


def save_all(analysis: Analysis, folder: Path) -> list[Path]:
    """Draw every figure into `folder` as PNG and return the paths."""
    folder.mkdir(exist_ok=True)
    drawings = {"arms": draw_arms, "coverage": draw_coverage, "complementarity": draw_complementarity}
    if analysis.frontier and any(analysis.frontier.values()):
        drawings = {"frontier": draw_frontier, **drawings}
    paths: list[Path] = []
    for name, draw in drawings.items():
        with rc_context(_STYLE):
            path = folder / f"{name}.png"
            with whole_file(path) as beside:
                draw(analysis).savefig(beside, dpi=150, bbox_inches="tight")
            paths.append(path)
    return paths


def draw_arms(analysis: Analysis) -> Figure:
    """Draw what each arm covers, and what it gains over the best single policy, by naive and honest estimates."""
    comparison = analysis.comparison
    figure = Figure(figsize=(9.0, 0.7 + 0.75 * len(comparison.coverage)), layout="constrained")
    covered, gained = figure.subplots(1, 2, sharey=True)
    names = list(comparison.coverage)
    for row, name in enumerate(names):
        _draw_estimates(covered, comparison.coverage[name], row)
        if name in comparison.gains:
            _draw_estimates(gained, comparison.gains[name], row)
    covered.set_yticks(range(len(names)), [arm_label(name) for name in names])
    covered.invert_yaxis()
    covered.set(xlabel="problems covered (%)", title=f"{analysis.budget} per problem")
    gained.axvline(0, color="0.8", linewidth=1, zorder=0)
    gained.set(xlabel="points", title="Gain over the best single policy")
    by_label = {label: handle for handle, label in zip(*covered.get_legend_handles_labels(), strict=True)}
    figure.legend(by_label.values(), by_label.keys(), loc="outside right center", fontsize=8)
    return figure


def _draw_estimates(axes: Any, estimates: ArmEstimates, row: int) -> None:
    """Draw the naive estimate with the honest ones below it, each with its interval."""
    shown = {"naive": estimates.naive, **{f"honest, new {by}": estimates.honest.get(by) for by in DIVISIONS}}
    for (label, estimate), colour, offset in zip(shown.items(), _ESTIMATE_COLOURS, (-0.2, 0.0, 0.2), strict=True):
        if estimate is None:
            continue
        fill = "white" if label == "naive" else colour
        axes.errorbar(
            100 * estimate.value,
            row + offset,
            xerr=_whiskers(estimate),
            color=colour,
            elinewidth=1,
            label=label,
            marker="o",
            markersize=5,
            markerfacecolor=fill,
            linestyle="none",
        )


def draw_frontier(analysis: Analysis) -> Figure:
    """Draw correctness against optimisation failures, one point per policy, and all failure classes along α."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    plane, along = figure.subplots(1, 2)
    line = analysis.policies_along_alpha()
    colour = _colours(analysis)
    for joined in analysis.lines_along_alpha().values():
        xs = [100 * analysis.frontier[policy]["optimisation"].value for policy in joined]
        ys = [100 * analysis.frontier[policy]["correctness"].value for policy in joined]
        plane.plot(xs, ys, color="0.75", zorder=1)
    for number, policy in enumerate([*line, *(name for name in analysis.frontier if name not in line)]):
        rates = analysis.frontier[policy]
        _point(plane, rates["optimisation"], rates["correctness"], colour[policy])
        label = axis_label(policy, analysis.alphas[policy], analysis.setting_of(policy))
        at = (100 * rates["optimisation"].value, 100 * rates["correctness"].value)
        above_or_below = (6, 5) if number % 2 else (6, -11)  # labels of neighbours on the line would overlap
        plane.annotate(label, at, xytext=above_or_below, textcoords="offset points", fontsize=8)
    plane.set(xlabel="optimisation failures (% of samples)", ylabel="correctness failures (% of samples)")
    plane.set_xlim(left=0)
    plane.set_ylim(bottom=0)
    plane.set_title("The frontier (labels: α)")
    if len(line) > 1:
        _draw_classes(along, analysis)
    else:
        along.set_axis_off()
    return figure


def draw_coverage(analysis: Analysis) -> Figure:
    """Draw the problems covered against the amount spent, for each policy alone and for each ensemble."""
    colour = _colours(analysis)
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    currency = analysis.budget.currency
    for policy in analysis.outcomes.policies:
        curve = analysis.curves.get(policy, {})
        axes.plot(
            list(curve), [100 * value for value in curve.values()], color=colour[policy], linewidth=1.2, label=policy
        )
    splits = [name for name in analysis.curves if name not in analysis.outcomes.policies]
    for name, (marker, dashes) in zip(splits, cycle(zip("osD^", ("-", "--", ":", "-."), strict=True)), strict=False):
        curve = analysis.curves[name]
        label = "ensemble, equal split" if name == "equal" else name
        shares = [100 * value for value in curve.values()]
        axes.plot(list(curve), shares, f"{marker}{dashes}", color="black", linewidth=2.0, markersize=4, label=label)
    markers = cycle("*PX")
    for name, arm in analysis.comparison.arms.items():
        if arm.cost is not None:
            at = (arm.cost.value, 100 * analysis.comparison.coverage[name].naive.value)
            axes.plot(*at, next(markers), color="black", markersize=9, label=f"{arm_label(name)}, at its mean cost")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    axes.set(xlabel=f"{currency} per problem", ylabel="problems covered (%)")
    axes.set_title("Coverage at the same budget")
    figure.legend(loc="outside right center", fontsize=8)
    return figure


def draw_complementarity(analysis: Analysis) -> Figure:
    """Draw the solve rate of each policy on each problem. Problems are ordered by which end of the line solves them."""
    outcomes = analysis.outcomes
    line = analysis.policies_along_alpha()
    policies = [policy for policy in outcomes.policies if policy not in line] + line
    rate_MP = outcomes.solve_rate_MP[[outcomes.row(policy) for policy in policies]]
    weight_M = np.arange(len(policies)) - (len(policies) - 1) / 2
    order_P = np.argsort(-(weight_M @ rate_MP), kind="stable")
    labelled = len(outcomes.problems) <= 60
    height = min(max(2.5, 0.17 * len(outcomes.problems)), 12) if labelled else 8
    figure = Figure(figsize=(0.62 * len(policies) + 3.6, height + 1.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rate_MP[:, order_P].T, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    names = {policy: axis_label(policy, analysis.alphas[policy], analysis.setting_of(policy)) for policy in policies}
    columns = [f"α = {names[policy]}" if policy in line else policy for policy in policies]
    axes.set_xticks(range(len(policies)), columns, rotation=45, ha="right")
    if labelled:
        axes.set_yticks(range(len(order_P)), [outcomes.problems[p] for p in order_P], fontsize=6)
    else:
        axes.set_ylabel(f"{len(order_P)} problems")
    axes.set_title("Solve rate of each policy on each problem")
    figure.colorbar(image, ax=axes, label="share of samples accepted", fraction=0.05)
    return figure


def _draw_classes(axes: Any, analysis: Analysis) -> None:
    lines = analysis.lines_along_alpha()
    for (setting, line), dashes in zip(lines.items(), cycle(("-", "--", ":")), strict=False):
        _draw_line_of_classes(axes, analysis, line, f"o{dashes}", is_first=line is next(iter(lines.values())))
        if len(lines) > 1:
            axes.plot([], [], dashes, color="black", label=setting)
    axes.axvspan(0, 1, color="0.95", zorder=0)
    for takeover in (analysis.moderate.below, analysis.moderate.above) if analysis.moderate else ():
        if takeover.alpha is not None:
            axes.axvline(takeover.alpha, color="0.4", linestyle=":", linewidth=1)
    axes.set(xlabel="α  (shaded: interpolation)", ylabel="% of samples")
    axes.set_ylim(bottom=0)
    axes.set_title("What becomes of samples along α")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))


def _draw_line_of_classes(axes: Any, analysis: Analysis, line: list[str], style: str, *, is_first: bool) -> None:
    alphas = [analysis.alphas[policy] for policy in line]

    def draw(name: str, shares: Any) -> None:
        label = name if is_first else None
        axes.plot(alphas, 100 * np.array(shares), style, color=_CLASS_COLOURS[name], markersize=3.5, label=label)

    draw("solved", [analysis.outcomes.solve_rate_MP[analysis.outcomes.row(policy)].mean() for policy in line])
    for name in analysis.frontier[line[0]]:
        estimates = [analysis.frontier[policy][name] for policy in line]
        draw(name, [estimate.value for estimate in estimates])
        intervals = [estimate.interval for estimate in estimates if estimate.interval is not None]
        if len(intervals) == len(alphas):
            lows, highs = zip(*intervals, strict=True)
            bounds = (100 * np.array(lows), 100 * np.array(highs))
            axes.fill_between(alphas, *bounds, color=_CLASS_COLOURS[name], alpha=0.12, linewidth=0)


def _point(axes: Any, x: Estimate, y: Estimate, colour: Any) -> None:
    at = (100 * x.value, 100 * y.value)
    axes.errorbar(*at, xerr=_whiskers(x), yerr=_whiskers(y), color=colour, elinewidth=0.8, alpha=0.3)
    axes.plot(*at, "o", color=colour, markersize=6)


def _whiskers(estimate: Estimate) -> Any:
    if estimate.interval is None:
        return None
    low, high = estimate.interval
    return [[100 * max(estimate.value - low, 0.0)], [100 * max(high - estimate.value, 0.0)]]


def _colours(analysis: Analysis) -> dict[str, Any]:
    """Return a colour for each policy, which runs along α; policies without an α are grey."""
    line = analysis.policies_along_alpha()
    steps = np.linspace(0.05, 0.85, len(line)) if len(line) > 1 else [0.4]
    colours = dict.fromkeys(analysis.outcomes.policies, (0.55, 0.55, 0.55, 1.0))
    return colours | {policy: _ALPHA_COLOURS(step) for policy, step in zip(line, steps, strict=False)}
