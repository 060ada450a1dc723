"""`alphamix run`: carry out an experiment from policies to report."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alphamix.ensemble.budget import Currency
from alphamix.ensemble.cli.options import PATH, json_option, quiet_option, set_option
from alphamix.ensemble.cli.options.judging import sandbox_option
from alphamix.ensemble.cli.options.outcomes import missing_of_run_option
from alphamix.ensemble.cli.terminal.output import (
    ASK_AGAIN,
    print_json,
    print_notes,
    print_owed,
    print_report,
)
from alphamix.ensemble.cli.terminal.plan_text import plan_text
from alphamix.ensemble.cli.terminal.progress import RunProgress
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.resolved import Inputs, read_inputs
from alphamix.ensemble.report.run_text import conclusion
from alphamix.ensemble.run import pipeline as run
from alphamix.ensemble.run import plan
from alphamix.ensemble.run.cost_estimate import Cost, Resources, estimate_run, pooled, rates_of
from alphamix.ensemble.run.open_setting import check_settings
from alphamix.ensemble.run.spend_limit import spent_limits
from alphamix.ensemble.store import STORE_NAME, Store


@click.command("run")
@click.argument("experiment_file", metavar="EXPERIMENT", type=PATH)
@click.option("--output-dir", "-o", type=PATH, show_default="results/NAME", help="Folder of the run.")
@set_option
@sandbox_option(None, "Short for --set grading.sandbox=VALUE.")
@missing_of_run_option
@click.option("--dry-run", is_flag=True, help="Check everything and print what would be sampled; write nothing.")
@click.option(
    "--like",
    type=PATH,
    show_default="the run itself, once it has begun",
    help="With --dry-run: estimate the cost from the run in this folder.",
)
@json_option
@quiet_option
def command(
    experiment_file: Path,
    output_dir: Path | None,
    overrides: tuple[str, ...],
    sandbox: str | None,
    missing: str | None,
    dry_run: bool,
    like: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run an EXPERIMENT (a TOML file): make the policies, sample, grade, and report.

    If interrupted, the same command continues the run. If some samples cannot be drawn, it exits with 3 and makes no
    report, unless --missing says what to leave out of it.
    """
    if like is not None and not dry_run:
        raise click.UsageError("--like estimates the cost of a plan: give it with --dry-run")
    if sandbox is not None:
        overrides += (f"grading.sandbox={sandbox}",)
    if missing is not None:
        overrides += (f"analysis.missing={missing}",)
    settings = experiment.load(experiment_file, overrides, os.environ)
    folder = output_dir or Path("results") / settings.name
    inputs = read_inputs(settings)
    if dry_run:
        check_settings(settings.sampling)
        content = _plan(inputs, folder, like)
        if as_json:
            print_json(content)
        else:
            Console(highlight=False, markup=False, emoji=False).print(plan_text(content))
        return
    execute(inputs, folder, as_json=as_json, quiet=quiet)


def execute(inputs: Inputs, folder: Path, *, as_json: bool, quiet: bool) -> None:
    """Run an experiment, show the result, and exit with 3 if work is still owed or there is no report."""
    console = Console(stderr=as_json)
    with RunProgress(console, quiet=quiet or as_json) as progress:
        result = run.run(inputs, folder, progress)
    if result.report is not None:
        if as_json:
            click.echo((folder / "summary.json").read_text(encoding="utf-8"), nl=False)
        elif quiet:
            print_notes(result.report)
            click.echo(conclusion(result.report.analysis))
        else:
            print_report(result.report, console)
    _print_left(result, folder, inputs.design.budget.run.amounts)
    if result.report is None or result.left.owed:
        sys.exit(3)


def _plan(inputs: Inputs, folder: Path, like: Path | None) -> dict[str, Any]:
    """Return the plan for `--dry-run`, with its cost if there is a run to estimate it from."""
    content: dict[str, Any] = {"folder": str(folder), **plan.describe(inputs.design)}
    measured = folder if like is None and (folder / STORE_NAME).is_file() else like
    if measured is not None:
        content["cost"] = _cost(inputs, content["samples_per_problem"], measured)
    return content


def _cost(inputs: Inputs, samples_per_problem: Mapping[str, int], measured: Path) -> Cost:
    """Estimate the cost from the rates of each policy; a policy that was not measured gets the pooled rates."""
    with Store(measured / STORE_NAME, read_only=True, create=False) as store, store.snapshot():
        rates, of_policy = pooled(store), rates_of(store)
    problems = len(inputs.design.problems)
    samples = {name: count * problems for name, count in samples_per_problem.items()}
    workers = inputs.experiment.grading.num_workers(is_sampling_here=False)
    known = {name: of_policy.get(name, rates) for name in samples}
    return estimate_run(problems, samples, known, Resources(workers=workers))


def _print_left(result: run.Result, folder: Path, limits: Mapping[Currency, float]) -> None:
    """Print on standard error what is missing, by cause, and how to go on. Nothing is printed if nothing is."""
    left = result.left
    if left.owed:
        # Asking again would change nothing once a limit of the run is spent.
        spent = spent_limits(left.owed, limits)
        higher = f"`alphamix run` with a higher {spent[0]}, for example by --set, continues the run" if spent else ""
        print_owed(f"samples or verdicts of {folder} are still owed", left.owed, higher or ASK_AGAIN)
    if left.rejected:
        print_owed(f"samples of {folder} cannot be drawn", left.rejected, ASK_AGAIN)
    if left.is_anything and result.report is None:
        click.echo(
            result.no_report
            or "`alphamix report` with --missing drop-problems, or drop-policies, goes on without them",
            err=True,
        )
