"""`alphamix status`: shows what a run has done and what it owes, even while a process is working on it."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from alphamix.ensemble.cli.options import PATH, json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.ensemble.cli.terminal.status_table import picture, to_json
from alphamix.ensemble.run.status import RunStatus, read_status
from alphamix.ensemble.store import STORE_NAME, Store

_HASH_DIGITS = 12
_SECONDS_BETWEEN_LOOKS = 2.0


@click.command("status")
@click.argument("folder", type=PATH)
@json_option
@click.option(
    "--verdict-sets",
    is_flag=True,
    help="Instead of the progress, list the sets of verdicts, such as those of `alphamix regrade`.",
)
@click.option("--watch", is_flag=True, help="Refresh every 2 seconds until the run ends or you press Ctrl-C.")
def command(folder: Path, as_json: bool, verdict_sets: bool, watch: bool) -> None:
    """Show the progress of the run in FOLDER.

    For each policy, the table counts samples, verdicts and tokens, and shows how fast they arrive. The command changes
    nothing and can be used during the run.
    """
    if watch and (as_json or verdict_sets):
        raise click.UsageError("--watch shows the table: leave out --json and --verdict-sets")
    if verdict_sets:
        _print_verdict_sets(folder, as_json)
        return
    status = read_status(folder)
    if as_json:
        print_json(to_json(status))
        return
    console = Console()
    if watch and console.is_terminal:
        status = _watch(console, folder, status)
    console.print(picture(status))
    if status.num_verdict_sets > 1:
        click.echo(f"{status.num_verdict_sets} sets of verdicts: --verdict-sets lists them")


def _watch(console: Console, folder: Path, status: RunStatus) -> RunStatus:
    """Show the status on a separate screen until the run ends; return the last one."""
    with Live(console=console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
        try:
            while status.is_at_work:
                live.update(picture(status), refresh=True)
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                status = read_status(folder)
        except KeyboardInterrupt:
            pass
    return status


def _print_verdict_sets(folder: Path, as_json: bool) -> None:
    with Store(folder / STORE_NAME, read_only=True) as store:
        sets = store.verdict_sets()
    if as_json:
        content = {
            each.name: {"graded": each.graded, "current": each.is_current, "created": each.created, "about": each.about}
            for each in sets
        }
        print_json(content)
        return
    table = Table("set of verdicts", "graded", "current", "options")
    for each in sets:
        table.add_row(each.name, f"{each.graded:,}", "yes" if each.is_current else "", _options(each.about))
    Console().print(table)


def _options(about: Mapping[str, Any]) -> str:
    """Return the options of a set that are not the defaults, with hashes cut to their first digits."""
    unusual = {key: value for key, value in about.items() if value not in (None, False, 1)}
    return ", ".join(f"{key} {value[:_HASH_DIGITS] if key == 'problems' else value}" for key, value in unusual.items())
