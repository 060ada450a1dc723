"""`alphamix mix`: prints the best α-mixture from a table of outcomes, and what it gains."""

from pathlib import Path

import click

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.cli.options import COUNT, PATH, Finite, json_option
from alphamix.ensemble.cli.options.outcomes import level_option, missing_option, outcomes_option
from alphamix.ensemble.cli.terminal.answers import print_result, print_size
from alphamix.ensemble.mixture.compare_arms import compare
from alphamix.ensemble.mixture.cross_fitting import (
    DEFAULT_FOLDS,
    DEFAULT_REPEATS,
    DIVISIONS,
    CrossFitOptions,
    Division,
    cross_fits,
)
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.outcomes.request_log import read_log, with_costs
from alphamix.ensemble.report.mixture_text import mixture_json, mixture_tables
from alphamix.ensemble.statistics.intervals import Resampling


@click.command("mix", context_settings={"show_default": True})
@outcomes_option
@click.option("--budget", required=True, type=Finite(min=0, min_open=True), help="What to spend on each problem.")
@click.option("--cost", type=click.Choice(CURRENCIES), default="samples", help="Currency of the budget.")
@click.option(
    "--costs",
    "request_log",
    type=PATH,
    metavar="LOG",
    help="Log of `alphamix serve --request-log` that says what a sample costs, in place of the table.",
)
@click.option(
    "--policy",
    "names",
    multiple=True,
    metavar="NAME",
    show_default="all",
    help="Choose among these policies only. May be repeated.",
)
@click.option("--min-policies", type=COUNT, default=1, help="Minimum number of policies in the mixture.")
@click.option(
    "--pilot", is_flag=True, help="The table is a pilot: the mixture may draw more samples of a policy than it holds."
)
@click.option(
    "--by",
    type=click.Choice(DIVISIONS),
    default="problems",
    help="What the honest gain in the summary is measured on: problems, or samples, that took no part in the choice.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    show_default=", ".join(f"{number} by {by}" for by, number in DEFAULT_FOLDS.items()),
    help="Number of parts that the problems, or samples, are divided into; each is held out in turn.",
)
@click.option(
    "--strict", is_flag=True, help="Advise the mixture only if it beats every single policy, not just the best one."
)
@click.option("--repeats", type=COUNT, default=DEFAULT_REPEATS, help="Number of random divisions to average over.")
@level_option
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the divisions and the intervals.")
@missing_option
@json_option
def command(
    outcomes_file: Path,
    budget: float,
    cost: Currency,
    request_log: Path | None,
    names: tuple[str, ...],
    min_policies: int,
    pilot: bool,
    by: Division,
    folds: int | None,
    strict: bool,
    repeats: int,
    level: float,
    seed: int,
    missing: Missing,
    as_json: bool,
) -> None:
    """Choose how many samples of each policy to draw per problem.

    The choice maximises the expected coverage under a posterior, and comes with a bound on how much better another
    choice could be. Beside it stands its gain over the best single policy: the naive gain on the outcomes that it was
    chosen on, and the honest gain on other problems and on other samples.
    """
    if strict and by != "problems":
        raise click.UsageError(f"--strict compares on new problems: leave out --by {by}")
    table = read_outcomes(outcomes_file, missing)
    if names:
        table = table.select(policies=table.rows(list(dict.fromkeys(names))))
    if request_log is not None:
        table = with_costs(table, read_log(request_log))
    sizes = DEFAULT_FOLDS.copy()
    if folds:
        sizes[by] = folds
    crossfits = cross_fits(seed, repeats, sizes)
    options = CrossFitOptions(crossfits, Resampling(level=level, seed=seed))
    comparison = compare(table, table.budget(budget, cost), options, min_policies=min_policies, is_pilot=pilot)
    if as_json:
        print_result({**mixture_json(comparison, crossfits[by]), "level": level}, table)
        return
    print_size(table, level).print(mixture_tables(comparison, by, is_strict=strict))
