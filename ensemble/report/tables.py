"""The tables of a report for a terminal, and the words for numbers that the page uses as well."""

from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.analysis.failure_frontier import FrontPoint, ModerateRange, Takeover
from alphamix.ensemble.analysis.paper_claims import Claim
from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS
from alphamix.ensemble.statistics.intervals import Estimate, Method, Resampling

_IN_WORDS = {
    1: "the ensemble covers more",
    0: "no difference can be told from chance",
    -1: "the ensemble covers less",
}

_NAMES_IN_NOTES = 3
_PARTS_IN_TABLES = 2
"""Of a split, in a terminal; the page tells all."""

METHOD_LABELS: dict[Method, str] = {"bca": "BCa bootstrap", "percentile": "percentile bootstrap"}
_ARM_LABELS = {
    "mixture": "best mixture",
    "equal": "equal split",
    "best_single": "best single",
    "optimised": "pilot, then best mixture",
    "thompson": "Thompson sampling",
    "halving": "successive halving",
}


def percent(estimate: Estimate | None) -> str:
    """A share with its interval: `61.2 % [55.0, 67.1]`; n/a where it is undefined."""
    if estimate is None:
        return "n/a"
    return f"{100 * estimate.value:.1f} %{_bracket(estimate, '.1f')}"


def points(estimate: Estimate | None) -> str:
    """A difference of shares with its interval: `+1.3 points [−0.4, +3.0]`; n/a where it is undefined."""
    if estimate is None:
        return "n/a"
    return f"{100 * estimate.value:+z.1f} points{_bracket(estimate, '+z.1f')}".replace("-", "−")


def alpha_label(alpha: float | None) -> str:
    """α with its sign, or a dash where a policy has none."""
    return "–" if alpha is None else f"{alpha:+.2f}".replace("-", "−")


def intervals(resampling: Resampling) -> str:
    """How intervals were made, but for those of honest figures."""
    return f"{100 * resampling.level:g} % intervals for new problems, {METHOD_LABELS[resampling.method]}"


def arm_label(name: str) -> str:
    """An arm as people read it; a split by weights has the name that its experiment gives it."""
    return _ARM_LABELS.get(name, name)


def spends(arm: Arm, budget: Budget) -> str:
    """What an arm spends its budget on; of an adaptive one the means over problems, and what it did not need."""
    if arm.cost is None:
        return allocation_label(arm.allocation)
    return f"{arm.cost.value:.3g} {budget.currency} on average: {allocation_label(arm.allocation)}"


def allocation_label(allocation: Mapping[str, float]) -> str:
    """How many samples go to whom, equal parts said once: `4 × low; 2 each of middle, high`."""
    return "; ".join(
        f"{_count(count)} × {names[0]}" if len(names) == 1 else f"{_count(count)} each of {', '.join(names)}"
        for count, names in _equal_parts(allocation)
    )


def shown(name: str) -> str:
    """A name as it is, or quoted where it could not be told: blanks at its ends, line breaks, control characters."""
    return name if name.isprintable() and name == name.strip() else repr(name)


def left_out_note(names: Sequence[str]) -> str:
    """Which policies or problems of a table are not counted."""
    more = len(names) - _NAMES_IN_NOTES
    told = ", ".join(map(shown, names[:_NAMES_IN_NOTES])) + (f" and {more} more" if more > 0 else "")
    return f"Left out, since samples are missing: {told}."


def conclusion(analysis: Analysis) -> str:
    """What the budget-matched comparison says, in one sentence."""
    gains = analysis.comparison.gains
    name = next((arm for arm in ("equal", *gains) if arm in gains), None)
    gain = None if name is None else gains[name]
    honest = None if gain is None else gain.honest.get("problems")
    if name is None or gain is None or honest is None:
        return f"At {analysis.budget} per problem no honest comparison is defined: {_reasons(analysis)}."
    ensemble = "ensemble" if name == "equal" else arm_label(name)
    return (
        f"At {analysis.budget} per problem, {ensemble} minus best single policy: {points(honest)} "
        f"({points(gain.naive)} had the best policy been picked on the problems that score it): "
        f"{_IN_WORDS[honest.sign]}."
    )


def _reasons(analysis: Analysis) -> str:
    return "; ".join(dict.fromkeys(analysis.comparison.undefined.values()))


def claim_rows(claims: Sequence[Claim]) -> list[tuple[str, str, str, str, str]]:
    """Statement, statistic, value, p-value and verdict; the second part of a claim gets a row of its own."""
    rows: list[tuple[str, str, str, str, str]] = []
    for claim in claims:
        statement, p_value, verdict = claim.statement, p_label(claim.p_value), claim.verdict
        if not claim.parts:
            rows.append((statement, claim.reason or "", "–", p_value, verdict))
        for part in claim.parts:
            rows.append((statement, part.statistic, points(part.estimate), p_value, verdict))
            statement = p_value = verdict = ""
    return rows


