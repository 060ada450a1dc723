"""`alphamix grade`: grade a file of samples into a file of verdicts."""

import sys
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.cli.options import FILE, json_option, quiet_option
from alphamix.ensemble.cli.options.judging import judging_options, sandbox_option
from alphamix.ensemble.cli.terminal.output import print_json, print_owed
from alphamix.ensemble.cli.terminal.progress import GradingProgress
from alphamix.ensemble.interchange.record_files import InterchangeError, listed
from alphamix.ensemble.interchange.sample_index import SampleIndex, read_index
from alphamix.ensemble.report.run_text import missing_module_notes
from alphamix.ensemble.run.grade_file import grade_file
from alphamix.grading.judge.judge import check_packages
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.problems import load_problems
from alphamix.grading.types import Failure, Verdict


@click.command("grade")
@click.option("--problems", required=True, type=FILE, help="Problems, as JSON lines.")
@click.option("--samples", required=True, type=FILE, help="Samples, as JSON lines.")
@click.option("--output", "-o", required=True, type=FILE, help="File of verdicts (JSON lines) to append to.")
@judging_options
@sandbox_option("strict", "Isolation of programs; weak is for trusted programs only.")
@click.option("--skip-bad", is_flag=True, help="Leave out malformed lines of samples, and print which.")
@json_option
@quiet_option
def command(
    problems: Path,
    samples: Path,
    output: Path,
    workers: int | None,
    backend: str,
    address: str | None,
    all_tests: bool,
    packages: tuple[str, ...] | None,
    sandbox: Literal["strict", "weak"],
    skip_bad: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge the programs of samples, and append one verdict for each to a file.

    If interrupted, the same command continues: existing verdicts are kept. The exit code is 3 while verdicts are owed.
    """
    problem_of_id = {problem.id: problem for problem in load_problems(problems)}
    index = read_index(samples, problem_of_id)
    _report_complaints(index, skip_bad)
    console = Console(stderr=as_json)
    options = JudgeOptions(sandbox, all_tests, packages or ())
    if backend == "loky":  # the machines of a cluster may have other packages than this one
        check_packages(problem_of_id.values(), options.packages)
    with GradingProgress(console, quiet=quiet or as_json) as progress:
        grading = grade_file(problem_of_id, index, output, options, BackendOptions(backend, workers, address), progress)
    if grading.failure:
        click.echo(f"error: {grading.failure}", err=True)
        sys.exit(1)
    if as_json:
        print_json(grading.summary)
    elif not quiet:
        console.print(_table(grading.summary["policies"]))
        for note in missing_module_notes(grading.summary["missing_modules"], "--packages"):
            click.echo(note, err=True)
    if grading.owed:
        print_owed("verdicts are still owed", grading.owed)
        sys.exit(3)


def _report_complaints(index: SampleIndex, skip_bad: bool) -> None:
    if index.complaints and not skip_bad:
        raise InterchangeError(f"{listed(index.complaints)}\ncorrect these lines, or leave them out with --skip-bad")
    if index.complaints:
        click.echo(f"{listed(index.complaints)}\n{len(index.complaints)} lines left out", err=True)


def _table(policies: dict[str, Any]) -> Table:
    seen = {verdict for counts in policies.values() for verdict in counts["verdicts"]}
    verdicts = [verdict for verdict in Verdict if verdict in seen]
    table = Table("policy", "samples")
    for name in (*verdicts, *Failure):
        table.add_column(str(name), justify="right")
    for policy, counts in policies.items():
        cells = [counts["verdicts"].get(verdict, 0) for verdict in verdicts]
        cells += [counts["failures"].get(failure, 0) for failure in Failure]
        table.add_row(policy, f"{counts['samples']:,}", *(f"{cell:,}" for cell in cells))
    return table
