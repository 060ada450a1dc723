"""The text of `alphamix vote`: whose samples should vote, and what that gains over one policy's own vote.

Shares are in [0, 1] in JSON and percentages elsewhere.
"""

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.text import Text

from alphamix.ensemble.mixture.gains import naive_and_honest
from alphamix.ensemble.mixture.vote_arms import VoteComparison
from alphamix.ensemble.report.formatting import allocation_label, interval_note, percent, points, shown
from alphamix.ensemble.report.mixture_text import against_every, arms_table, beats_every


def vote_sentence(comparison: VoteComparison) -> str:
    """Return advice on whose samples should vote, and how certain it is."""
    mixture = comparison.arms["mixture"].allocation
    spend = f"Let {allocation_label(mixture)} vote"
    right = comparison.accuracy["mixture"].honest.get("problems")
    if right is None:
        naive = percent(comparison.accuracy["mixture"].naive)
        return (
            f"{spend}: on the answers that chose it, it is right on {naive} of the problems, which flatters it. There "
            f"is no honest figure: {comparison.no_honest}."
        )
    if "mixture" not in comparison.gains:
        return (
            f"{spend}: it is right on {percent(right)} of the problems. What that gains over a single policy is "
            f"unknown, since none has {comparison.budget} on every problem."
        )
    name, gain = next(iter(comparison.arms["best_single"].allocation)), comparison.gains["mixture"].honest["problems"]
    single, strict = shown(name), comparison.strict["mixture"]
    if mixture == comparison.arms["best_single"].allocation:
        return f"Let {single} vote alone: it is the best mixture, and right on {percent(right)} of the problems."
    over = f"{points(gain)} over the vote of {single}, the policy that you would have picked alone"
    if gain.sign > 0 or beats_every(strict):
        return (
            f"{spend}: it is right on {percent(right)} of the problems, {over}. The gain is more than chance explains. "
            f"{against_every(strict)}"
        )
    if gain.sign < 0:
        return f"Let {single} vote alone: the best mixture that these answers can choose gains {over}."
    return (
        f"Let {single} vote alone: the best mixture ({allocation_label(mixture)}) gains {over}. Chance could explain "
        "that gain; more problems, or more samples of each, would settle it."
    )


def vote_tables(comparison: VoteComparison) -> Group:
    """Return everything that is printed in a terminal."""
    notes = [
        f"In brackets {interval_note(comparison.resampling)}; of honest estimates with Student's t.",
        f"The best mixture is the best of {comparison.num_mixtures}.",
    ]
    if comparison.left_out:
        thin = ", ".join(f"{shown(name)} ({fewest})" for name, fewest in comparison.left_out.items())
        notes.append(f"Not compared as single policies, since they have too few samples: {thin}.")
    return Group(
        Text(f"A vote of {comparison.budget} on each problem, % of problems where it is right", style="bold"),
        arms_table(comparison.accuracy, comparison.gains, ["problems"]),
        *(Text(note, style="dim") for note in notes),
        Text("\n" + vote_sentence(comparison)),
    )


def vote_json(comparison: VoteComparison) -> dict[str, Any]:
    """Return the object that `--json` prints. What is undefined is null, and `no_honest` may say why."""
    single = comparison.arms.get("best_single")
    return {
        "budget": comparison.budget.amount,
        "allocation": comparison.arms["mixture"].allocation,
        "accuracy": {
            name: naive_and_honest(comparison.accuracy.get(name), "problems")
            for name in ("mixture", "equal", "best_single")
        },
        "best_single": next(iter(single.allocation)) if single else None,
        "gain": naive_and_honest(comparison.gains.get("mixture"), "problems"),
        "strict": None if (strict := comparison.strict.get("mixture")) is None else asdict(strict),
        "num_mixtures": comparison.num_mixtures,
        "left_out_singles": comparison.left_out,
        "no_honest": comparison.no_honest,
    }
