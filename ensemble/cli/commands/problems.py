"""`alphamix problems`: the commands on a file of problems."""

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup

_HERE = "alphamix.ensemble.cli.commands"
_COMMANDS = {
    "convert": LazyCommand(f"{_HERE}.convert", "command", "Write the problems of a published benchmark."),
    "verify": LazyCommand(f"{_HERE}.verify", "command", "Judge the reference solutions of problems."),
}


@click.group("problems", cls=LazyGroup, commands_by_name=_COMMANDS)
def command() -> None:
    """Convert the problems of published benchmarks, and check problems."""
