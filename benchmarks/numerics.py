"""Benchmarks of the numbers: estimators, the best mixture, the full analysis. Part of `make bench`.

Writes `docs/benchmarks_statistics.md`. (A file named `statistics.py` here would hide the standard library's.)
"""

import os
import platform
from datetime import date
from pathlib import Path

# As the search for mixtures sets it itself; here for both sides of every comparison.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import analysis
import estimators
import mixture

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks_statistics.md"
_HEAD = """# Benchmarks of the numbers

Made by `make bench` on {day}: {cores} cores, {machine}, Python {python}, one BLAS thread. CPU seconds, median of paired
runs; `×` is other / ours. Read the ratios: absolute figures depend on the machine and its other work.

| what | ours | other | result | target |
|---|---|---|---|---|
"""


def main() -> None:
    """Print and write the table."""
    rows = [row for module in (estimators, mixture, analysis) for row in module.rows()]
    table = "".join(f"| {row.what} | {row.ours} | {row.other} | {row.result} | {row.target} |\n" for row in rows)
    machine = f"{platform.system()} {platform.machine()}"
    head = _HEAD.format(
        day=date.today().isoformat(), cores=os.cpu_count(), machine=machine, python=platform.python_version()
    )
    _PAGE.write_text(head + table, encoding="utf-8")
    print(head + table)


if __name__ == "__main__":
    main()
