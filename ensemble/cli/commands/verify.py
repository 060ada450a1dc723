"""`alphamix problems verify`: judge the reference solutions of a file of problems."""

import sys
from collections import Counter
from typing import Any, Literal

import click
from joblib import cpu_count

from alphamix.ensemble.cli.options import COUNT, json_option
from alphamix.ensemble.cli.options.benchmarks import benchmark_options, selected_problems
from alphamix.ensemble.cli.options.judging import packages_option, sandbox_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.grading.judge.judge import Judge
from alphamix.grading.verification import verify


@click.command("verify", context_settings={"show_default": True})
@benchmark_options
@click.option("--workers", type=COUNT, show_default="one per core", help="Number of programs that run at a time.")
@sandbox_option("strict", "Isolation of programs; weak is for trusted programs only.")
@packages_option
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only the problems with a fault.")
def command(
    problems: str,
    workers: int | None,
    sandbox: Literal["strict", "weak"],
    packages: tuple[str, ...] | None,
    as_json: bool,
    quiet: bool,
    **selected: Any,
) -> None:
    """Judge the reference of each problem of a FILE or a BENCHMARK, and check the code that problems bring along.

    FILE has the problems as JSON lines, or is a file of a benchmark as published. `alphamix problems list` names the
    benchmarks. Each problem gets one line. The exit code is 1 if a reference fails or a problem is broken.
    """
    with Judge(workers=workers or cpu_count(), sandbox=sandbox, packages=packages or ()) as judge:
        findings = []
        for finding in verify(selected_problems(problems, **selected), judge):
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
