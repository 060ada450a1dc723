"""Options that several commands about runs share."""

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
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print neither progress nor tables.")
