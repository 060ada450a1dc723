"""`alphamix policies`: the policies of a file, and merges without one."""

import click

from alphamix.ensemble.cli.lazy_group import LazyCommand, LazyGroup

_HERE = "alphamix.ensemble.cli.commands"
_COMMANDS = {
    "list": LazyCommand(
        f"{_HERE}.list_policies",
        "command",
        "List the policies of a file, after checking all of them.",
    ),
    "check": LazyCommand(f"{_HERE}.check", "command", "Ask each policy a little, before a budget is spent on it."),
    "merge": LazyCommand(f"{_HERE}.merge", "merge", "Merge checkpoints: one α or several, any affine combination."),
    "merge-adapters": LazyCommand(f"{_HERE}.adapters", "merge", "Merge two LoRA adapters of one base, exactly."),
    "extract-adapter": LazyCommand(f"{_HERE}.adapters", "extract", "Make a LoRA adapter of what training changed."),
    "trajectory": LazyCommand(
        f"{_HERE}.trajectory", "command", "Say how straight a run's weights moved; go on with it."
    ),
}


@click.group("policies", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """List and check the policies of a file, and make weights."""
