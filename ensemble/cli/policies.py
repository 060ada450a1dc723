"""`alphamix policies`: the policies of a file, and merges without one."""

import click

from ensemble.cli.lazy import Lazy, LazyGroup

_COMMANDS = {
    "list": Lazy("ensemble.cli.list_policies", "command", "List the policies of a file, after checking all of them."),
    "check": Lazy("ensemble.cli.check", "command", "Ask each policy a little, before a budget is spent on it."),
    "merge": Lazy("ensemble.cli.merge", "merge", "Merge checkpoints: one α or several, any affine combination."),
    "merge-adapters": Lazy("ensemble.cli.adapters", "merge", "Merge two LoRA adapters of one base, exactly."),
    "extract-adapter": Lazy("ensemble.cli.adapters", "extract", "Make a LoRA adapter of what training changed."),
    "trajectory": Lazy("ensemble.cli.trajectory", "command", "Say how straight a run's weights moved; go on with it."),
}


@click.group("policies", cls=LazyGroup, lazy=_COMMANDS)
def command() -> None:
    """List and check the policies of a file, and make weights."""
