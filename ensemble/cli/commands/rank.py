"""`alphamix rank`: ranks policies by their mean solve rate, from a table of outcomes."""

from pathlib import Path

import click

from alphamix.ensemble.analysis.ranking import rank_policies
from alphamix.ensemble.cli.options import json_option
from alphamix.ensemble.cli.options.outcomes import level_option, missing_option, outcomes_option
from alphamix.ensemble.cli.terminal.answers import print_result, print_size
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.report.ranking_text import ranking_json, ranking_tables
from alphamix.ensemble.statistics.intervals import Resampling


@click.command("rank", context_settings={"show_default": True})
@outcomes_option
@level_option
@missing_option
@json_option
def command(outcomes_file: Path, level: float, missing: Missing, as_json: bool) -> None:
    """Rank policies by the share of one-sample attempts that they solve.

    Each policy gets a posterior for these very problems and its chance to be the best on them, and a paired interval
    of its distance to the first policy on new problems. Policies that cannot be told from the best are named.
    """
    table = read_outcomes(outcomes_file, missing)
    ranking = rank_policies(table, Resampling(level=level))
    if as_json:
        print_result(ranking_json(ranking), table)
        return
    print_size(table, level).print(ranking_tables(ranking))
