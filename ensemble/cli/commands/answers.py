"""`alphamix answers`: runs a run's programs on the inputs of their tests, and writes what they answer."""

import os
from pathlib import Path
from typing import Literal

import click
from joblib import cpu_count
from rich.console import Console

from alphamix.ensemble.cli.options import COUNT, PATH, quiet_option
from alphamix.ensemble.cli.options.judging import packages_option, sandbox_option
from alphamix.ensemble.cli.terminal.progress import GradingProgress
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.problems import read_problems
from alphamix.ensemble.run.program_answers import answers_of_run
from alphamix.grading.judge.judge import Judge


@click.command("answers")
@click.argument("folder", type=PATH)
@click.option("--output", "-o", required=True, type=PATH, help="CSV file to write, for `alphamix vote`.")
@click.option(
    "--inputs", type=COUNT, metavar="N", show_default="all", help="Take the inputs of the first N tests only."
)
@sandbox_option(None, "Isolation of programs.", shown="as in the run")
@packages_option
@click.option("--workers", type=COUNT, show_default="one per core", help="Number of programs at a time.")
@quiet_option
def command(
    folder: Path,
    output: Path,
    inputs: int | None,
    sandbox: Literal["strict", "weak"] | None,
    packages: tuple[str, ...] | None,
    workers: int | None,
    quiet: bool,
) -> None:
    """Run the programs of the run in FOLDER on the inputs of their tests, and write a table of answers.

    Two programs give the same answer if on every input both fail or the problem's checker takes their outputs as the
    same. No expected output is used: whether an answer is correct is the verdict that the run has kept.
    """
    settings = experiment.load(folder / "experiment.toml", environment=os.environ)
    problems = read_problems(settings.problems)
    part = output.with_name(f"{output.name}.part")
    try:
        with (
            part.open("w") as file,  # first, because programs may take hours
            Judge(
                workers=workers or cpu_count(),
                sandbox=sandbox or settings.grading.sandbox,
                packages=settings.grading.packages if packages is None else packages,
            ) as judge,
            GradingProgress(Console(), quiet=quiet) as progress,
        ):
            table = answers_of_run(folder, problems, settings.problems.source, judge, progress, inputs)
            table.to_csv(file, index=False)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
    if not quiet:
        click.echo(f"{output}: vote with `alphamix vote --answers {output} --budget N`")
