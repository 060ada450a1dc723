"""`alphamix export`: write a run's samples, verdicts and outcomes to files for other programs."""

from pathlib import Path
from typing import Literal

import click

from alphamix.ensemble.cli.options import PATH, Finite, verdict_set_option
from alphamix.ensemble.interchange import export
from alphamix.ensemble.store import STORE_NAME, Store


@click.command("export", context_settings={"show_default": True})
@click.argument("folder", type=PATH)
@click.option("--output", "-o", required=True, type=PATH, help="Folder to write to.")
@click.option("--format", "form", type=click.Choice(["jsonl", "parquet"]), default="jsonl", help="File format.")
@verdict_set_option
@click.option(
    "--coverage",
    "level",
    type=Finite(0, 1, min_open=True),
    default=1.0,
    metavar="LEVEL",
    help="Count a sample as accepted in the outcomes if it passed this share of the tests, taken from the first on.",
)
def command(
    folder: Path, output: Path, form: Literal["jsonl", "parquet"], verdict_set: str | None, level: float
) -> None:
    """Write `samples`, `verdicts` and `outcomes` of the run in FOLDER: JSON lines and CSV, or Parquet."""
    with Store(folder / STORE_NAME, read_only=True) as store:
        for path in export(store, output, level, form=form, verdict_set=verdict_set):
            click.echo(path)
