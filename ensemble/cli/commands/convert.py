"""`alphamix problems convert`: write the problems of a published benchmark as a file of problems."""

from pathlib import Path

import click

from alphamix.atomic import write_text
from alphamix.ensemble.cli.options import FILE
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.problems import all_problems


@click.command("convert")
@click.argument("file", type=FILE)
@click.option("--output", "-o", required=True, type=FILE, help="File of problems (JSON lines) to write.")
def command(file: Path, output: Path) -> None:
    """Write the problems of FILE, which is one of MBPP, HumanEval or HumanEval+ as published, in our own form.

    Their reference solutions are kept under the key `reference`, which no model sees.
    """
    problems = all_problems(each_recognised_problem(file))
    write_text(output, "".join(problem.model_dump_json(exclude_defaults=True) + "\n" for problem in problems))
    click.echo(f"{len(problems):,} problems written to {output}")
