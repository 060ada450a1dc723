"""Options of the commands that read or write the folder of a run."""

import click

set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the experiment, such as budget.samples=50. May be repeated.",
)
verdict_set_option = click.option(
    "--verdict-set", metavar="NAME", help="Set of verdicts (see `alphamix regrade`) [the current one]."
)
