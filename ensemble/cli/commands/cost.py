"""`alphamix cost`: what a plan needs in engine hours, disk and grading, told from a run that was measured."""

import json
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.cli.options.finite import Finite
from alphamix.ensemble.report.tables import plain_table, shown
from alphamix.ensemble.run.cost_estimate import Cost, CostError, Range, Rates, Resources, estimate, pooled, rates_of
from alphamix.ensemble.store import STORE_NAME, Store

_COUNT = click.IntRange(min=1)


@click.command("cost")
@click.option("--like", "folder", required=True, type=click.Path(path_type=Path), help="Folder of a run to measure.")
@click.option("--problems", type=_COUNT, help="[as in the run]")
@click.option("--policies", type=_COUNT, help="[as in the run]")
@click.option("--samples", type=_COUNT, help="Per problem and policy [as in the run].")
@click.option("--tokens", type=Finite(0, min_open=True), help="Completion tokens of a sample [as in the run].")
@click.option("--bytes-per-token", type=Finite(0, min_open=True), help="Of a token's text, compressed [as in the run].")
@click.option(
    "--tokens-per-second", type=Finite(0, min_open=True), help="Completion tokens of one GPU [as in the run]."
)
@click.option("--like-gpus", type=_COUNT, default=1, show_default=True, help="GPUs, or engines, that the run had.")
@click.option("--gpus", type=_COUNT, default=1, show_default=True, help="GPUs, or engines, to sample with.")
@click.option("--grading-workers", type=_COUNT, default=1, show_default=True, help="Cores to grade with.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path,
    problems: int | None,
    policies: int | None,
    samples: int | None,
    tokens: float | None,
    bytes_per_token: float | None,
    tokens_per_second: float | None,
    like_gpus: int,
    gpus: int,
    grading_workers: int,
    as_json: bool,
) -> None:
    """Estimate what a plan needs, from what samples took in a run of the same kind.

    Ranges are 95 % prediction intervals for other problems and policies of that kind; they know nothing of how another
    model, prompt or machine differs. A throughput is measured on the engines of that run, or given: never guessed.
    """
    if tokens_per_second is not None and like_gpus != 1:
        raise click.UsageError("--like-gpus divides the throughput of the run: leave it out with --tokens-per-second")
    with Store(folder / STORE_NAME, read_only=True, create=False) as store, store.snapshot():
        rates, of_policy = pooled(store), rates_of(store)
        cells = store.cell_costs()
    counted = cells["problem"].nunique(), len(of_policy), round(float(cells["n"].mean()))
    size = problems or counted[0], policies or counted[1], samples or counted[2]
    resources = Resources(tokens, bytes_per_token, tokens_per_second, like_gpus, gpus, grading_workers)
    cost = estimate(*size, rates, resources)
    _refuse_the_unknown(cost, rates, folder)
    if as_json:
        plan = dict(zip(("problems", "policies", "samples_per_cell"), size, strict=True))
        measured = {name: _told(asdict(one)) for name, one in of_policy.items()}
        click.echo(json.dumps({"plan": plan, **_told(asdict(cost)), "measured": measured}, indent=2))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"Measured in {folder}: {rates.samples:,} samples, {counted[0]} problems, {counted[1]} policies.")
    console.print(_measured(of_policy))
    console.print(f"Planned: {size[0]:,} problems × {size[1]:,} policies × {size[2]:,} = {cost.samples:,} samples.")
    console.print(_estimated(cost))
    console.print(_assumptions(rates, resources), style="dim")


def _refuse_the_unknown(cost: Cost, rates: Rates, folder: Path) -> None:
    """Say what the run cannot tell, where the answer would lack most of itself."""
    if cost.completion_tokens is None:
        raise CostError(f"the samples of {folder} do not tell their tokens: give --tokens")
    if cost.engine_hours is None:
        raise CostError(f"the samples of {folder} do not tell their seconds: give --tokens-per-second")
    if not isfinite(rates.grading_cpu_s.mean):
        raise CostError(f"no sample of {folder} is graded, so that grading cannot be told: grade some first")


def _measured(of_policy: dict[str, Rates]) -> Table:
    rows = (
        [
            shown(name),
            _number(one.samples),
            _number(one.prompt_tokens.mean),
            _number(one.completion_tokens.mean),
            _number(one.engine_s.mean),
            _number(one.tokens_per_s.mean),
            _number(one.text_bytes.mean + one.row_bytes),
            _number(1000 * one.grading_cpu_s.mean),
        ]
        for name, one in of_policy.items()
    )
    return plain_table(["policy", "samples", "prompt", "tokens", "s", "tokens/s", "bytes", "CPU ms"], rows)


def _estimated(cost: Cost) -> Table:
    rows = [
        ["prompt tokens", *_cells(cost.prompt_tokens)],
        ["completion tokens", *_cells(cost.completion_tokens)],
        ["bytes on disk", *_cells(cost.disk_bytes)],
        ["GPU (engine) hours", *_cells(cost.engine_hours)],
        ["grading CPU hours", *_cells(cost.grading_cpu_hours)],
        ["wall hours", *_cells(cost.wall_hours)],
    ]
    return plain_table(["", "mean", "from", "to"], rows)


def _assumptions(rates: Rates, resources: Resources) -> str:
    speed = resources.tokens_per_s or rates.tokens_per_s.mean / resources.measured_engines
    source = "as measured" if resources.tokens_per_s is None else "as given"
    return (
        f"{_number(speed)} tokens per second of a GPU ({source}); GPUs that sample: {resources.engines}, cores that "
        f"grade meanwhile: {resources.workers}; programs all different"
        + ("." if resources.tokens is None or resources.bytes_per_token else "; texts as long as tokens are many.")
    )


def _cells(terms: Range | None) -> list[str]:
    if terms is None:
        return ["n/a", "", ""]
    return [_number(value) for value in (terms.mean, terms.low, terms.high)]


def _number(value: float) -> str:
    """Three digits that count, and what they count in: 31.7 G."""
    if not isfinite(value):
        return "n/a"
    for unit, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{value / unit:.3g}{prefix}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _told(value: Any) -> Any:
    """What JSON can say: null for what nobody knows."""
    if isinstance(value, dict):
        return {key: _told(one) for key, one in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value
