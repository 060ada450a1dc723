"""`alphamix problems convert`: write the problems of a published benchmark as a file of problems."""

from pathlib import Path
from typing import Any

import click

from alphamix.atomic import whole_file
from alphamix.ensemble.cli.options import FILE
from alphamix.ensemble.cli.options.benchmarks import benchmark_options, selected_problems
from alphamix.grading.errors import GradingError


@click.command("convert")
@benchmark_options
@click.option("--output", "-o", required=True, type=FILE, help="File of problems (JSON lines) to write.")
def command(problems: str, output: Path, **selected: Any) -> None:
    """Write the problems of a benchmark, or of a FILE as it was published, in our own form.

    `alphamix problems list` names the benchmarks. Reference solutions are kept under the key `reference`, which no
    model sees.
    """
    count = 0
    with whole_file(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for problem in selected_problems(problems, **selected):
            if isinstance(problem, GradingError):
                raise problem
            file.write(problem.model_dump_json(exclude_defaults=True) + "\n")
            count += 1
        if not count:
            raise GradingError(f"no problem of {problems} is selected: widen the selection")
    click.echo(f"{count:,} problems written to {output}")
