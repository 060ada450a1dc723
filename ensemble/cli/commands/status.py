"""`alphamix status`: what a run has done and what it owes, also while it goes on."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from alphamix.ensemble.cli.terminal.status_table import RunStatus, picture, read_status, to_json
from alphamix.ensemble.store import STORE_NAME, Store

_HASH = 12
"""Digits of a hash that are shown."""
_SECONDS_BETWEEN_LOOKS = 2.0


@click.command("status")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--sets", is_flag=True, help="List the sets of verdicts instead (see `alphamix regrade`).")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until the run has ended or Ctrl-C.")
def command(folder: Path, as_json: bool, sets: bool, watch: bool) -> None:
    """Show, per policy, how far the run in FOLDER is: samples, verdicts, tokens, and how fast it goes.

    It changes nothing, and works while the run goes on.
    """
    if watch and (as_json or sets):
        raise click.UsageError("--watch shows the table: leave out --json and --sets")
    if sets:
        _print_sets(folder, as_json)
        return
    standing = read_status(folder)
    if as_json:
        click.echo(json.dumps(to_json(standing), indent=2))
        return
    console = Console()
    if watch and console.is_terminal:
        standing = _watch(console, folder, standing)
    console.print(picture(standing))
    if standing.num_verdict_sets > 1:
        click.echo(f"{standing.num_verdict_sets} sets of verdicts: --sets lists them")


def _watch(console: Console, folder: Path, standing: RunStatus) -> RunStatus:
    """Show how a run stands, again and again, on a screen that is put away at the end; return how it stood then."""
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while standing.is_at_work:
                live.update(picture(standing), refresh=True)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                standing = read_status(folder)
        except KeyboardInterrupt:
            pass
    return standing


def _print_sets(folder: Path, as_json: bool) -> None:
    with Store(folder / STORE_NAME, read_only=True) as store:
        sets = store.verdict_sets()
    if as_json:
        content = {
            one.name: {"graded": one.graded, "current": one.is_current, "created": one.created, "about": one.about}
            for one in sets
        }
        click.echo(json.dumps(content, indent=2))
        return
    table = Table("verdicts", "graded", "current", "with")
    for one in sets:
        table.add_row(one.name, f"{one.graded:,}", "yes" if one.is_current else "", _options(one.about))
    Console().print(table)


def _options(about: Mapping[str, Any]) -> str:
    """What a set was graded with, in short: hashes by their beginning, nothing that is as usual."""
    unusual = {key: value for key, value in about.items() if value not in (None, False, 1)}
    return ", ".join(f"{key} {(value[:_HASH] if key == 'problems' else value)}" for key, value in unusual.items())
