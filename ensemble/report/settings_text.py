"""The table that compares the settings of a run, for a terminal and for the page, and its conclusion in words."""

from collections.abc import Sequence

from alphamix.ensemble.analysis.compare_settings import SettingDifference, SettingFigures, SettingsComparison
from alphamix.ensemble.report.formatting import bare, names_in_words, points, shown
from alphamix.ensemble.statistics.intervals import Estimate

_VERDICTS = {1: "{setting} solves more", 0: "chance could explain the difference", -1: "{setting} solves less"}


def settings_headings(comparison: SettingsComparison) -> list[str]:
    """Return the headings of the table: two of texts, then of numbers."""
    ks = next(iter(comparison.settings.values())).pass_at_k
    return ["setting", "best single", *(f"pass@{k}" for k in ks), "best single covers", "tokens", "seconds"]


def settings_rows(comparison: SettingsComparison) -> list[list[str]]:
    """Return a row for each setting, and one for each difference; shares are in %, and differences in points."""
    return [
        *(_figures_row(name, figures) for name, figures in comparison.settings.items()),
        *map(_difference_row, comparison.differences),
    ]


def settings_note(comparison: SettingsComparison) -> str:
    """Say what the columns of the table are."""
    return (
        f"pass@k, tokens and seconds are means over the policies asked in every setting "
        f"({names_in_words(comparison.policies)}). The best single policy of a setting is picked, and scored on other "
        "problems (honest). Differences are paired by problem; draws of different settings are independent."
    )


def settings_sentences(comparison: SettingsComparison) -> str:
    """Say what each setting changes for the same policies, at the largest k that all of them reach."""
    return " ".join(_sentence(difference) for difference in comparison.differences)


def _sentence(difference: SettingDifference) -> str:
    setting, other = difference.setting, difference.other
    known = {k: estimate for k, estimate in difference.pass_at_k.items() if estimate is not None}
    if not known:
        return f"{setting} and {other} cannot be compared: some policy has too few samples for every k."
    k = max(known)
    verdict = _VERDICTS[known[k].sign].format(setting=setting)
    return f"{setting} minus {other}, pass@{k} of the same policies: {points(known[k])}: {verdict}."


def _figures_row(name: str, figures: SettingFigures) -> list[str]:
    covered = None if figures.coverage is None else figures.coverage.honest.get("problems")
    return [
        name,
        "–" if figures.best_single is None else shown(figures.best_single.removesuffix(f"@{name}")),
        *map(bare, figures.pass_at_k.values()),
        bare(covered),
        *map(_cost, (figures.tokens, figures.seconds)),
    ]


def _difference_row(difference: SettingDifference) -> list[str]:
    covered = None if difference.coverage is None else difference.coverage.honest.get("problems")
    estimates: Sequence[Estimate | None] = [*difference.pass_at_k.values(), covered]
    numbers = [points(estimate).replace(" points", "") for estimate in estimates]
    return [f"{difference.setting} − {difference.other}", "", *numbers, "", ""]


def _cost(value: float | None) -> str:
    return "n/a" if value is None else f"{value:,.4g}"
