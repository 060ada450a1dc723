"""`alphamix run`: the whole way of one experiment."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console

from ensemble import experiment, plan, run
from ensemble.cli.progress import RunProgress
from ensemble.inputs import Inputs, read_inputs
from ensemble.report.tables import conclusion, tables


@click.command("run")
@click.argument("experiment_file", metavar="EXPERIMENT", type=click.Path(path_type=Path))
@click.option("--output-dir", "-o", type=click.Path(path_type=Path), help="Folder of the run [results/NAME].")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key, as budget.samples=50.")
@click.option("--sandbox", type=click.Choice(["strict", "weak"]), help="Short for --set grading.sandbox=….")
@click.option("--dry-run", is_flag=True, help="Check everything, say what would be sampled, write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no tables.")
def command(
    experiment_file: Path,
    output_dir: Path | None,
    overrides: tuple[str, ...],
    sandbox: str | None,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run an EXPERIMENT (a TOML file): make the policies, sample, grade, and report.

    The same command goes on with a run that was interrupted.
    """
    if sandbox is not None:
        overrides += (f"grading.sandbox={sandbox}",)
    settings = experiment.load(experiment_file, overrides, os.environ)
    folder = output_dir or Path("results") / settings.name
    inputs = read_inputs(settings)
    if dry_run:
        click.echo(_plan(inputs, folder))
        return
    execute(inputs, folder, as_json=as_json, quiet=quiet)


def execute(inputs: Inputs, folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Run, show how it ended, and exit with 3 if work is still owed."""
    console = Console(stderr=as_json)
    with RunProgress(console, quiet=quiet or as_json) as progress:
        result = run.run(inputs, folder, progress)
    if result.analysis is None:
        _print_owed(result.owed, folder)
        sys.exit(3)
    if as_json:
        click.echo((folder / "summary.json").read_text(encoding="utf-8"), nl=False)
    elif quiet:
        click.echo(conclusion(result.analysis))
    else:
        console.print(tables(result.analysis))
        console.print(f"\nReport: {folder / 'report.html'}", highlight=False, soft_wrap=True)


def _plan(inputs: Inputs, folder: Path) -> str:
    return json.dumps({"folder": str(folder), **plan.describe(inputs)}, indent=2)


def _print_owed(owed: Counter[str], folder: Path) -> None:
    click.echo(f"{owed.total()} samples or verdicts of {folder} are still owed:", err=True)
    for cause, count in owed.most_common(10):
        click.echo(f"  {count} × {cause}", err=True)
    click.echo("the same command asks for them again", err=True)
