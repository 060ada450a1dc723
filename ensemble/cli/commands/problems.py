"""`alphamix problems`: the commands on a file of problems."""

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup

_HERE = "alphamix.ensemble.cli.commands"
_COMMANDS = {
    "verify": LazyCommand(f"{_HERE}.verify", "command", "Judge the reference solutions of problems."),
}


@click.group("problems", cls=LazyGroup, commands_by_name=_COMMANDS)
def command() -> None:
    """Check the problems of a file."""
