"""`alphamix power`: says how large a gain a comparison could see, from a table of outcomes or a guess."""

from pathlib import Path

import click
from rich.console import Console

from alphamix.ensemble.cli.options import COUNT, PATH, Finite, json_option
from alphamix.ensemble.cli.options.outcomes import level_option, missing_option
from alphamix.ensemble.cli.terminal.answers import print_result, print_size
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.ensemble.mixture.power import analyse_power, power_of_guess
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.report.power_text import guess_tables, power_json, power_tables


@click.command("power", context_settings={"show_default": True})
@click.option("--outcomes", "outcomes_file", type=PATH, help="Table of outcomes: CSV or Parquet.")
@click.option(
    "--discordant",
    type=Finite(0, 100, min_open=True),
    help="Guess in place of a table: percentage of problems that exactly one of the two arms solves.",
)
@click.option("--budget", required=True, type=COUNT, help="Samples per problem that each arm spends.")
@click.option(
    "--problems",
    multiple=True,
    type=COUNT,
    show_default="as in the table, twice and four times as many",
    help="Number of problems; may be repeated.",
)
@click.option(
    "--samples",
    multiple=True,
    type=COUNT,
    show_default="the budget, twice and four times as many",
    help="Samples of each policy per problem; may be repeated.",
)
@click.option(
    "--gain",
    type=Finite(0, 100, min_open=True),
    show_default="as the model expects",
    help="Gain that is to be seen, in points.",
)
@click.option(
    "--power", type=Finite(0, 1, min_open=True, max_open=True), default=0.8, help="Chance with which it is to be seen."
)
@level_option
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the problems that are drawn.")
@missing_option
@json_option
def command(
    outcomes_file: Path | None,
    discordant: float | None,
    budget: int,
    problems: tuple[int, ...],
    samples: tuple[int, ...],
    gain: float | None,
    power: float,
    level: float,
    seed: int,
    missing: Missing,
    as_json: bool,
) -> None:
    """Say how large a gain over the best single policy could be seen, and what to buy next.

    A table of outcomes describes what kind of problems and policies there are; a pilot is enough. Standard errors are
    those of unbiased estimates on new problems of that kind. Without a table, guess with --discordant how many problems
    the two arms differ on.
    """
    if (outcomes_file is None) == (discordant is None):
        raise click.UsageError("give either --outcomes with a table, or --discordant with a guess")
    if outcomes_file is None:
        if gain is None or not problems or samples:
            raise click.UsageError("a guess needs --gain and --problems, and no --samples: each policy gets the budget")
        guess = power_of_guess((discordant or 0) / 100, budget, problems, gain / 100, power, level)
        if as_json:
            print_json({**power_json(guess), "level": level})
        else:
            Console(highlight=False).print(guess_tables(guess))
        return
    table = read_outcomes(outcomes_file, missing)
    analysis = analyse_power(
        table,
        budget,
        problems or tuple(len(table.problems) * times for times in (1, 2, 4)),
        samples or tuple(budget * times for times in (1, 2, 4)),
        None if gain is None else gain / 100,
        power,
        level,
        seed,
    )
    if as_json:
        print_result({**power_json(analysis), "level": level}, table)
        return
    print_size(table, level).print(power_tables(analysis))
