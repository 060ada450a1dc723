"""Numbers on the command line that are finite: click takes `nan` for one within any range."""

from math import isfinite
from typing import Any

import click


class Finite(click.FloatRange):
    """A float within a range; NaN and infinity are refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse, as click does."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Say nothing in the help of a number that may be any, where click says `x<=None`."""
        return "" if self.min is None and self.max is None else super()._describe_range()


SHARE = Finite(0, 1, min_open=True, max_open=True)
"""As the level of an interval."""
