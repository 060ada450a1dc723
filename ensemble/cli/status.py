"""`alphamix status`: what a run has done and what it owes, also while it goes on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from ensemble.store import STORE_NAME, Store

_HASH = 12
"""Digits of a hash that are shown."""


@click.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--sets", is_flag=True, help="List the sets of verdicts instead (see `alphamix regrade`).")
def command(folder: Path, as_json: bool, sets: bool) -> None:
    """Show, per policy, how many samples are planned, drawn and graded in the run in FOLDER."""
    with Store(folder / STORE_NAME, read_only=True) as store:
        progress, verdict_sets = store.progress(), store.verdict_sets()
    if as_json and sets:
        table = {
            one.name: {"graded": one.graded, "current": one.is_current, "created": one.created, "about": one.about}
            for one in verdict_sets
        }
        click.echo(json.dumps(table, indent=2))
    elif as_json:
        click.echo(progress.to_json(orient="index", indent=2))
    elif sets:
        table = Table("verdicts", "graded", "current", "with")
        for one in verdict_sets:
            table.add_row(one.name, f"{one.graded:,}", "yes" if one.is_current else "", _options(one.about))
        Console().print(table)
    else:
        table = Table("policy", *progress.columns)
        for policy, row in progress.iterrows():
            table.add_row(str(policy), *(f"{count:,}" for count in row))
        Console().print(table)
        if len(verdict_sets) > 1:
            click.echo(f"{len(verdict_sets)} sets of verdicts: --sets lists them")


def _options(about: Mapping[str, Any]) -> str:
    """What a set was graded with, in short: hashes by their beginning, nothing that is as usual."""
    unusual = {key: value for key, value in about.items() if value not in (None, False, 1)}
    return ", ".join(f"{key} {(value[:_HASH] if key == 'problems' else value)}" for key, value in unusual.items())
