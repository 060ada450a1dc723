"""The text of `alphamix rank`: which policy is best, and which cannot be told from it."""

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.text import Text

from alphamix.ensemble.analysis.ranking import RankedPolicy, Ranking
from alphamix.ensemble.report.formatting import names_in_words, percent, plain_table, points, shown
from alphamix.ensemble.statistics.intervals import Estimate


def ranking_sentence(ranking: Ranking) -> str:
    """Say which policies may be the best on these problems, and which are behind on new ones."""
    first, *others = ranking.policies
    if not others:
        return "There is nothing to rank: the table has a single policy."
    return " ".join([_on_these_problems(ranking), _on_new_problems(first, others)])


def _on_these_problems(ranking: Ranking) -> str:
    first = ranking.policies[0]
    tied = [policy.policy for policy in ranking.policies if policy.rank == 1]
    if len(tied) > 1:
        start = f"{names_in_words(tied)} are tied on these problems"
    else:
        start = f"{shown(first.policy)} is the best policy on these problems with a chance of {_chance(first)}"
    if len(ranking.best) <= len(tied):
        return f"{start}."
    return f"{start}; with a chance of {100 * ranking.level:g} % or more it is one of {names_in_words(ranking.best)}."


def _on_new_problems(first: RankedPolicy, others: list[RankedPolicy]) -> str:
    level_with = [policy.policy for policy in others if policy.difference.sign >= 0]
    if not level_with:
        return f"On new problems like these, all others are behind {shown(first.policy)}."
    if len(level_with) == len(others):
        return f"On new problems like these, no policy is certain to be behind {shown(first.policy)}."
    return (
        f"On new problems like these, {names_in_words(level_with)} cannot be told from {shown(first.policy)}; all "
        "others are behind it."
    )


def ranking_tables(ranking: Ranking) -> Group:
    """Return everything that is printed in a terminal."""
    ranks = [policy.rank for policy in ranking.policies]
    rows = [
        [
            f"{policy.rank}{'=' if ranks.count(policy.rank) > 1 else ''}",
            shown(policy.policy),
            percent(Estimate(policy.pass_at_1, None, policy.interval)),
            _chance(policy),
            "" if place == 0 else points(policy.difference).replace(" points", ""),
        ]
        for place, policy in enumerate(ranking.policies)
    ]
    headings = ["", "policy", "pass@1, these problems", "best", "behind, new problems"]
    return Group(
        plain_table(headings, rows, num_texts=2),
        Text(
            "Best: chance to have the highest solve rate on these problems; like the intervals beside it, it says "
            "nothing about others. Behind: paired difference to the first on new problems, in points; the first was "
            "picked by looking. With more than one sample the order may differ (`alphamix mix`).",
            style="dim",
        ),
        Text("\n" + ranking_sentence(ranking)),
    )


def _chance(policy: RankedPolicy) -> str:
    percent = 100 * policy.chance_first
    if 0.05 <= percent < 99.95:
        return f"{percent:.1f} %"
    return "< 0.1 %" if percent < 50 else "> 99.9 %"


def ranking_json(ranking: Ranking) -> dict[str, Any]:
    """Return the object that `--json` prints; rates, chances and differences are in [0, 1]."""
    return asdict(ranking)
