"""What a plan costs, as a table."""

from math import isfinite

from rich.table import Table

from alphamix.ensemble.report.formatting import plain_table
from alphamix.ensemble.run.cost_estimate import Cost, Range


def cost_table(cost: Cost) -> Table:
    """Return a row for each resource, with its mean and its range; n/a where it cannot be estimated."""
    rows = [
        ["prompt tokens", *_cells(cost.prompt_tokens)],
        ["completion tokens", *_cells(cost.completion_tokens)],
        ["bytes on disk", *_cells(cost.disk_bytes)],
        ["GPU (engine) hours", *_cells(cost.engine_hours)],
        ["grading CPU hours", *_cells(cost.grading_cpu_hours)],
        ["wall hours", *_cells(cost.wall_hours)],
    ]
    return plain_table(["", "mean", "from", "to"], rows)


def _cells(terms: Range | None) -> list[str]:
    if terms is None:
        return ["n/a", "", ""]
    return [short_number(value) for value in (terms.mean, terms.low, terms.high)]


def short_number(value: float) -> str:
    """Format a number with three significant digits and a prefix, as 31.7 G."""
    if not isfinite(value):
        return "n/a"
    for unit, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M")):
        if value >= unit:
            return f"{value / unit:.3g}{prefix}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
