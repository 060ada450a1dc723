"""`alphamix export`: write a run's samples, verdicts and outcomes to files for other programs."""

from pathlib import Path
from typing import Literal

import click

from alphamix.ensemble.cli.options import PATH, Finite, verdict_set_option
from alphamix.ensemble.interchange.export_run import MISSING, MissingInExport, export
from alphamix.ensemble.report.formatting import left_out_note
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
@click.option(
    "--missing",
    type=click.Choice(MISSING),
    default="keep",
    help="What to do in the outcomes about cells that lack verdicts: write what they have, refuse, or drop "
    "problems or policies.",
)
def command(
    folder: Path,
    output: Path,
    form: Literal["jsonl", "parquet"],
    verdict_set: str | None,
    level: float,
    missing: MissingInExport,
) -> None:
    """Write `samples`, `verdicts` and `outcomes` of the run in FOLDER: JSON lines and CSV, or Parquet.

    The run need not be finished. What the outcomes lack is said on standard error.
    """
    with Store(folder / STORE_NAME, read_only=True) as store:
        exported = export(store, output, level, form=form, verdict_set=verdict_set, missing=missing)
    if exported.outcomes is not None and exported.outcomes.left_out:
        click.echo(left_out_note(exported.outcomes), err=True)
    if exported.incomplete:
        click.echo(
            f"{exported.incomplete:,} cells of the outcomes lack verdicts, and have no row if they lack all: "
            "--missing drop-problems, or drop-policies, leaves out what has such a cell",
            err=True,
        )
    for path in exported.paths:
        click.echo(path)
