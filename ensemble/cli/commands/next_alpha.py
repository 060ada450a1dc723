"""`alphamix next-alpha`: which α is worth making next, judged by the curves of solve rates along those at hand."""

import json
from math import isfinite, nan
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.cli.options.finite import Finite
from alphamix.ensemble.cli.options.missing import missing_option
from alphamix.ensemble.next_alpha.expected_improvement import Proposal, ProposalOptions, propose
from alphamix.ensemble.next_alpha.gaussian_process import AlphaCurves
from alphamix.ensemble.next_alpha.lines import alphas_of
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.report.tables import alpha_label, left_out_note, plain_table
from alphamix.policies.registry import Registry

_MOST_SAMPLES = 10**6
_EXPLANATION = """\
share: samples that the best mixture with this α gives to it, and what it then gains, in points of coverage;
improvement: what is gained on average when it is sampled before it is used, ± standard error over problems;
chance to pay: of an improvement above --min-gain."""


@click.command("next-alpha")
@click.option("--outcomes", required=True, type=click.Path(path_type=Path), help="Table of outcomes: CSV or Parquet.")
@click.option("--budget", required=True, type=click.IntRange(1, _MOST_SAMPLES), help="Samples per problem.")
@click.option("--policies", "file", type=click.Path(path_type=Path), help="File of policies, which knows their α.")
@click.option("--alpha", "given", multiple=True, metavar="NAME=VALUE", help="α of a policy; goes before all else.")
@click.option("--sweep", help="Take only the policies of this sweep.")
@click.option("--from", "low", type=Finite(), help="Lowest α to think of.")
@click.option("--to", "high", type=Finite(), help="Highest α to think of.")
@click.option("--min-gain", type=Finite(0, 1), default=0.002, show_default=True, help="Coverage that a new α must add.")
@missing_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    outcomes: Path,
    budget: int,
    file: Path | None,
    given: tuple[str, ...],
    sweep: str | None,
    low: float | None,
    high: float | None,
    min_gain: float,
    missing: Missing,
    as_json: bool,
) -> None:
    """Predict what policies at other α would add to the best mixture, and propose the next one to make.

    α is read from names like `coverage@+0.50`, or from a file of policies, or given.
    """
    table = read_outcomes(outcomes, missing)
    alphas = alphas_of(table.policies, _parsed(given), _known(file, table.policies), sweep)
    line = table.select(policies=table.rows(list(alphas)))
    curves = AlphaCurves.fit(list(alphas.values()), line.num_samples_MP, line.num_correct_MP)
    proposal = propose(curves, ProposalOptions(budget, low, high, min_gain))
    if as_json:
        about = {"problems": len(table.problems), "left_out": table.left_out}
        click.echo(json.dumps({**_json(proposal, alphas, budget, min_gain), **about}, indent=2, ensure_ascii=False))
        return
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(f"{len(table.problems)} problems; α is known of {len(alphas)} of {len(table.policies)} policies.")
    if table.left_out:
        console.print(left_out_note(table.left_out))
    console.print(_table(proposal, budget))
    console.print(_EXPLANATION, style="dim")
    console.print("\n" + _sentence(proposal, min_gain, budget))


def _known(file: Path | None, policies: tuple[str, ...]) -> dict[str, float]:
    """α as the file of policies says."""
    if file is None:
        return {}
    with Registry.load(file) as registry:
        alphas = {name: registry.alpha(name) for name in policies if name in registry.names}
    return {name: alpha for name, alpha in alphas.items() if alpha is not None}


def _parsed(given: tuple[str, ...]) -> dict[str, float]:
    """Split NAME=VALUE; a name may hold `=` itself."""
    alphas: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            alphas[name] = float(value)
        except ValueError:
            alphas[name] = nan
        if not isfinite(alphas[name]):
            raise click.UsageError(f"--alpha {text!r} is no NAME=VALUE: write as --alpha low=0.5")
    return alphas


def _table(proposal: Proposal, budget: int) -> Table:
    rows = (
        [
            alpha_label(one.alpha),
            str(one.share),
            f"{_points(one.gain)} [{', '.join(map(_points, one.interval))}]",
            f"{100 * one.improvement:.2f} ± {100 * one.stderr:.2f}",
            f"{100 * one.chance:.0f} %",
        ]
        for one in proposal.candidates
    )
    return plain_table(["α", f"share of {budget}", "gain [95 % of draws]", "improvement", "chance to pay"], rows)


def _points(value: float) -> str:
    return f"{100 * value:+z.2f}".replace("-", "−")


def _sentence(proposal: Proposal, min_gain: float, budget: int) -> str:
    """What to do now."""
    best = proposal.candidates[0]
    gain = f"{100 * best.improvement:.2f} ± {100 * best.stderr:.2f} points"
    alpha = f"{best.alpha:g}".replace("-", "−")
    if proposal.verdict == "make":
        return (
            f"Make α = {alpha} next: it should raise what the best mixture of {budget} samples covers, "
            f"{100 * proposal.coverage:.1f} % now, by {gain}; the chance that it adds more than {100 * min_gain:g} "
            f"points is {100 * best.chance:.0f} %."
        )
    reason = {
        "below": f"less than the {100 * min_gain:g} that are asked for",
        "flat": "which rests on curves that could as well be flat",
        "noise": "which chance alone could give on so many problems",
    }[proposal.verdict]
    return f"More α would not pay: the best candidate, α = {alpha}, should add {gain}, {reason}."


def _json(proposal: Proposal, alphas: dict[str, float], budget: int, min_gain: float) -> dict[str, object]:
    names = list(alphas)
    best = proposal.candidates[0]
    return {
        "budget": budget,
        "min_gain": min_gain,
        "alphas": alphas,
        "without": {
            "allocation": _counts(names, proposal.allocation_M),
            "coverage": proposal.coverage,
        },
        "verdict": proposal.verdict,
        "next": best.alpha if proposal.verdict == "make" else None,
        "candidates": [
            {
                "alpha": one.alpha,
                "allocation": _counts(names, one.allocation_M),
                "share": one.share,
                "gain": one.gain,
                "interval": list(one.interval),
                "improvement": one.improvement,
                "stderr": one.stderr,
                "chance": one.chance,
            }
            for one in proposal.candidates
        ],
    }


def _counts(names: list[str], allocation_M: Ints) -> dict[str, int]:
    return {name: count for name, count in zip(names, allocation_M.tolist(), strict=True) if count}
