"""The heading that all results from a table of outcomes share, on a terminal and in JSON."""

from typing import Any

from rich.console import Console

from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.report.formatting import counted, left_out_note, lookalikes_note


def print_result(content: dict[str, Any], outcomes: Outcomes) -> None:
    """Print a result as JSON, with the number of problems behind it and the names that were left out."""
    about = {
        "problems": len(outcomes.problems),
        "left_out": outcomes.left_out,
        "lookalikes": outcomes.num_lookalikes,
    }
    print_json({**content, **about}, ensure_ascii=False)


def print_size(outcomes: Outcomes, level: float) -> Console:
    """Print the size of a table and the level of intervals as the heading; return the console for the rest."""
    problems = counted(len(outcomes.problems), "problem", "problems")
    policies = counted(len(outcomes.policies), "policy", "policies")
    return print_heading(f"{problems}, {policies}; {100 * level:g} % intervals.", outcomes)


def print_heading(heading: str, outcomes: Outcomes) -> Console:
    """Print the heading of a result and what was left out; return the console for the rest.

    The console prints every name as it is: a policy may be called `[bold]` or `:smile:`.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(heading)
    if outcomes.left_out:
        console.print(left_out_note(outcomes))
    if outcomes.num_lookalikes:
        console.print(lookalikes_note(outcomes.num_lookalikes, len(outcomes.problems)))
    return console
