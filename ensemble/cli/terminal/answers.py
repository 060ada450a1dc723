"""The common frame of answers that rest on a table of outcomes: the same heading on a terminal and in JSON."""

import json
from typing import Any

import click
from rich.console import Console

from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.report.tables import left_out_note


def print_json(content: dict[str, Any], outcomes: Outcomes) -> None:
    """Print an answer as JSON, with the number of problems that it rests on and what was left out."""
    about = {"problems": len(outcomes.problems), "left_out": outcomes.left_out}
    click.echo(json.dumps({**content, **about}, indent=2, ensure_ascii=False))


def print_heading(heading: str, outcomes: Outcomes) -> Console:
    """Print the heading of an answer and what was left out; return the console to print the rest on.

    The console prints every name as it is: a policy may be called `[bold]` or `:smile:`.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(heading)
    if outcomes.left_out:
        console.print(left_out_note(outcomes.left_out))
    return console
