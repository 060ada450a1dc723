"""`alphamix problems convert`: write the problems of a published benchmark as a file of problems."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from alphamix.atomic import whole_file
from alphamix.ensemble.cli.options import FILE
from alphamix.ensemble.cli.options.benchmarks import benchmark_options, selected_problems
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.verification import with_measured_limit


@click.command("convert")
@benchmark_options
@click.option("--output", "-o", required=True, type=FILE, help="File of problems (JSON lines) to write.")
@click.option("--measure-limits", is_flag=True, help="Measure time limits that packages leave to the judge.")
def command(problems: str, output: Path, measure_limits: bool, **selected: Any) -> None:
    """Write the problems of a benchmark, or of a FILE as it was published, in our own form.

    `alphamix problems list` names the benchmarks. Reference solutions are kept under the key `reference`, which no
    model sees. A package of Kattis that states no time limit gets 10 s; --measure-limits makes it what its reference
    takes, times the multiplier of the package.
    """
    count = 0
    with ExitStack() as stack:
        judge = stack.enter_context(Judge()) if measure_limits else None
        file = stack.enter_context(stack.enter_context(whole_file(output)).open("w", encoding="utf-8"))
        for problem in selected_problems(problems, **selected):
            if isinstance(problem, GradingError):
                raise problem
            problem = problem if judge is None else with_measured_limit(problem, judge)
            file.write(problem.model_dump_json(exclude_defaults=True) + "\n")
            count += 1
    click.echo(f"{count:,} problems written to {output}")
