"""Option types and options that several commands share."""

from math import isfinite
from pathlib import Path
from typing import Any

import click

COUNT = click.IntRange(min=1)
FILE = click.Path(path_type=Path, dir_okay=False)
PATH = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print neither progress nor tables.")
set_option = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the experiment, such as budget.samples=50. May be repeated.",
)
verdict_set_option = click.option(
    "--verdict-set",
    metavar="NAME",
    show_default="the current one",
    help="Set of verdicts, as `alphamix status --verdict-sets` lists them.",
)


class Finite(click.FloatRange):
    """Finite float within a range. Click itself accepts NaN and infinity in an open range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a value as click does, and check that it is finite."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Return an empty text for a number without bounds, for which click would write `x<=None` into the help."""
        return "" if self.min is None and self.max is None else super()._describe_range()
