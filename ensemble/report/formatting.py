"""Formats of numbers, names and tables, for a terminal and for the page."""

from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Estimate, Method, Resampling
from alphamix.ensemble.store import Ending
from alphamix.policies.types import AnswerKind

_NAMES_IN_NOTES = 3
_MAX_PARTS = 2
"""Maximum number of parts of an allocation in a column of a terminal; the page shows all."""

METHOD_LABELS: dict[Method, str] = {
    "score": "score interval",
    "bca": "BCa bootstrap",
    "percentile": "percentile bootstrap",
}
_ARM_LABELS = {
    "mixture": "best mixture",
    "equal": "equal split",
    "best_single": "best single",
    "optimised": "pilot, then best mixture",
    "thompson": "Thompson sampling",
    "halving": "successive halving",
}


def percent(estimate: Estimate | None) -> str:
    """Format a share with its interval, as in `61.2 % [55.0, 67.1]`; n/a where it is undefined."""
    return "n/a" if estimate is None else f"{100 * estimate.value:.1f} %{_bracket(estimate, '.1f')}"


def points(estimate: Estimate | None) -> str:
    """Format a difference of shares with its interval, as in `+1.3 points [−0.4, +3.0]`; n/a where it is undefined."""
    if estimate is None:
        return "n/a"
    return f"{100 * estimate.value:+z.1f} points{_bracket(estimate, '+z.1f')}".replace("-", "−")


def bare(estimate: Estimate | None) -> str:
    """Format a share for a narrow column of a terminal, as in `61.2 [55, 67]`; n/a where it is undefined."""
    return "n/a" if estimate is None else f"{100 * estimate.value:.1f}{_bracket(estimate, '.0f')}"


def _bracket(estimate: Estimate, form: str) -> str:
    if estimate.interval is None:
        return ""
    low, high = (format(100 * bound, form) for bound in estimate.interval)
    return f" [{low}, {high}]"


def alpha_label(alpha: float | None) -> str:
    """Format α with its sign, or as a dash where a policy has none."""
    return "–" if alpha is None else f"{alpha:+.2f}".replace("-", "−")


def axis_label(policy: str, alpha: float | None, setting: str = "") -> str:
    """Return the shortest name of a policy: its α if it has one, with the setting where there are several."""
    return policy if alpha is None else f"{alpha_label(alpha)} {setting}".rstrip()


def p_label(p_value: float | None) -> str:
    """Format a p-value to three decimals, or as a dash where there is none."""
    if p_value is None:
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def interval_note(resampling: Resampling) -> str:
    """Return how all intervals are made except those of honest estimates."""
    return f"{100 * resampling.level:g} % intervals for new problems, {METHOD_LABELS[resampling.method]}"


def arm_label(name: str) -> str:
    """Return the readable name of an arm. Splits by weights keep the names that the experiment gives them."""
    return _ARM_LABELS.get(name, name)


def allocation_label(allocation: Mapping[str, float], *, is_short: bool = False) -> str:
    """Format an allocation, with equal counts grouped, as in `4 × low; 2 each of middle, high`.

    With `is_short`, three or more names become their number, as do all policies if there are many different counts.
    """
    by_count: dict[float, list[str]] = {}
    for policy, count in allocation.items():
        by_count.setdefault(count, []).append(shown(policy))
    if is_short and len(by_count) > _MAX_PARTS:
        return f"{len(allocation)} policies"
    parts: list[str] = []
    for count, names in sorted(by_count.items(), reverse=True):
        number = f"{count:.0f}" if float(count).is_integer() else f"{count:.1f}"
        members = str(len(names)) if is_short and len(names) > 2 else ", ".join(names)
        parts.append(f"{number} × {members}" if len(names) == 1 else f"{number} each of {members}")
    return "; ".join(parts)


def shown(name: str) -> str:
    """Return a name as it is, or quoted if it has spaces at its ends, line breaks or control characters."""
    return name if name.isprintable() and name == name.strip() else repr(name)


def names_in_words(names: Sequence[str]) -> str:
    """List names as a sentence does: `low`, `low and high`, `low, middle and high`."""
    *most, last = map(shown, names)
    return f"{', '.join(most)} and {last}" if most else last


_KIND_LABELS: dict[AnswerKind, str] = {
    "text": "text",
    "reasoning": "only reasoning, which was judged in place of the missing text",
    "refusal": "a refusal",
    "empty": "empty",
}


def kinds_label(kinds: Mapping[AnswerKind, int]) -> str:
    """Return the number of answers of each kind, as in `3 are empty; 2 are a refusal`."""
    counts = sorted(kinds.items(), key=lambda item: -item[1])
    return "; ".join(f"{number:,} {'is' if number == 1 else 'are'} {_KIND_LABELS[kind]}" for kind, number in counts)


_ENDING_LABELS: dict[Ending, str] = {
    "submitted": "submitted",
    "gave_up": "gave up",
    "out_of_turns": "were out of turns",
    "out_of_tokens": "were out of tokens",
    "nothing_submitted": "submitted nothing",
}


def endings_label(endings: Mapping[Ending, int]) -> str:
    """Return the number of attempts by how they ended, as in `3 were out of tokens; 2 gave up`."""
    counts = sorted(endings.items(), key=lambda item: -item[1])
    return "; ".join(f"{number:,} {_ENDING_LABELS[ending]}" for ending, number in counts)


def lookalikes_note(number: int, num_problems: int) -> str:
    """Return a note on problems that look like copies of each other."""
    return (
        f"{number} of {num_problems} problems have exactly the counts of another one for every policy. If they are "
        "copies or variants, name what belongs together in a column `group`: intervals treat problems as independent."
    )


def left_out_note(outcomes: Outcomes) -> str:
    """Return a note on the policies or problems that were left out of a table; empty if none were."""
    names = outcomes.left_out
    if not names:
        return ""
    more = len(names) - _NAMES_IN_NOTES
    listed = ", ".join(map(shown, names[:_NAMES_IN_NOTES])) + (f" and {more} more" if more > 0 else "")
    if outcomes.left_out_are == "policies":
        return f"Left out, since samples are missing: {counted(len(names), 'policy', 'policies')} ({listed})."
    return (
        f"Left out for all policies alike, since samples are missing: {counted(len(names), 'problem', 'problems')} "
        f"({listed}). If these are harder than the others, every figure looks better than it is."
    )


def counted(number: int, one: str, several: str) -> str:
    """Return a number with the word for it, as in `1 problem` and `2,000 problems`."""
    return f"{number:,} {one if number == 1 else several}"


def plain_table(headings: Sequence[str], rows: Iterable[Sequence[str]], num_texts: int = 1) -> Table:
    """Make a table without lines: the first columns hold text, the others numbers, and nothing is cut off.

    Cells are literal, so a name like `[bold]` is not markup.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column, heading in enumerate(headings):
        table.add_column(heading, justify="left" if column < num_texts else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table
