"""`alphamix next-alpha`: proposes the next α to make, from the solve rates of policies with known α."""

from math import isfinite, nan
from pathlib import Path

import click
from rich.table import Table

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.cli.options import PATH, Finite, json_option
from alphamix.ensemble.cli.options.outcomes import missing_option, outcomes_option
from alphamix.ensemble.cli.terminal.answers import print_heading, print_result
from alphamix.ensemble.next_alpha.expected_improvement import Proposal, ProposalOptions, propose
from alphamix.ensemble.next_alpha.gaussian_process import AlphaCurves
from alphamix.ensemble.next_alpha.lines import alphas_of
from alphamix.ensemble.outcomes.files import Missing, read_outcomes
from alphamix.ensemble.outcomes.table import MAX_SAMPLES
from alphamix.ensemble.report.formatting import alpha_label, counted, plain_table
from alphamix.policies.registry import Registry

_EXPLANATION = """\
share: samples that the best mixture with this α gives to it; gain: what that mixture adds, in points of coverage;
improvement: what is gained on average if the α is sampled before it is used, ± standard error over problems;
chance to pay: probability that the improvement exceeds --min-gain."""


@click.command("next-alpha", context_settings={"show_default": True})
@outcomes_option
@click.option("--budget", required=True, type=click.IntRange(1, MAX_SAMPLES), help="Samples per problem.")
@click.option("--policies", "file", type=PATH, help="File of policies to read their α from.")
@click.option("--alpha", "given", multiple=True, metavar="NAME=VALUE", help="Set the α of a policy. May be repeated.")
@click.option("--sweep", metavar="NAME", help="Use only the policies of this sweep.")
@click.option("--from", "low", type=Finite(), help="Lowest α to consider.")
@click.option("--to", "high", type=Finite(), help="Highest α to consider.")
@click.option(
    "--min-gain", type=Finite(0, 1), default=0.002, help="Smallest gain in coverage that makes a new α worth it."
)
@missing_option
@json_option
def command(
    outcomes_file: Path,
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

    The α of a policy comes from its name, such as `coverage@+0.50`, from a file of policies, or from --alpha.
    """
    table = read_outcomes(outcomes_file, missing)
    alphas = alphas_of(table.policies, _parsed(given), _known(file, table.policies), sweep)
    line = table.select(policies=table.rows(list(alphas)))
    curves = AlphaCurves.fit(list(alphas.values()), line.num_samples_MP, line.num_correct_MP)
    proposal = propose(curves, ProposalOptions(budget, low, high, min_gain))
    if as_json:
        print_result(_json(proposal, alphas, budget, min_gain), table)
        return
    known = f"α is known for {len(alphas)} of {len(table.policies)} policies"
    console = print_heading(f"{counted(len(table.problems), 'problem', 'problems')}; {known}.", table)
    console.print(_table(proposal, budget))
    console.print(_EXPLANATION, style="dim")
    console.print("\n" + _sentence(proposal, min_gain, budget))


def _known(file: Path | None, policies: tuple[str, ...]) -> dict[str, float]:
    """Return the α of the policies that a file of policies defines."""
    if file is None:
        return {}
    with Registry.load(file) as registry:
        alphas = {name: registry.alpha(name) for name in policies if name in registry.names}
    return {name: alpha for name, alpha in alphas.items() if alpha is not None}


def _parsed(given: tuple[str, ...]) -> dict[str, float]:
    """Split each NAME=VALUE at its last `=`, because a name may contain another."""
    alphas: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            alphas[name] = float(value)
        except ValueError:
            alphas[name] = nan
        if not isfinite(alphas[name]):
            raise click.UsageError(f"--alpha {text!r} does not have the form NAME=VALUE: write --alpha low=0.5")
    return alphas


def _table(proposal: Proposal, budget: int) -> Table:
    rows = (
        [
            alpha_label(candidate.alpha),
            str(candidate.share),
            f"{_points(candidate.gain)} [{', '.join(map(_points, candidate.interval))}]",
            f"{100 * candidate.improvement:.2f} ± {100 * candidate.stderr:.2f}",
            f"{100 * candidate.chance:.0f} %",
        ]
        for candidate in proposal.candidates
    )
    return plain_table(["α", f"share of {budget}", "gain [95 % of draws]", "improvement", "chance to pay"], rows)


def _points(value: float) -> str:
    return f"{100 * value:+z.2f}".replace("-", "−")


def _sentence(proposal: Proposal, min_gain: float, budget: int) -> str:
    """Return the recommendation in words."""
    best = proposal.candidates[0]
    gain = f"{100 * best.improvement:.2f} ± {100 * best.stderr:.2f} points"
    alpha = f"{best.alpha:g}".replace("-", "−")
    if proposal.verdict == "make":
        return (
            f"Make α = {alpha} next: it should raise the coverage of the best mixture of {budget} samples, now "
            f"{100 * proposal.coverage:.1f} %, by {gain}; the chance that it adds more than {100 * min_gain:g} "
            f"points is {100 * best.chance:.0f} %."
        )
    reason = {
        "below": f"less than the required {100 * min_gain:g}",
        "flat": "but the curves behind that could as well be flat",
        "noise": "but chance alone could give that with this number of problems",
    }[proposal.verdict]
    return f"More α would not pay: the best candidate, α = {alpha}, should add {gain}, {reason}."


def _json(proposal: Proposal, alphas: dict[str, float], budget: int, min_gain: float) -> dict[str, object]:
    names = list(alphas)
    best = proposal.candidates[0]
    return {
        "budget": budget,
        "min_gain": min_gain,
        "alphas": alphas,
        "without": {"allocation": _counts(names, proposal.allocation_M), "coverage": proposal.coverage},
        "verdict": proposal.verdict,
        "next": best.alpha if proposal.verdict == "make" else None,
        "candidates": [
            {
                **{key: value for key, value in vars(candidate).items() if key != "allocation_M"},
                "allocation": _counts(names, candidate.allocation_M),
            }
            for candidate in proposal.candidates
        ],
    }


def _counts(names: list[str], allocation_M: Ints) -> dict[str, int]:
    return {name: count for name, count in zip(names, allocation_M.tolist(), strict=True) if count}
