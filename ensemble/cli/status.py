"""`alphamix status`: what a run has done and what it owes, also while it goes on."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from ensemble.store import STORE_NAME, Store


@click.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(folder: Path, as_json: bool) -> None:
    """Show, per policy, how many samples are planned, drawn and graded in the run in FOLDER."""
    with Store(folder / STORE_NAME, read_only=True) as store:
        progress = store.progress()
    if as_json:
        click.echo(progress.to_json(orient="index", indent=2))
        return
    table = Table("policy", *progress.columns)
    for policy, row in progress.iterrows():
        table.add_row(str(policy), *(f"{count:,}" for count in row))
    Console().print(table)
