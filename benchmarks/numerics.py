"""Benchmarks of the numbers: estimators, the best mixture, the full analysis. They are part of `make bench`.

Writes `docs/benchmarks_statistics.md`. (A file named `statistics.py` here would hide the standard library's.)
"""

import os
from pathlib import Path

# The search for mixtures limits BLAS to one thread itself; set it here for both sides of every comparison.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import analysis
import estimators
import mixture
from measure import write_page

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks_statistics.md"
_HEAD = """# Benchmarks of the numbers

Made by `make bench` on {day}: {cores} cores, {machine}, Python {python}, one BLAS thread. The figures are CPU seconds,
medians of paired runs; `×` is other / ours. Compare the ratios, since absolute figures depend on the machine and its
other work.

| what | ours | other | result | target |
|---|---|---|---|---|
"""


def main() -> None:
    """Print and write the table."""
    rows = [row for module in (estimators, mixture, analysis) for row in module.rows()]
    write_page(_PAGE, _HEAD, rows)


if __name__ == "__main__":
    main()
