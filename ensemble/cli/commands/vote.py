"""`alphamix vote`: prints the best mixture for majority votes, from a table of answers, and what it gains."""

from pathlib import Path

import click

from alphamix.ensemble.cli.options import COUNT, PATH, json_option
from alphamix.ensemble.cli.options.outcomes import level_option, missing_option
from alphamix.ensemble.cli.terminal.answers import print_result, print_size
from alphamix.ensemble.mixture.cross_fitting import cross_fits
from alphamix.ensemble.mixture.vote_arms import compare_votes
from alphamix.ensemble.outcomes.answers import read_answers
from alphamix.ensemble.outcomes.files import Missing
from alphamix.ensemble.report.vote_text import vote_json, vote_tables
from alphamix.ensemble.statistics.intervals import Resampling


@click.command("vote", context_settings={"show_default": True})
@click.option(
    "--answers",
    "answers_file",
    required=True,
    type=PATH,
    help="Table of answers with the columns problem, policy, answer and correct, one row per sample: CSV or Parquet.",
)
@click.option("--budget", required=True, type=COUNT, help="Number of samples that vote on each problem.")
@level_option
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the divisions and the intervals.")
@missing_option
@json_option
def command(answers_file: Path, budget: int, level: float, seed: int, missing: Missing, as_json: bool) -> None:
    """Choose whose samples should vote where nothing can verify an answer.

    The answer that most of the samples give is taken; among answers that tie, any is. The share of problems on which
    that is right is estimated for the best mixture, for an equal split and for the best single policy, which all vote
    with the same number of samples.
    """
    answers = read_answers(answers_file, missing)
    comparison = compare_votes(answers, budget, cross_fits(seed)["problems"], Resampling(level=level, seed=seed))
    if as_json:
        print_result({**vote_json(comparison), "level": level}, answers.outcomes)
        return
    print_size(answers.outcomes, level).print(vote_tables(comparison))
