"""`alphamix diagnose`: says where an ensemble's gain lives, from a table of outcomes."""

from pathlib import Path

import click

from alphamix.ensemble.cli.options import COUNT, json_option
from alphamix.ensemble.cli.options.outcomes import level_option, missing_option, outcomes_option
from alphamix.ensemble.cli.terminal.answers import print_result, print_size
from alphamix.ensemble.mixture.gain_location import locate_gain
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.report.gain_text import gain_json, gain_tables
from alphamix.ensemble.statistics.intervals import Resampling


@click.command("diagnose", context_settings={"show_default": True})
@outcomes_option
@click.option("--budget", type=COUNT, show_default="samples in the table", help="Samples per problem to ask about.")
@level_option
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the resampling and the held-out halves.")
@missing_option
@json_option
def command(outcomes_file: Path, budget: int | None, level: float, seed: int, missing: Missing, as_json: bool) -> None:
    """Say at which budgets an ensemble gains over the best single policy, and where a budget stands.

    A mixture gains where policies solve different problems and no single one solves both kinds soon enough: with a
    small budget no policy solves them, and with a large one every policy does. A model predicts that bump, also beyond
    the samples of the table, and problems that were held out check it as far as there are samples.
    """
    table = read_outcomes(outcomes_file, missing)
    location = locate_gain(table, budget or int(table.num_samples_MP.min()), Resampling(level=level, seed=seed))
    if as_json:
        print_result({**gain_json(location), "level": level}, table)
        return
    print_size(table, level).print(gain_tables(location))
