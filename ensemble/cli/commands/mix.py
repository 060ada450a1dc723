"""`alphamix mix`: the best α-mixture from a table of outcomes, and what it honestly gains."""

import json
from pathlib import Path

import click
from rich.console import Console

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.cli.options.finite import SHARE, Finite
from alphamix.ensemble.cli.options.missing import missing_option
from alphamix.ensemble.mixture.compare_arms import Honesty, compare
from alphamix.ensemble.mixture.cross_fitting import DEFAULT_FOLDS, DEFAULT_REPEATS, DIVISIONS, CrossFit, Division
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.report.mixture_text import as_json, mixture_tables
from alphamix.ensemble.report.tables import left_out_note
from alphamix.ensemble.statistics.intervals import Resampling


@click.command("mix")
@click.option("--outcomes", required=True, type=click.Path(path_type=Path), help="Table of outcomes: CSV or Parquet.")
@click.option("--budget", required=True, type=Finite(min=0, min_open=True), help="To spend on each problem.")
@click.option("--cost", type=click.Choice(CURRENCIES), default="samples", show_default=True, help="What is budgeted.")
@click.option("--policy", "names", multiple=True, metavar="NAME", help="Only this policy; may be repeated [all].")
@click.option("--min-policies", type=click.IntRange(min=1), default=1, show_default=True, help="In the mixture.")
@click.option("--pilot", is_flag=True, help="The table is a pilot: choose beyond the samples that it holds.")
@click.option("--by", type=click.Choice(DIVISIONS), default="problems", show_default=True, help="Which honest figure.")
@click.option("--folds", type=click.IntRange(min=2), help="Of that division [3 by problems, 2 by samples].")
@click.option("--repeats", type=click.IntRange(min=1), default=DEFAULT_REPEATS, show_default=True, help="Divisions.")
@click.option("--level", type=SHARE, default=0.95, show_default=True, help="Of intervals.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of divisions and intervals.")
@missing_option
@click.option("--json", "as_object", is_flag=True, help="Print JSON.")
def command(
    outcomes: Path,
    budget: float,
    cost: Currency,
    names: tuple[str, ...],
    min_policies: int,
    pilot: bool,
    by: Division,
    folds: int | None,
    repeats: int,
    level: float,
    seed: int,
    missing: Missing,
    as_object: bool,
) -> None:
    """Choose how many samples of each policy to draw per problem.

    The choice maximises expected coverage under a posterior, with a proof of how much better another could be. What it
    gains over the best single policy stands beside it: naively, on the outcomes that made the choice, and honestly, on
    other problems and on other samples.
    """
    table = read_outcomes(outcomes, missing)
    if names:
        table = table.select(policies=table.rows(list(dict.fromkeys(names))))
    sizes = DEFAULT_FOLDS | ({by: folds} if folds else {})
    crossfits: dict[Division, CrossFit] = {
        division: CrossFit(division, sizes[division], repeats, seed) for division in DIVISIONS
    }
    honesty = Honesty(crossfits, Resampling(level=level, seed=seed))
    comparison = compare(table, table.budget(budget, cost), honesty, min_policies=min_policies, is_pilot=pilot)
    if as_object:
        about = {"problems": len(table.problems), "left_out": table.left_out, "level": level}
        click.echo(json.dumps({**as_json(comparison, crossfits[by]), **about}, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"{len(table.problems)} problems, {len(table.policies)} policies; {100 * level:g} % intervals.")
    if table.left_out:
        console.print(left_out_note(table.left_out))
    console.print(mixture_tables(comparison, by))
