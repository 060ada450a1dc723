"""`alphamix export`: a run's samples, verdicts and outcomes as files that other programs read."""

from pathlib import Path

import click

from ensemble.exchange import export
from ensemble.store import STORE_NAME, Store


@click.command("export")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--output", "-o", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
def command(folder: Path, output: Path) -> None:
    """Write `samples.jsonl`, `verdicts.jsonl` and `outcomes.csv` of the run in FOLDER."""
    with Store(folder / STORE_NAME, read_only=True) as store:
        for path in export(store, output):
            click.echo(path)
