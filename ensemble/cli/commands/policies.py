"""`alphamix policies`: the commands on a file of policies, and on checkpoints and adapters without one."""

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup

_HERE = "alphamix.ensemble.cli.commands"
_COMMANDS = {
    "list": LazyCommand(f"{_HERE}.list_policies", "command", "List the policies of a file, and check the file."),
    "check": LazyCommand(f"{_HERE}.check", "command", "Send each policy a few requests and check its answers."),
    "merge": LazyCommand(f"{_HERE}.merge", "merge", "Merge checkpoints at one or more α, or as a weighted sum."),
    "merge-adapters": LazyCommand(f"{_HERE}.adapters", "merge", "Merge two LoRA adapters of one base exactly."),
    "extract-adapter": LazyCommand(f"{_HERE}.adapters", "extract", "Extract a LoRA adapter from a tuned checkpoint."),
    "trajectory": LazyCommand(f"{_HERE}.trajectory", "command", "Measure how straight a training run is; extend it."),
}


@click.group("policies", cls=LazyGroup, commands_by_name=_COMMANDS)
def command() -> None:
    """List and check the policies of a file, and make new weights."""
