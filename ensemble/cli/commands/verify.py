"""`alphamix problems verify`: judge the reference solutions of a file of problems."""

import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import click
from joblib import cpu_count

from alphamix.ensemble.cli.options import COUNT, FILE, json_option
from alphamix.ensemble.cli.options.judging import packages_option, sandbox_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.judge.judge import Judge
from alphamix.grading.verification import verify


@click.command("verify", context_settings={"show_default": True})
@click.argument("file", type=FILE)
@click.option("--workers", type=COUNT, show_default="one per core", help="Number of programs that run at a time.")
@sandbox_option("strict", "Isolation of programs; weak is for trusted programs only.")
@packages_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only the problems with a fault.")
def command(
    file: Path,
    workers: int | None,
    sandbox: Literal["strict", "weak"],
    packages: tuple[str, ...] | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge the reference of each problem of FILE, and check the code that problems bring along.

    FILE has the problems as JSON lines, or is a file of MBPP or HumanEval as published. Each problem gets one line. The
    exit code is 1 if a reference fails or a problem is broken.
    """
    problems = list(each_recognised_problem(file))
    with Judge(workers=workers or cpu_count(), sandbox=sandbox, packages=packages or ()) as judge:
        findings = []
        for finding in verify(problems, judge):
            findings.append(finding)
            if not as_json and not (quiet and finding.status in ("fine", "no reference")):
                click.echo(str(finding))
    counts = Counter(finding.status for finding in findings)
    if as_json:
        print_json({"counts": dict(counts), "problems": findings})
    else:
        click.echo(", ".join(f"{count:,} {status}" for status, count in counts.most_common()), err=True)
    if counts["reference fails"] or counts["broken"]:
        sys.exit(1)
