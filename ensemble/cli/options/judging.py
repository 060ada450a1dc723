"""Options of the commands that judge programs."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from alphamix.ensemble.cli.options import COUNT
from alphamix.grading.parallel.backends import EXTRA_OF_BACKEND

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _split(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(",") if name.strip())


packages_option = click.option(
    "--packages",
    metavar="NAME,…",
    callback=_split,
    show_default="none",
    help="Installed packages that programs may import, such as numpy,scipy.",
)
_OPTIONS = (
    packages_option,
    click.option("--all-tests", is_flag=True, help="Run every test, not only those up to the first failure."),
    click.option("--workers", type=COUNT, show_default="one per core", help="Number of processes."),
    click.option(
        "--backend",
        type=click.Choice(list(EXTRA_OF_BACKEND)),
        default="loky",
        show_default=True,
        help="Where the processes run.",
    ),
    click.option(
        "--address", metavar="ADDRESS", show_default="a local one", help="Address of a Dask scheduler or a Ray cluster."
    ),
)


def judging_options(command: _Command) -> _Command:
    """Add `--packages`, `--all-tests`, `--workers`, `--backend` and `--address` to a command, in this order."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def sandbox_option(default: str | None, help_text: str, *, shown: str | bool = True) -> Callable[[_Command], _Command]:
    """Return the option `--sandbox` with the command's own default, and what the help says of it."""
    choice = click.Choice(["strict", "weak"])
    return click.option("--sandbox", type=choice, default=default, show_default=shown, help=help_text)
