"""`alphamix coverage`: what a given allocation covers, and pass@k, from a table of outcomes. Nothing is chosen here."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import click
import numpy as np
from rich.console import Console

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.cli.options.finite import SHARE
from alphamix.ensemble.cli.options.missing import missing_option
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.report.tables import METHOD_LABELS, allocation_label, left_out_note, plain_table, shown
from alphamix.ensemble.statistics.extrapolation import MODELS, Forecast, ForecastError, Model, forecast
from alphamix.ensemble.statistics.intervals import (
    Estimate,
    Method,
    Resampling,
    coverage_on_fixed_benchmark,
    means_over_problems,
)
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage
from alphamix.policies.policy_file.toml_errors import nearest

_NAMES_IN_NOTES = 3
_CELL_WIDTH = len("100.0 % [100.0, 100.0]") + 3
_MOST_SAMPLES = 10**9
_KINDS = {False: "new problems like these", True: "these very problems and other samples"}

_ALONE = "a single problem has no interval for new problems: add problems, or ask with --fixed-benchmark"
_NO_VARIANCE = "its sampling variance is estimated as 0 or less, which gives no interval: draw more samples"


class QuestionError(EnsembleError):
    """The flags ask for what cannot be told: the message says why, then what to do."""


@dataclass(frozen=True)
class Told:
    """A figure, or the cause why it or its interval is undefined."""

    figure: Estimate | Forecast | None
    cause: str | None = None


@dataclass(frozen=True)
class Answers:
    """Everything that was asked."""

    covered: Told | None
    """By the allocation, where one was given."""
    pass_at_k: dict[str, dict[int, Told]]
    """By policy and k."""
    forecasts: dict[str, dict[Model, Told]]
    """By policy and model; empty where none was asked for."""

    def notes(self) -> list[str]:
        """Say once for each cause what it leaves undefined, and for whom."""
        names: dict[tuple[str, str], list[str]] = {}
        for what, name, told in self._all():
            if told.cause:
                names.setdefault((what, told.cause), []).append(name)
        return [f"n/a, {what}{_whose(of)}: {cause}" for (what, cause), of in names.items()]

    def _all(self) -> Iterator[tuple[str, str, Told]]:
        if self.covered:
            yield "the allocation", "", self.covered
        for policy, by_k in self.pass_at_k.items():
            yield from ((f"pass@{k}", policy, told) for k, told in by_k.items())
        for policy, by_model in self.forecasts.items():
            yield from ((f"the {model}", policy, told) for model, told in by_model.items())


@click.command("coverage")
@click.option("--outcomes", "path", required=True, type=click.Path(path_type=Path), help="CSV or Parquet.")
@click.option("--allocation", metavar="POLICY=K,…", help="Samples per problem of each policy: low=100,high=150.")
@click.option("--pass-at", metavar="K,…", help="pass@k of every policy [1, if nothing else is asked].")
@click.option(
    "--forecast", "beyond", metavar="K", type=click.IntRange(1, _MOST_SAMPLES), help="pass@K of models, past the data."
)
@click.option("--fixed-benchmark", is_flag=True, help="Intervals for these very problems [for new problems].")
@click.option("--level", type=SHARE, default=0.95, help="Of intervals [0.95].")
@click.option(
    "--method", type=click.Choice(get_args(Method)), default="bca", help="Of intervals for new problems [bca]."
)
@missing_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    path: Path,
    allocation: str | None,
    pass_at: str | None,
    beyond: int | None,
    fixed_benchmark: bool,
    level: float,
    method: Method,
    missing: Missing,
    as_json: bool,
) -> None:
    """Estimate what an allocation covers, and pass@k of each policy, from a table of outcomes.

    The estimates are unbiased for an allocation that was not chosen by looking at these outcomes.
    """
    outcomes = read_outcomes(path, missing)
    outcomes.check_fixed_size()
    split = {} if allocation is None else _read_allocation(allocation, outcomes)
    if pass_at is None and not split and beyond is None:
        pass_at = "1"
    ks = [] if pass_at is None else _read_ks(pass_at)
    resampling = Resampling(level, method=method)
    answers = _answer(outcomes, split, ks, beyond, fixed_benchmark, resampling)
    if as_json:
        head = {
            "problems": len(outcomes.problems),
            "left_out": outcomes.left_out,
            "kind": "fixed benchmark" if fixed_benchmark else "new problems",
            "level": level,
            "method": "normal" if fixed_benchmark else method,
        }
        click.echo(json.dumps({**head, **_report(split, answers)}, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    problems = "1 problem" if len(outcomes.problems) == 1 else f"{len(outcomes.problems)} problems"
    made = "normal" if fixed_benchmark else METHOD_LABELS[method]
    console.print(f"{problems}; {100 * level:g} % intervals for {_KINDS[fixed_benchmark]} ({made}).")
    if outcomes.left_out:
        console.print(left_out_note(outcomes.left_out))
    _print(console, split, answers, beyond)


def _read_allocation(text: str, outcomes: Outcomes) -> dict[str, int]:
    allocation: dict[str, int] = {}
    for part in text.split(","):
        exact, equals, count = part.rpartition("=")
        policy = exact if exact in outcomes.policies else exact.strip()
        count = count.strip()
        if not equals or not _is_number(count):
            raise QuestionError(
                f"--allocation {part.strip()!r} has no form POLICY=K: write for example low=100,high=150"
            )
        if policy not in outcomes.policies:
            raise QuestionError(
                f"--allocation names no policy of the outcomes, {policy!r}: {nearest(policy, outcomes.policies)}"
            )
        if policy in allocation:
            raise QuestionError(f"--allocation names {policy!r} twice: add the two up")
        allocation[policy] = int(count)
    if not any(allocation.values()):
        raise QuestionError(f"--allocation {text!r} spends no sample: give some policy 1 or more")
    return allocation


def _read_ks(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    wrong = [word for word in words if not _is_number(word) or int(word) == 0]
    if wrong:
        raise QuestionError(f"--pass-at {wrong[0]!r} is no number of samples: write for example 1,10,100")
    return sorted({int(word) for word in words})


def _is_number(word: str) -> bool:
    return word.isdecimal() and int(word) <= _MOST_SAMPLES


def _answer(
    outcomes: Outcomes,
    split: dict[str, int],
    ks: Sequence[int],
    beyond: int | None,
    fixed_benchmark: bool,
    resampling: Resampling,
) -> Answers:
    """Estimate everything at once; pass@k is the coverage of an allocation to one policy."""
    alone_MM = np.eye(len(outcomes.policies), dtype=np.int64)
    allocations = [k * alone_M for alone_M in alone_MM for k in ks]
    if split:
        allocations.append(np.array([split.get(policy, 0) for policy in outcomes.policies]))
    told = iter((_on_fixed_benchmark if fixed_benchmark else _for_new_problems)(outcomes, allocations, resampling))
    pass_at_k = {policy: {k: next(told) for k in ks} for policy in outcomes.policies if ks}
    forecasts = {} if beyond is None else _forecasts(outcomes, beyond, resampling)
    return Answers(next(told, None), pass_at_k, forecasts)


def _for_new_problems(outcomes: Outcomes, allocations: Sequence[Ints], resampling: Resampling) -> list[Told]:
    """All intervals on the same resamples."""
    covered: list[Floats] = []
    causes: list[str | None] = []
    for allocation_M in allocations:
        try:
            covered.append(coverage(outcomes.num_samples_MP, outcomes.num_correct_MP, allocation_M))
            causes.append(None)
        except UndefinedError as error:
            causes.append(str(error))
    estimates = iter(means_over_problems(np.array(covered), resampling, lowest=0) if covered else [])
    alone = _ALONE if len(outcomes.problems) == 1 else None
    return [Told(None, cause) if cause else Told(next(estimates), alone) for cause in causes]


def _on_fixed_benchmark(outcomes: Outcomes, allocations: Sequence[Ints], resampling: Resampling) -> list[Told]:
    """Where only the sampling variance is undefined, the value stands without an interval."""
    counts = outcomes.num_samples_MP, outcomes.num_correct_MP
    told: list[Told] = []
    for allocation_M in allocations:
        try:
            value = float(coverage(*counts, allocation_M).mean())
        except UndefinedError as error:
            told.append(Told(None, str(error)))
            continue
        try:
            estimate = coverage_on_fixed_benchmark(*counts, allocation_M, resampling.level)
            told.append(Told(estimate, None if estimate.interval else _NO_VARIANCE))
        except UndefinedError as error:
            bare = Estimate(value, None, None, "fixed benchmark")
            told.append(Told(bare, f"its interval rests on draws of twice the size, and {error}"))
    return told


def _forecasts(outcomes: Outcomes, beyond: int, resampling: Resampling) -> dict[str, dict[Model, Told]]:
    def one(m: int, model: Model) -> Told:
        counts = outcomes.num_samples_MP[m], outcomes.num_correct_MP[m]
        try:
            return Told(forecast(*counts, beyond, model, resampling.level))
        except ForecastError as error:
            return Told(None, str(error))

    return {policy: {model: one(m, model) for model in MODELS} for m, policy in enumerate(outcomes.policies)}


def _report(split: dict[str, int], answers: Answers) -> dict[str, Any]:
    report: dict[str, Any] = {}
    if answers.covered:
        told = _figure(answers.covered) or {"value": None, "stderr": None, "interval": None}
        report = {
            "allocation": split,
            "coverage": told["value"],
            "stderr": told["stderr"],
            "interval": told["interval"],
        }
    if answers.pass_at_k:
        report["pass_at_k"] = {
            policy: {str(k): _figure(told) for k, told in by_k.items()} for policy, by_k in answers.pass_at_k.items()
        }
    if answers.forecasts:
        report["forecasts"] = {
            policy: {model: _figure(told) for model, told in by_model.items()}
            for policy, by_model in answers.forecasts.items()
        }
    return {**report, "notes": answers.notes()}


def _figure(told: Told) -> dict[str, Any] | None:
    return None if told.figure is None else asdict(told.figure)


def _print(console: Console, split: dict[str, int], answers: Answers, beyond: int | None) -> None:
    if answers.covered:
        console.print(f"{allocation_label(split)} covers {_cell(answers.covered)} of the problems.")
    if answers.pass_at_k:
        _print_table(
            console,
            {policy: {f"pass@{k}": told for k, told in by_k.items()} for policy, by_k in answers.pass_at_k.items()},
        )
    if answers.forecasts:
        console.print(f"pass@{beyond} beyond the samples is what models say, no estimate; intervals for new problems")
        _print_table(console, answers.forecasts)
    for note in answers.notes():
        console.print(note)


def _print_table(console: Console, rows: Mapping[str, Mapping[Any, Told]]) -> None:
    """As many columns beside each other as fit, the others below."""
    headings = list(next(iter(rows.values())))
    for_names = min(max(len(shown(name)) for name in rows), console.width // 3)
    at_once = max(1, (console.width - for_names) // _CELL_WIDTH)
    for start in range(0, len(headings), at_once):
        some = headings[start : start + at_once]
        cells = ([shown(policy), *(_cell(told[heading]) for heading in some)] for policy, told in rows.items())
        console.print(plain_table(["policy", *some], cells))


def _cell(told: Told) -> str:
    if told.figure is None:
        return "n/a"
    interval = told.figure.interval
    bracket = "n/a" if interval is None else ", ".join(f"{100 * bound:.1f}" for bound in interval)
    return f"{100 * told.figure.value:.1f} % [{bracket}]"


def _whose(policies: list[str]) -> str:
    if policies == [""]:
        return ""
    many = len(policies) > _NAMES_IN_NOTES
    return f" of {len(policies)} policies" if many else f" of {', '.join(map(shown, policies))}"
