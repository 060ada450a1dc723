"""The option `--missing` of every command that reads a table of outcomes."""

from typing import get_args

import click

from alphamix.ensemble.outcomes.files import Missing

missing_option = click.option(
    "--missing",
    type=click.Choice(get_args(Missing)),
    default="error",
    show_default=True,
    help="What to leave out where samples are missing.",
)
