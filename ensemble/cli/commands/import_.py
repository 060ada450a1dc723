"""`alphamix import`: put samples and verdicts from files into a run."""

from pathlib import Path

import click

from alphamix.ensemble.cli.options import FILE, PATH
from alphamix.ensemble.interchange import Imported, import_samples, import_verdicts
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Store


@click.command("import")
@click.argument("folder", type=PATH)
@click.option("--samples", type=FILE, help="Samples, as JSON lines or Parquet.")
@click.option("--verdicts", type=FILE, help="Verdicts, as JSON lines or Parquet.")
@click.option(
    "--verdict-set", metavar="NAME", default=RUN_SET, show_default=True, help="Set that the verdicts are put into."
)
def command(folder: Path, samples: Path | None, verdicts: Path | None, verdict_set: str) -> None:
    """Put samples and verdicts that were made elsewhere into the planned slots of the run in FOLDER.

    A file is imported whole or not at all; a slot that already has a sample keeps it.
    """
    if samples is None and verdicts is None:
        raise click.UsageError("nothing to import: give --samples, --verdicts, or both")
    with Store(folder / STORE_NAME, create=False) as store:
        if samples is not None:
            _print("samples", import_samples(store, samples))
        if verdicts is not None:
            _print("verdicts", import_verdicts(store, verdicts, verdict_set))


def _print(what: str, imported: Imported) -> None:
    notes = [f"{imported.added:,} {what} imported", f"{imported.present:,} already existed"]
    if imported.left_out:
        notes.append(f"{imported.left_out:,} left out because the judge failed on them (IE)")
    click.echo("; ".join(notes))
