"""Run all benchmarks and write the table to `docs/benchmarks.md`: `make bench`."""

from pathlib import Path

import engine
import judge
from measure import write_page

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Made by `make bench` on {day}: {cores} cores, {machine}, Python {python}. The figures are CPU seconds (user and system,
children included), medians of three paired runs; `×` is other / ours. Compare the ratios, since absolute figures depend
on the machine and its other work.

| what | ours | other | result | target |
|---|---|---|---|---|
"""


def main() -> None:
    """Print and write the table."""
    rows = [row for module in (judge, engine) for row in module.rows()]
    write_page(_PAGE, _HEAD, rows)


if __name__ == "__main__":
    main()
