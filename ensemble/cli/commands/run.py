"""`alphamix run`: the whole way of one experiment."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alphamix.ensemble.budget import Currency
from alphamix.ensemble.cli.terminal.progress import RunProgress
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.resolved import Inputs, read_inputs
from alphamix.ensemble.report.run_text import conclusion, run_tables
from alphamix.ensemble.run import pipeline as run
from alphamix.ensemble.run import plan
from alphamix.ensemble.run.cost_estimate import Cost, Resources, estimate_run, pooled, rates_of
from alphamix.ensemble.store import STORE_NAME, Store


@click.command("run")
@click.argument("experiment_file", metavar="EXPERIMENT", type=click.Path(path_type=Path))
@click.option("--output-dir", "-o", type=click.Path(path_type=Path), help="Folder of the run [results/NAME].")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key, as budget.samples=50; may be repeated."
)
@click.option("--sandbox", type=click.Choice(["strict", "weak"]), help="Short for --set grading.sandbox=….")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be sampled, write nothing.")
@click.option(
    "--like",
    type=click.Path(path_type=Path),
    help="With --dry-run: tell the cost by what samples took in the run in this folder [the run's own, once begun].",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no tables.")
def command(
    experiment_file: Path,
    output_dir: Path | None,
    overrides: tuple[str, ...],
    sandbox: str | None,
    dry_run: bool,
    like: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run an EXPERIMENT (a TOML file): make the policies, sample, grade, and report.

    The same command goes on with a run that was interrupted.
    """
    if like is not None and not dry_run:
        raise click.UsageError("--like tells the cost of a plan: give it with --dry-run")
    if sandbox is not None:
        overrides += (f"grading.sandbox={sandbox}",)
    settings = experiment.load(experiment_file, overrides, os.environ)
    folder = output_dir or Path("results") / settings.name
    inputs = read_inputs(settings)
    if dry_run:
        click.echo(_plan(inputs, folder, like))
        return
    execute(inputs, folder, as_json=as_json, quiet=quiet)


def execute(inputs: Inputs, folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Run, show how it ended, and exit with 3 if work is still owed."""
    console = Console(stderr=as_json)
    with RunProgress(console, quiet=quiet or as_json) as progress:
        result = run.run(inputs, folder, progress)
    if result.analysis is None:
        _print_owed(result.owed, folder, inputs.experiment.budget.run.limits)
        sys.exit(3)
    if as_json:
        click.echo((folder / "summary.json").read_text(encoding="utf-8"), nl=False)
    elif quiet:
        click.echo(conclusion(result.analysis))
    else:
        console.print(run_tables(result.analysis))
        console.print(f"\nReport: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _plan(inputs: Inputs, folder: Path, like: Path | None) -> str:
    """The plan, and its cost where a run tells what samples take."""
    told: dict[str, Any] = {"folder": str(folder), **plan.describe(inputs)}
    measured = folder if like is None and (folder / STORE_NAME).is_file() else like
    if measured is not None:
        told["cost"] = asdict(_cost(inputs, told["samples_per_problem"], measured))
    return json.dumps(told, indent=2)


def _cost(inputs: Inputs, samples_per_problem: Mapping[str, int], measured: Path) -> Cost:
    """By the rates of each policy; those of one that was not measured are taken to be like all that were."""
    with Store(measured / STORE_NAME, read_only=True, create=False) as store, store.snapshot():
        rates, of_policy = pooled(store), rates_of(store)
    problems = len(inputs.problems)
    samples = {name: count * problems for name, count in samples_per_problem.items()}
    workers = inputs.experiment.grading.num_workers
    known = {name: of_policy.get(name, rates) for name in samples}
    return estimate_run(problems, samples, known, Resources(workers=workers))


def _print_owed(owed: Counter[str], folder: Path, limits: Mapping[Currency, float]) -> None:
    click.echo(f"{owed.total()} samples or verdicts of {folder} are still owed:", err=True)
    for cause, count in owed.most_common(10):
        click.echo(f"  {count} × {cause}", err=True)
    spent = [f"budget.run.{currency}" for currency in limits if any(f"budget.run.{currency} = " in one for one in owed)]
    if spent:  # to ask again would end in the same way
        click.echo(f"`alphamix run` with a higher {spent[0]}, as by --set, goes on", err=True)
    else:
        click.echo("the same command asks for them again", err=True)
