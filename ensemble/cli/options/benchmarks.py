"""The argument and the options that say which problems of which benchmark, or of which file, are meant."""

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import click

from alphamix.ensemble.cli.options import PATH
from alphamix.grading.benchmarks.catalog import BENCHMARKS, each_problem_of, split_name
from alphamix.grading.benchmarks.recognised import each_recognised_problem
from alphamix.grading.benchmarks.selection import Selection
from alphamix.grading.errors import GradingError
from alphamix.grading.types import Problem

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _day(context: click.Context, parameter: click.Parameter, value: str | None) -> date | None:
    try:
        return None if value is None else date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no day: write it as YYYY-MM-DD, such as 2024-08-01.") from None


_PARAMETERS = (
    click.argument("problems", metavar="FILE|BENCHMARK[:PATH]"),
    click.option("--path", type=PATH, show_default="fetched", help="Local copy of the benchmark's published files."),
    click.option("--release", metavar="NAME", show_default="the newest", help="Release, such as v6; v4_v6 is a range."),
    click.option("--split", metavar="NAME", show_default="that for tests", help="Part of a benchmark, such as train."),
    click.option("--difficulty", metavar="NAME", help="Only problems of this difficulty, such as hard."),
    click.option("--platform", metavar="NAME", help="Only problems of this contest site, such as atcoder."),
    click.option("--after", callback=_day, metavar="YYYY-MM-DD", help="Only problems of this day or later."),
    click.option("--before", callback=_day, metavar="YYYY-MM-DD", help="Only problems of this day or earlier."),
    click.option(
        "--without-errata", is_flag=True, help="Leave out problems with a known fault, or that cannot be judged."
    ),
)


def benchmark_options(command: _Command) -> _Command:
    """Add the argument and the options; they are what `selected_problems` takes."""
    for parameter in reversed(_PARAMETERS):
        command = parameter(command)
    return command


def selected_problems(problems: str, *, path: Path | None, **selected: Any) -> Iterator[Problem | GradingError]:
    """Yield the selected problems of a benchmark, or those of a file in any known form, or why a record is none."""
    selection = Selection(**selected)
    name, own_path = split_name(problems)
    if name in BENCHMARKS:
        if own_path is not None and path is not None:
            raise click.UsageError(f"{problems} and --path both say where the problems are: leave one of them out.")
        each = each_problem_of(name, own_path or path, selection, lambda text: click.echo(text, err=True))
        return _at_least_one(each, problems)
    if path is not None or selection.given():
        given = "--path" if path is not None else f"--{selection.given()[0].replace('_', '-')}"
        raise click.UsageError(f"{given} belongs to a benchmark ({', '.join(BENCHMARKS)}), and {problems} is none.")
    return each_recognised_problem(problems)


def _at_least_one(each: Iterator[Problem | GradingError], name: str) -> Iterator[Problem | GradingError]:
    is_empty = True
    for problem in each:
        is_empty = False
        yield problem
    if is_empty:
        raise GradingError(f"no problem of {name} is selected: widen the selection")
