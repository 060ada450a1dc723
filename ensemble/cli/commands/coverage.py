"""`alphamix coverage`: prints what a given allocation covers, and pass@k, from a table of outcomes."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console

from alphamix.ensemble.analysis.coverage import CoverageFigure, CoverageFigures, estimate_coverage
from alphamix.ensemble.cli.options import json_option
from alphamix.ensemble.cli.options.outcomes import level_option, missing_option, outcomes_option
from alphamix.ensemble.cli.terminal.answers import print_heading, print_result
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.report.formatting import METHOD_LABELS, allocation_label, counted, plain_table, shown
from alphamix.ensemble.statistics.intervals import Method, Resampling
from alphamix.policies.policy_file.toml_errors import nearest

_NAMES_IN_NOTES = 3
_CELL_WIDTH = len("100.0 % [100.0, 100.0]") + 3
_MAX_SAMPLES = 10**9
_SCOPES = {False: "new problems like these", True: "other samples of these same problems"}


class QuestionError(EnsembleError):
    """An option asks for something that the outcomes cannot answer."""


@click.command("coverage", context_settings={"show_default": True})
@outcomes_option
@click.option(
    "--allocation", metavar="POLICY=K,…", help="Samples per problem of each policy, for example low=100,high=150."
)
@click.option(
    "--pass-at",
    metavar="K,…",
    help="Estimate pass@K of every policy for each K, for example 1,8.",
    show_default="1, if no other estimate is asked for",
)
@click.option(
    "--forecast",
    "forecast_k",
    metavar="K",
    type=click.IntRange(1, _MAX_SAMPLES),
    help="Forecast pass@K of every policy from models, beyond the samples.",
)
@click.option(
    "--fixed-benchmark",
    is_flag=True,
    help="Give intervals for other samples of these problems instead of for new problems.",
)
@level_option
@click.option(
    "--method", type=click.Choice(get_args(Method)), default="score", help="Method of the intervals for new problems."
)
@missing_option
@json_option
def command(
    outcomes_file: Path,
    allocation: str | None,
    pass_at: str | None,
    forecast_k: int | None,
    fixed_benchmark: bool,
    level: float,
    method: Method,
    missing: Missing,
    as_json: bool,
) -> None:
    """Estimate what an allocation covers, and pass@k of each policy.

    The estimates are unbiased for an allocation that was not chosen by looking at these outcomes.
    """
    outcomes = read_outcomes(outcomes_file, missing)
    outcomes.check_fixed_size()
    split = {} if allocation is None else _read_allocation(allocation, outcomes)
    if pass_at is None and not split and forecast_k is None:
        pass_at = "1"
    ks = [] if pass_at is None else _read_ks(pass_at)
    resampling = Resampling(level, method=method)
    figures = estimate_coverage(outcomes, split, ks, forecast_k, resampling, fixed_benchmark=fixed_benchmark)
    if as_json:
        about = {
            "kind": "fixed benchmark" if fixed_benchmark else "new problems",
            "level": level,
            "method": "normal" if fixed_benchmark else method,
        }
        print_result({**about, **_json(split, figures)}, outcomes)
        return
    problems = counted(len(outcomes.problems), "problem", "problems")
    label = "normal" if fixed_benchmark else METHOD_LABELS[method]
    heading = f"{problems}; {100 * level:g} % intervals for {_SCOPES[fixed_benchmark]} ({label})."
    console = print_heading(heading, outcomes)
    _print(console, split, figures, forecast_k)


def _read_allocation(text: str, outcomes: Outcomes) -> dict[str, int]:
    allocation: dict[str, int] = {}
    for part in text.split(","):
        exact, equals, count = part.rpartition("=")
        policy = exact if exact in outcomes.policies else exact.strip()
        count = count.strip()
        if not equals or not _is_number(count):
            raise QuestionError(
                f"--allocation: {part.strip()!r} does not have the form POLICY=K: write low=100,high=150, for example"
            )
        if policy not in outcomes.policies:
            raise QuestionError(
                f"--allocation: unknown policy {policy!r} in these outcomes: {nearest(policy, outcomes.policies)}"
            )
        if policy in allocation:
            raise QuestionError(f"--allocation gives {policy!r} twice: add the two counts up")
        allocation[policy] = int(count)
    if not any(allocation.values()):
        raise QuestionError(f"--allocation {text!r} draws no sample: give at least one policy 1 or more")
    return allocation


def _read_ks(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not _is_number(word) or int(word) == 0]
    if wrong:
        raise QuestionError(f"--pass-at: {wrong[0]!r} is not a number of samples: write 1,10,100, for example")
    return sorted({int(word) for word in words})


def _is_number(word: str) -> bool:
    return word.isdecimal() and int(word) <= _MAX_SAMPLES


def _json(split: dict[str, int], figures: CoverageFigures) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if figures.allocation:
        covered = asdict(figures.allocation.value) if figures.allocation.value else {}
        content = {"allocation": split, "coverage": covered.get("value")}
        content |= {key: covered.get(key) for key in ("stderr", "interval")}
    for name, by_policy in (("pass_at_k", figures.pass_at_k), ("forecasts", figures.forecasts)):
        if by_policy:
            content[name] = {
                policy: {key: figure.value for key, figure in row.items()} for policy, row in by_policy.items()
            }
    return {**content, "notes": _notes(figures)}


def _print(console: Console, split: dict[str, int], figures: CoverageFigures, forecast_k: int | None) -> None:
    if figures.allocation:
        console.print(f"{allocation_label(split)} covers {_cell(figures.allocation)} of the problems.")
    if figures.pass_at_k:
        rows = {
            policy: {f"pass@{k}": figure for k, figure in by_k.items()} for policy, by_k in figures.pass_at_k.items()
        }
        _print_table(console, rows)
    if figures.forecasts:
        console.print(
            f"pass@{forecast_k} beyond the samples, as models predict it, not an estimate; bootstrap intervals for new "
            "problems"
        )
        _print_table(console, figures.forecasts)
    for note in _notes(figures):
        console.print(note)


def _print_table(console: Console, rows: Mapping[str, Mapping[Any, CoverageFigure]]) -> None:
    """Print as many columns side by side as fit, and the others below."""
    headings = list(next(iter(rows.values())))
    name_width = min(max(len(shown(name)) for name in rows), console.width // 3)
    num_side_by_side = max(1, (console.width - name_width) // _CELL_WIDTH)
    for start in range(0, len(headings), num_side_by_side):
        some = headings[start : start + num_side_by_side]
        cells = ([shown(policy), *(_cell(figures[heading]) for heading in some)] for policy, figures in rows.items())
        console.print(plain_table(["policy", *some], cells))


def _cell(figure: CoverageFigure) -> str:
    if figure.value is None:
        return "n/a"
    interval = figure.value.interval
    bracket = "n/a" if interval is None else ", ".join(f"{100 * bound:.1f}" for bound in interval)
    return f"{100 * figure.value.value:.1f} % [{bracket}]"


def _notes(figures: CoverageFigures) -> list[str]:
    """Return a line for each undefined figure and reason."""
    return [f"n/a, {what}{_of(policies)}: {reason}" for (what, reason), policies in figures.undefined().items()]


def _of(policies: list[str]) -> str:
    if policies == [""]:
        return ""
    if len(policies) > _NAMES_IN_NOTES:
        return f" of {len(policies)} policies"
    return f" of {', '.join(map(shown, policies))}"
