"""`alphamix report`: analyse a run again."""

import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from alphamix.ensemble.cli.options import PATH, set_option, verdict_set_option
from alphamix.ensemble.cli.options.outcomes import missing_of_run_option
from alphamix.ensemble.cli.terminal.output import print_report
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.run import pipeline as run
from alphamix.ensemble.store import STORE_NAME, Store


class NoRunError(EnsembleError):
    """A folder lacks files that a run writes."""


@click.command("report")
@click.argument("folder", type=PATH)
@set_option
@click.option(
    "--coverage",
    "level",
    type=click.FloatRange(0, 1, min_open=True),
    help="Count a sample as accepted at this coverage level.",
)
@verdict_set_option
@missing_of_run_option
def command(
    folder: Path, overrides: tuple[str, ...], level: float | None, verdict_set: str | None, missing: str | None
) -> None:
    """Analyse the run in FOLDER again, and rewrite its tables, figures and page. Nothing is sampled or graded.

    With --coverage or --verdict-set, the report is written to a folder inside FOLDER. The run need not be finished:
    --missing says what to leave out. The policies' weights need not be there.
    """
    if missing is not None:
        overrides += (f"analysis.missing={missing}",)
    settings = experiment.load(folder / "experiment.toml", overrides, os.environ)
    inputs = read_inputs(settings, is_sampled=False)
    judge = _judge(folder / "manifest.json")
    if not (folder / STORE_NAME).is_file():  # opening it would create it
        raise NoRunError(f"{folder} has no {STORE_NAME}, a run's record: give the folder of a run")
    target = folder / _subfolder(level, verdict_set)
    with Store(folder / STORE_NAME) as store:
        if verdict_set is not None:
            judge = json.loads(next(iter(store.judges(verdict_set)), json.dumps(judge)))
        report = run.report(store, inputs, target, judge, verdict_set, 1.0 if level is None else level)
    print_report(report, Console(highlight=False, markup=False, emoji=False))


def _subfolder(level: float | None, verdict_set: str | None) -> str:
    parts = [*([f"verdicts-{verdict_set}"] if verdict_set else []), *([f"coverage-{level:g}"] if level else [])]
    return "_".join(parts)


def _judge(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["judge"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NoRunError(
            f"{path} does not say how the run was judged ({error}): `alphamix resume {path.parent}` rewrites it"
        ) from error
