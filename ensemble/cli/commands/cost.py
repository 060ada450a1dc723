"""`alphamix cost`: estimates the engine hours, disk space and grading time of a plan from a measured run."""

from dataclasses import asdict
from math import isfinite
from pathlib import Path

import click
from pydantic_core import to_jsonable_python
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.cli.options import COUNT, PATH, Finite, json_option
from alphamix.ensemble.cli.terminal.cost_table import cost_table, short_number
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.ensemble.report.formatting import plain_table, shown
from alphamix.ensemble.run.cost_estimate import Cost, CostError, Rates, Resources, estimate, pooled, rates_of
from alphamix.ensemble.store import STORE_NAME, Store

_POSITIVE = Finite(0, min_open=True)
_AS_MEASURED = "as in the run"


@click.command("cost", context_settings={"show_default": True})
@click.option("--like", "folder", required=True, type=PATH, help="Folder of the run to measure.")
@click.option("--problems", type=COUNT, show_default=_AS_MEASURED, help="Problems in the plan.")
@click.option("--policies", type=COUNT, show_default=_AS_MEASURED, help="Policies in the plan.")
@click.option("--samples", type=COUNT, show_default=_AS_MEASURED, help="Samples per problem and policy.")
@click.option("--tokens", type=_POSITIVE, show_default=_AS_MEASURED, help="Completion tokens per sample.")
@click.option(
    "--bytes-per-token",
    type=_POSITIVE,
    show_default=_AS_MEASURED,
    help="Bytes on disk per completion token, after compression.",
)
@click.option(
    "--tokens-per-second", type=_POSITIVE, show_default=_AS_MEASURED, help="Completion tokens per second of one GPU."
)
@click.option("--like-gpus", type=COUNT, default=1, help="GPUs that the measured run used, or its number of engines.")
@click.option("--gpus", type=COUNT, default=1, help="GPUs, or engines, to sample with.")
@click.option("--grading-workers", type=COUNT, default=1, help="Cores to grade with.")
@json_option
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

    The ranges are 95 % prediction intervals for other problems and policies of that kind. They do not account for
    another model, prompt or machine. The throughput is that of the run's engines unless you give one.
    """
    if tokens_per_second is not None and like_gpus != 1:
        raise click.UsageError(
            "--like-gpus divides the throughput of the run, which --tokens-per-second replaces: leave it out"
        )
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
        content = {"plan": plan, **asdict(cost), "measured": of_policy}
        print_json(to_jsonable_python(content, inf_nan_mode="null"))  # JSON has no NaN
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"Measured in {folder}: {rates.samples:,} samples, {counted[0]} problems, {counted[1]} policies.")
    console.print(_measured(of_policy))
    console.print(f"Planned: {size[0]:,} problems × {size[1]:,} policies × {size[2]:,} = {cost.samples:,} samples.")
    console.print(cost_table(cost))
    console.print(_assumptions(rates, resources), style="dim")


def _refuse_the_unknown(cost: Cost, rates: Rates, folder: Path) -> None:
    """Raise CostError if the run lacks the measurements behind a main figure."""
    if cost.completion_tokens is None:
        raise CostError(f"the samples of {folder} have no token counts: give --tokens")
    if cost.engine_hours is None:
        raise CostError(f"the samples of {folder} have no times: give --tokens-per-second")
    if not isfinite(rates.grading_cpu_s.mean):
        raise CostError(f"no sample of {folder} is graded, so grading time is unknown: grade some first")


def _measured(of_policy: dict[str, Rates]) -> Table:
    rows: list[list[str]] = []
    for name, rates in of_policy.items():
        numbers = [
            rates.samples,
            rates.prompt_tokens.mean,
            rates.completion_tokens.mean,
            rates.engine_s.mean,
            rates.tokens_per_s.mean,
            rates.text_bytes.mean + rates.row_bytes,
            1000 * rates.grading_cpu_s.mean,
        ]
        rows.append([shown(name), *map(short_number, numbers)])
    return plain_table(["policy", "samples", "prompt", "tokens", "s", "tokens/s", "bytes", "CPU ms"], rows)


def _assumptions(rates: Rates, resources: Resources) -> str:
    speed = resources.tokens_per_s or rates.tokens_per_s.mean / resources.measured_engines
    source = "as measured" if resources.tokens_per_s is None else "as given"
    texts = (
        "" if resources.tokens is None or resources.bytes_per_token else " Texts are taken to grow with their tokens."
    )
    return (
        f"{short_number(speed)} tokens per second per GPU ({source}). GPUs for sampling: {resources.engines}; cores "
        f"for grading meanwhile: {resources.workers}. All programs are taken to differ.{texts}"
    )
