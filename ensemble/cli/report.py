"""`alphamix report`: analyse a finished run again."""

import json
import os
from pathlib import Path

import click
from rich.console import Console

from ensemble import experiment, run
from ensemble.inputs import read_inputs
from ensemble.report.tables import tables
from ensemble.store import STORE_NAME, Store


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key, as analysis.level=0.9.")
def command(folder: Path, overrides: tuple[str, ...]) -> None:
    """Analyse the run in FOLDER again, and write its tables, figures and page anew. Nothing is sampled or graded."""
    inputs = read_inputs(experiment.load(folder / "experiment.toml", overrides, os.environ))
    judge = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["judge"]
    with Store(folder / STORE_NAME) as store:
        analysis = run.report(store, inputs, folder, judge)
    console = Console()
    console.print(tables(analysis))
    console.print(f"\nReport: {folder / 'report.html'}", highlight=False, soft_wrap=True)
