"""What a command says when it ends with work still owed."""

from collections import Counter

import click

_MOST_CAUSES = 10


def print_owed(what: str, owed: Counter[str], cure: str = "the same command asks for them again") -> None:
    """Say on standard error what is owed, by cause, and how to go on."""
    click.echo(f"{owed.total()} {what} are still owed:", err=True)
    for cause, count in owed.most_common(_MOST_CAUSES):
        click.echo(f"  {count} × {cause}", err=True)
    click.echo(cure, err=True)
