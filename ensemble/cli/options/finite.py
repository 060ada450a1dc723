"""A click type for finite numbers."""

from math import isfinite
from typing import Any

import click


class Finite(click.FloatRange):
    """Float within a range. NaN and infinity are refused, which click accepts in an open range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse a value as click does, and check that it is finite."""
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Return nothing for a number without bounds, where click writes `x<=None` into the help."""
        return "" if self.min is None and self.max is None else super()._describe_range()
