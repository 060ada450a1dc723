"""Run all benchmarks and write the table to `docs/benchmarks.md`: `make bench`."""

import os
import platform
from datetime import date
from pathlib import Path

import engine
import judge

_PAGE = Path(__file__).parents[1] / "docs" / "benchmarks.md"
_HEAD = """# Benchmarks

Made by `make bench` on {day}: {cores} cores, {machine}, Python {python}. CPU seconds (user and system, children
included), median of three paired runs; `×` is other / ours. Read the ratios: absolute figures depend on the machine and
its other work.

| what | ours | other | result | target |
|---|---|---|---|---|
"""


def main() -> None:
    """Print and write the table."""
    rows = [row for module in (judge, engine) for row in module.rows()]
    table = "".join(f"| {row.what} | {row.ours} | {row.other} | {row.result} | {row.target} |\n" for row in rows)
    head = _HEAD.format(
        day=date.today().isoformat(),
        cores=os.cpu_count(),
        machine=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
    )
    _PAGE.write_text(head + table, encoding="utf-8")
    print(head + table)


if __name__ == "__main__":
    main()
