"""`alphamix report`: analyse a finished run again."""

import json
import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ensemble import experiment, run
from ensemble.errors import EnsembleError
from ensemble.inputs import read_inputs
from ensemble.report.tables import tables
from ensemble.store import STORE_NAME, Store


class NoRunError(EnsembleError):
    """A folder lacks what a run leaves there."""


@click.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Set a key, as analysis.level=0.9.")
def command(folder: Path, overrides: tuple[str, ...]) -> None:
    """Analyse the run in FOLDER again, and write its tables, figures and page anew. Nothing is sampled or graded."""
    inputs = read_inputs(experiment.load(folder / "experiment.toml", overrides, os.environ))
    judge = _judge(folder / "manifest.json")
    if not (folder / STORE_NAME).is_file():  # which opening would make
        raise NoRunError(f"{folder} holds no {STORE_NAME}, a run's record: name the folder of a run, or run it again")
    with Store(folder / STORE_NAME) as store:
        analysis = run.report(store, inputs, folder, judge)
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(tables(analysis))
    console.print(f"\nReport: {folder / 'report.html'}", soft_wrap=True)


def _judge(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))["judge"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise NoRunError(
            f"{path} does not say how the run was judged ({error}): `alphamix resume {path.parent}` writes it anew"
        ) from error
