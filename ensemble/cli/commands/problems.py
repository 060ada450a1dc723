"""`alphamix problems`: the commands on a file of problems."""

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup

_HERE = "alphamix.ensemble.cli.commands"
_COMMANDS = {
    "list": LazyCommand(f"{_HERE}.list_benchmarks", "command", "List the benchmarks that have a name here."),
    "show": LazyCommand(f"{_HERE}.show_benchmark", "command", "Show what a benchmark is, and how to get it."),
    "convert": LazyCommand(f"{_HERE}.convert", "command", "Write the problems of a published benchmark."),
    "verify": LazyCommand(f"{_HERE}.verify", "command", "Judge the reference solutions of problems."),
}


@click.group("problems", cls=LazyGroup, commands_by_name=_COMMANDS)
def command() -> None:
    """Convert the problems of published benchmarks, and check problems."""
