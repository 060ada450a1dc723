"""The text of an analysis: a conclusion in one sentence, tables for a terminal, and notes for the page."""

from collections.abc import Mapping, Sequence
from importlib import metadata

from rich.console import Group
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.analysis.failure_frontier import FrontPoint, ModerateRange, Takeover
from alphamix.ensemble.analysis.paper_claims import Claim
from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.analysis.run_summary import RunRemarks
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import Arm
from alphamix.ensemble.mixture.cross_fitting import DIVISIONS
from alphamix.ensemble.report.formatting import (
    allocation_label,
    alpha_label,
    arm_label,
    bare,
    endings_label,
    interval_note,
    kinds_label,
    left_out_note,
    p_label,
    plain_table,
    points,
    shown,
)
from alphamix.ensemble.report.settings_text import settings_headings, settings_rows, settings_sentences

_MOST_MODULES = 10
_MOST_ERRATA = 3
_VERDICTS = {1: "the ensemble covers more", 0: "chance could explain the difference", -1: "the ensemble covers less"}


def conclusion(analysis: Analysis) -> str:
    """Say in one sentence how the ensemble compares with the best single policy at the same budget."""
    gains = analysis.comparison.gains
    name = next((arm for arm in ("equal", *gains) if arm in gains), None)
    honest = gains[name].honest.get("problems") if name else None
    if name is None or honest is None:
        reasons = "; ".join(dict.fromkeys(analysis.comparison.undefined.values()))
        return f"At {analysis.budget} per problem no honest comparison is defined: {reasons}."
    ensemble = "ensemble" if name == "equal" else arm_label(name)
    return (
        f"At {analysis.budget} per problem, {ensemble} minus best single policy: {points(honest)} "
        f"({points(gains[name].naive)} if the best policy is picked on the problems that score it): "
        f"{_VERDICTS[honest.sign]}."
    )


def notes(analysis: Analysis, remarks: RunRemarks) -> list[str]:
    """Say what a reader must know before any figure: what was left out, what is missing, and answers without text."""
    found = [left_out_note(analysis.outcomes)]
    if remarks.owed:
        found.append(
            f"The run is not finished: {remarks.owed:,} samples or verdicts are owed, and no figure counts them."
        )
    if remarks.rejected:
        found.append(f"{remarks.rejected:,} samples could not be drawn (rejected), and no figure counts them.")
    found += [f"Answers of {shown(policy)}: {kinds_label(kinds)}." for policy, kinds in remarks.answer_kinds.items()]
    found += [f"Attempts of {shown(policy)}: {endings_label(endings)}." for policy, endings in remarks.endings.items()]
    found += missing_module_notes(remarks.missing_modules, "alphamix regrade FOLDER --packages")
    if remarks.errata:
        some = [f"{shown(name)} {fault}" for name, fault in list(remarks.errata.items())[:_MOST_ERRATA]]
        more = "; …" if len(remarks.errata) > len(some) else ""
        count = len(remarks.errata)
        faults = "1 problem has a fault that is" if count == 1 else f"{count:,} problems have faults that are"
        found.append(f"{faults} known ({'; '.join(some)}{more}): problems.without_errata = true leaves such out.")
    return [note for note in found if note]


def missing_module_notes(count_of_module: Mapping[str, int], cure: str) -> list[str]:
    """Say for want of which modules programs failed; `cure`, with a package after it, gives one to the sandbox."""
    provided = metadata.packages_distributions() if count_of_module else {}
    ranked = sorted(count_of_module.items(), key=lambda item: -item[1])
    found: list[str] = []
    for module, count in ranked[:_MOST_MODULES]:
        programs = (
            "1 program failed because it imports" if count == 1 else f"{count:,} programs failed because they import"
        )
        remedy = f"not in the sandbox: {cure} {provided[module][0]}" if module in provided else "not installed here"
        found.append(f"{programs} {module}, which is {remedy}.")
    return found


def run_tables(analysis: Analysis, remarks: RunRemarks) -> Group:
    """Return everything that is printed at the end of a run."""
    parts = [
        (f"Solved, % of problems [{interval_note(analysis.resampling)}]", _solved(analysis)),
        ("The frontier: how samples fail, % of samples", _failed(analysis)),
        (f"The same budget: {analysis.budget} per problem, % of problems covered", _arms(analysis)),
    ]
    conclusions = [conclusion(analysis)]
    if analysis.settings is not None:
        headings, rows = settings_headings(analysis.settings), settings_rows(analysis.settings)
        parts.append(("The settings, % of problems, and what a sample costs", plain_table(headings, rows, num_texts=2)))
        conclusions.append(settings_sentences(analysis.settings))
    titled = [Group(Text(title, style="bold"), table) for title, table in parts]
    return Group(*map(Text, notes(analysis, remarks)), *titled, *map(Text, conclusions))


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
        estimates, arm = analysis.comparison.coverage[name], analysis.comparison.arms[name]
        return [
            shown(arm_label(name)),
            allocation_label(arm.allocation, is_short=True) if arm.cost is None else f"{arm.cost.value:.3g} on average",
            bare(estimates.naive),
            *(bare(estimates.honest.get(by)) for by in DIVISIONS),
        ]

    headings = ["arm", "spends", "naive", "new problems", "new samples"]
    return plain_table(headings, map(row, analysis.comparison.arms), num_texts=2)


def spends(arm: Arm, budget: Budget) -> str:
    """Say what an arm spends its budget on; an adaptive arm has means over problems, and may not spend all."""
    if arm.cost is None:
        return allocation_label(arm.allocation)
    return f"{arm.cost.value:.3g} {budget.currency} on average: {allocation_label(arm.allocation)}"


def claim_rows(claims: Sequence[Claim]) -> list[tuple[str, str, str, str, str]]:
    """Return rows of statement, statistic, value, p-value and verdict; further parts of a claim get their own rows."""
    rows: list[tuple[str, str, str, str, str]] = []
    for claim in claims:
        statement, p_value, verdict = claim.statement, p_label(claim.p_value), claim.verdict
        if not claim.parts:
            rows.append((statement, claim.reason or "", "–", p_value, verdict))
        for part in claim.parts:
            rows.append((statement, part.statistic, points(part.estimate), p_value, verdict))
            statement = p_value = verdict = ""
    return rows


def moderate_note(moderate: ModerateRange | None) -> str:
    """Say how far α can leave [0, 1] before answers break down; empty where this is unknown."""
    if moderate is None:
        return ""
    sides = [_takeover(moderate.below, "below 0"), _takeover(moderate.above, "above 1")]
    return f"Where more samples fail by format or exhaustion than by being wrong or slow: {'; '.join(sides)}."


def _takeover(takeover: Takeover, side: str) -> str:
    if takeover.alpha is None:
        return f"{side} nowhere that was measured"
    text = f"{side} from α = {takeover.alpha:.2f}"
    if takeover.interval is not None:
        low, high = ("open" if end is None else f"{end:.2f}" for end in takeover.interval)
        text += f" [{low}, {high}]"
    return text.replace("-", "−")


def front_note(points: Mapping[str, FrontPoint]) -> str:
    """Say which policies are dominated, and by which; empty where failure classes are unknown."""
    if not points:
        return ""
    dominated = [
        f"{policy} by {', '.join(point.dominated_by)} (on the front in {100 * point.share_on_front:.0f} % of resamples)"
        for policy, point in points.items()
        if point.dominated_by
    ]
    means = "no more failures of either kind, no fewer solves"
    return f"Dominated ({means}): {'; '.join(dominated)}." if dominated else f"No policy dominates another ({means})."
