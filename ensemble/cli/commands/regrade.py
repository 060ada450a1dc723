"""`alphamix regrade`: grade the samples of a run again, with other limits or checkers."""

import json
import os
import sys
from pathlib import Path
from typing import Literal

import click
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from alphamix.ensemble.cli.options import PATH, Finite, quiet_option
from alphamix.ensemble.cli.options.judging import judging_options, sandbox_option
from alphamix.ensemble.cli.terminal.output import print_owed
from alphamix.ensemble.cli.terminal.progress import GradingProgress
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.problems import read_problems
from alphamix.ensemble.run.regrade import Changes, name_of_set, regrade
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Store
from alphamix.grading.judge.judge import check_packages
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.problems import load_problems
from alphamix.grading.types import Checker

_SCALE = Finite(0, min_open=True)


@click.command("regrade", context_settings={"show_default": True})
@click.argument("folder", type=PATH)
@click.option(
    "--verdict-set",
    metavar="NAME",
    show_default="made from the judge's version and the options",
    help="Name of the new set of verdicts.",
)
@click.option("--time-limit-scale", type=_SCALE, default=1.0, help="Factor on each problem's time limit.")
@click.option("--memory-limit-scale", type=_SCALE, default=1.0, help="Factor on each problem's memory limit.")
@click.option(
    "--checker",
    metavar="CHECKER",
    show_default="that of each problem",
    help='Checker of all problems: tokens, exact, lines, or JSON such as {"floats": {"rel": 1e-4}}.',
)
@click.option("--problems", "problems_file", type=PATH, help="The same problems with other tests.")
@sandbox_option(None, "Isolation of programs.", shown="as in the run")
@judging_options
@click.option("--keep-current", is_flag=True, help="Keep counting outcomes from the verdicts that are current now.")
@click.option("--use", metavar="NAME", help="Grade nothing; count outcomes from this set of verdicts from now on.")
@quiet_option
def command(
    folder: Path,
    verdict_set: str | None,
    time_limit_scale: float,
    memory_limit_scale: float,
    checker: str | None,
    problems_file: Path | None,
    sandbox: Literal["strict", "weak"] | None,
    all_tests: bool,
    packages: tuple[str, ...] | None,
    workers: int | None,
    backend: str,
    address: str | None,
    keep_current: bool,
    use: str | None,
    quiet: bool,
) -> None:
    """Grade the samples of the run in FOLDER again. No model is called, and earlier verdicts are kept.

    If interrupted, the same command continues; the exit code is 3 while verdicts are owed. Once the set of
    verdicts is complete, outcomes, exports and reports use it.
    """
    if use is not None:
        with Store(folder / STORE_NAME, create=False) as store:
            store.use_verdict_set(use)
        return
    if verdict_set == RUN_SET:
        raise click.BadParameter(
            f"{RUN_SET!r} names the run's own verdicts: choose another", param_hint="--verdict-set"
        )
    settings = experiment.load(folder / "experiment.toml", environment=os.environ)
    problems = read_problems(settings.problems) if problems_file is None else load_problems(problems_file)
    options = JudgeOptions(
        sandbox or settings.grading.sandbox,
        all_tests,
        tuple(settings.grading.packages) if packages is None else packages,
    )
    if backend == "loky":  # the machines of a cluster may have other packages than this one
        check_packages(problems, options.packages)
    changes = Changes(
        time_limit_scale, memory_limit_scale, None if checker is None else _parse_checker(checker), checker
    )
    name = verdict_set or name_of_set(changes.describe(problems, options), settings.grading.sandbox)
    with GradingProgress(Console(), quiet=quiet) as progress:
        owed = regrade(
            folder,
            problems,
            changes,
            name,
            options,
            BackendOptions(backend, workers, address),
            progress,
            own_source=None if problems_file else settings.problems.source,
            keep_current=keep_current,
        )
    if owed:
        print_owed("verdicts are still owed", owed)
        sys.exit(3)
    if not quiet:
        click.echo(f"graded as {name!r}; `alphamix report {folder}` reports on the current verdicts")


def _parse_checker(text: str) -> Checker:
    try:
        return TypeAdapter[Checker](Checker).validate_python(json.loads(text) if text.startswith("{") else text)
    except (ValidationError, ValueError):
        raise click.BadParameter(
            f'unknown checker {text!r}: give tokens, exact, lines, or JSON such as {{"floats": {{"rel": 1e-4}}}}',
            param_hint="--checker",
        ) from None
