"""The text of `alphamix diagnose`: where an ensemble's gain lives, in one sentence, tables and JSON."""

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from alphamix.ensemble.mixture.gain_location import GainAtBudget, GainLocation
from alphamix.ensemble.report.formatting import allocation_label, counted, plain_table, points, shown


def gain_sentence(location: GainLocation) -> str:
    """Say where a budget stands, and what to try."""
    here, peak = location.here, location.peak
    most = f"{expected_gain(peak)} at {counted(peak.samples, 'sample', 'samples')} per problem"
    if location.place == "no contrast":
        return (
            f"There is hardly a gain to exploit: whatever the budget, the model expects no more than {most}. Use "
            f"{shown(here.best_single)} alone, or add a policy that solves other problems."
        )
    budget = f"A budget of {counted(here.samples, 'sample', 'samples')} per problem is {location.place}"
    if location.place == "on the bump":
        said = f"{budget}: the model expects a gain of {expected_gain(here)}."
    elif location.place == "past the bump":
        said = (
            f"{budget}: single policies catch up. The model expects a gain of {expected_gain(here)}, and {most}. Spend "
            "less, or take harder problems."
        )
    else:
        said = (
            f"{budget}: too small for the harder problems. The model expects a gain of {expected_gain(here)}, and "
            f"{most}. Spend more, or take easier problems."
        )
    if len(here.allocation) == 1:
        return said
    return f"{said} Try {allocation_label(here.allocation)} against {shown(here.best_single)} alone."


def gain_tables(location: GainLocation) -> Group:
    """Return everything that is printed in a terminal."""
    return Group(
        Text("Gain of the best mixture over the best single policy, points", style="bold"),
        _gains(location),
        Text(
            "The gain is what the model of shared difficulty expects on new problems. On held-out problems it is "
            "measured without a model, with the choice made on the other half.",
            style="dim",
        ),
        Text("\nHow policies differ", style="bold"),
        _policies(location),
        Text(
            "Policies with contrasts of opposite sign are good at different problems. Shared is the share of the "
            "variance of a policy's solve rates that difficulty and contrast explain.",
            style="dim",
        ),
        Text("\n" + gain_sentence(location)),
    )


def gain_json(location: GainLocation) -> dict[str, Any]:
    """Return the object that `--json` prints. Gains are in [0, 1], and null where they cannot be measured."""
    return {
        "budget": location.samples,
        "place": location.place,
        "peak": location.peak.samples,
        "gains": [asdict(point) for point in location.points],
        "sharing": dict(location.sharing),
        "contrast": dict(location.contrast),
    }


def _gains(location: GainLocation) -> Table:
    marks = {location.peak.samples: "peak", location.samples: "budget"}
    rows = [
        [
            str(point.samples),
            expected_gain(point).replace(" points", ""),
            points(point.held_out).replace(" points", ""),
            allocation_label(point.allocation, is_short=True),
            marks.get(point.samples, ""),
        ]
        for point in location.points
    ]
    return plain_table(["samples", "expected", "held out", "best mixture", ""], rows, num_texts=0)


def _policies(location: GainLocation) -> Table:
    rows = [
        [shown(name), f"{contrast:+z.2f}".replace("-", "−"), f"{100 * location.sharing[name]:.0f} %"]
        for name, contrast in location.contrast.items()
    ]
    return plain_table(["policy", "contrast", "shared"], rows)


def expected_gain(point: GainAtBudget) -> str:
    """Format the gain that the model expects, with its interval."""
    low, high = (100 * bound for bound in point.interval)
    return f"{100 * point.gain:+z.1f} points [{low:.1f}, {high:.1f}]".replace("-", "−")
