"""Options of the commands that read a table of outcomes."""

from typing import get_args

import click

from alphamix.ensemble.cli.options import PATH, Finite
from alphamix.ensemble.outcomes.files import Missing

outcomes_option = click.option(
    "--outcomes", "outcomes_file", required=True, type=PATH, help="Table of outcomes: CSV or Parquet."
)

missing_option = click.option(
    "--missing",
    type=click.Choice(get_args(Missing)),
    default="error",
    help="What to do where a policy has no samples of a problem.",
)

missing_of_run_option = click.option(
    "--missing",
    type=click.Choice(get_args(Missing)),
    show_default="as in the experiment",
    help="What to do about problems or policies that lack samples: make no report, or leave them out of it.",
)

level_option = click.option(
    "--level", type=Finite(0, 1, min_open=True, max_open=True), default=0.95, help="Confidence level of the intervals."
)
