"""Options of the commands that judge programs."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from alphamix.ensemble.cli.options import COUNT
from alphamix.grading.parallel.backends import EXTRA_OF_BACKEND

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--all-tests", is_flag=True, help="Run every test, not only those up to the first failure."),
    click.option("--workers", type=COUNT, help="Number of processes [one per core of the backend]."),
    click.option(
        "--backend",
        type=click.Choice(list(EXTRA_OF_BACKEND)),
        default="loky",
        show_default=True,
        help="Where the processes run.",
    ),
    click.option("--address", help="Address of a Dask scheduler or a Ray cluster [a local one]."),
)


def judging_options(command: _Command) -> _Command:
    """Add `--all-tests`, `--workers`, `--backend` and `--address` to a command, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def sandbox_option(default: str | None, help_text: str) -> Callable[[_Command], _Command]:
    """Return the option `--sandbox` with the command's own default."""
    return click.option("--sandbox", type=click.Choice(["strict", "weak"]), default=default, help=help_text)