def moderate_range(moderate: ModerateRange | None) -> str:
    """How far α can leave [0, 1] before answers fall apart; empty where nothing is known."""
    if moderate is None:
        return ""
    sides = [_takeover(moderate.below, "below 0"), _takeover(moderate.above, "above 1")]
    return f"Where more samples fail by format or exhaustion than by being wrong or slow: {'; '.join(sides)}."


def _takeover(takeover: Takeover, side: str) -> str:
    if takeover.alpha is None:
        return f"{side} nowhere that was measured"
    if takeover.interval is None:
        return f"{side} from α = {takeover.alpha:.2f}".replace("-", "−")
    low, high = ("open" if end is None else f"{end:.2f}" for end in takeover.interval)
    return f"{side} from α = {takeover.alpha:.2f} [{low}, {high}]".replace("-", "−")


def front(points: Mapping[str, FrontPoint]) -> str:
    """Who is dominated by whom; empty where failure classes are unknown."""
    if not points:
        return ""
    dominated = [
        f"{policy} by {', '.join(point.dominated_by)} (on the front in {100 * point.share_on_front:.0f} % of resamples)"
        for policy, point in points.items()
        if point.dominated_by
    ]
    means = "no more failures of either kind, no fewer solves"
    return f"Dominated ({means}): {'; '.join(dominated)}." if dominated else f"No policy dominates another ({means})."


def tables(analysis: Analysis) -> Group:
    """Everything that is printed at the end of a run."""
    parts = [
        (f"Solved, % of problems [{intervals(analysis.resampling)}]", _solved(analysis)),
        ("The frontier: how samples fail, % of samples", _failed(analysis)),
        (f"The same budget: {analysis.budget} per problem, % of problems covered", _arms(analysis)),
    ]
    titled = [Group(Text(title, style="bold"), table) for title, table in parts]
    return Group(*titled, Text(conclusion(analysis)))


def _solved(analysis: Analysis) -> Table:
    ks = list(next(iter(analysis.pass_at_k.values())))
    return plain_table(
        ["policy", "α", *(f"pass@{k}" for k in ks)],
        (
            [shown(policy), alpha_label(analysis.alphas[policy]), *(bare(passed[k]) for k in ks)]
            for policy, passed in analysis.pass_at_k.items()
        ),
    )


def _failed(analysis: Analysis) -> Table:
    failures = list(next(iter(analysis.frontier.values())))
    return plain_table(
        ["policy", *failures],
        (
            [shown(policy), *(bare(rates[failure]) for failure in failures)]
            for policy, rates in analysis.frontier.items()
        ),
    )


def _arms(analysis: Analysis) -> Table:
    def row(name: str) -> list[str]:
        figures, arm = analysis.comparison.coverage[name], analysis.comparison.arms[name]
        spends = _short_allocation(arm.allocation) if arm.cost is None else f"{arm.cost.value:.3g} on average"
        return [
            shown(arm_label(name)),
            spends,
            bare(figures.naive),
            *(bare(figures.honest.get(by)) for by in DIVISIONS),
        ]

    headings = ["arm", "spends", "naive", "new problems", "new samples"]
    return plain_table(headings, map(row, analysis.comparison.arms), num_texts=2)


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]], num_texts: int = 1) -> Table:
    """A table without lines, as all of ours are: texts on the left, figures on the right, and nothing cut off.

    Cells are taken literally: a name like `[bold]` is no markup.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="left" if column < num_texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def bare(estimate: Estimate | None) -> str:
    """A share short enough for four columns on a narrow terminal: `61.2 [55, 67]`; the page gives all digits."""
    return "n/a" if estimate is None else f"{100 * estimate.value:.1f}{_bracket(estimate, '.0f')}"


def bare_difference(estimate: Estimate | None) -> str:
    """A difference of shares, in points: `+1.3 [−0.4, +3.0]`."""
    return points(estimate).replace(" points", "")


def _short_allocation(allocation: Mapping[str, float]) -> str:
    """As `allocation_label`, but three names and more are counted, and so are the policies of a split in many parts."""
    parts = _equal_parts(allocation)
    if len(parts) > _PARTS_IN_TABLES:
        return f"{len(allocation)} policies"
    return "; ".join(
        f"{_count(count)} × {names[0]}"
        if len(names) == 1
        else f"{_count(count)} each of {', '.join(names) if len(names) == 2 else len(names)}"
        for count, names in parts
    )


def _count(count: float) -> str:
    return f"{count:.0f}" if float(count).is_integer() else f"{count:.1f}"


def _equal_parts(allocation: Mapping[str, float]) -> list[tuple[float, list[str]]]:
    by_count: dict[float, list[str]] = {}
    for policy, count in allocation.items():
        by_count.setdefault(count, []).append(shown(policy))
    return sorted(by_count.items(), reverse=True)


def p_label(p_value: float | None) -> str:
    """A p-value to three decimals, or a dash where there is none."""
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def _bracket(estimate: Estimate, form: str) -> str:
    if estimate.interval is None:
        return ""
    low, high = (format(100 * bound, form) for bound in estimate.interval)
    return f" [{low}, {high}]"
