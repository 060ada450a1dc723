"""Short forms of time spans, rates, shares of verdicts and long names."""

from collections import Counter

from alphamix.grading.types import Verdict


def duration(seconds: float | None) -> str:
    """Format a time span as 0:05, 1:02:03 or 3 d 04 h, or as a dash if it is unknown."""
    if seconds is None:
        return "–"
    minutes, whole = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours // 24:,} d {hours % 24:02} h"
    return f"{hours}:{minutes:02}:{whole:02}" if hours else f"{minutes}:{whole:02}"


def rate(per_second: float) -> str:
    """Format a rate; larger rates get fewer decimals."""
    return f"{per_second:,.{0 if per_second >= 100 else 1 if per_second >= 1 else 2}f}"


def shares(verdicts: Counter[Verdict], limit: int = len(Verdict)) -> str:
    """Format the shares of the `limit` most common verdicts, the most common first."""
    total = verdicts.total()
    return "  ".join(f"{verdict} {count / total:.0%}" for verdict, count in verdicts.most_common(limit))


def shortened(name: str, width: int) -> str:
    """Fit a name into a width by cutting its middle, because the names of a sweep differ at their ends."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[len(name) - tail :]}"
