"""The text of `alphamix power`: what comparisons could see, and what to buy next."""

from dataclasses import asdict
from typing import Any

from rich.console import Group
from rich.text import Text

from alphamix.ensemble.mixture.power import ComparisonDesign, PowerAnalysis
from alphamix.ensemble.report.formatting import counted, plain_table


def power_sentence(analysis: PowerAnalysis) -> str:
    """Say what the first design could see, and what to buy next."""
    first = analysis.designs[0]
    seen = (
        f"With {_counted(first.problems, first.samples)}, a gain must be "
        f"{100 * first.smallest_gain:.1f} points to be seen with a power of {100 * analysis.power:.0f} %."
    )
    parts = [seen, _next(analysis, first), _needed(analysis)]
    return " ".join(part for part in parts if part)


def _next(analysis: PowerAnalysis, first: ComparisonDesign) -> str:
    more_problems = [d for d in analysis.designs if d.samples == first.samples and d.problems > first.problems]
    more_samples = [d for d in analysis.designs if d.problems == first.problems and d.samples > first.samples]
    steps = [
        f"{what} lower that to {100 * design.smallest_gain:.1f} points"
        for designs, what in (
            (more_problems, counted(more_problems[0].problems, "problem", "problems") if more_problems else ""),
            (more_samples, counted(more_samples[0].samples, "sample", "samples") if more_samples else ""),
        )
        for design in designs[:1]
    ]
    return f"{'; '.join(steps)}." if steps else ""


def _needed(analysis: PowerAnalysis) -> str:
    samples, problems = next(iter(analysis.problems_needed.items()))
    if problems is None:
        return "The model expects no gain, so no number of problems would show one."
    return f"A gain of {100 * analysis.expected_gain:.1f} points takes {_counted(problems, samples, 'with')}."


def _counted(problems: int, samples: int, joined: str = "and") -> str:
    of_each = counted(samples, "sample", "samples")
    return f"{counted(problems, 'problem', 'problems')} {joined} {of_each} of each policy"


def power_tables(analysis: PowerAnalysis) -> Group:
    """Return everything that is printed in a terminal."""
    return _tables(
        analysis,
        "For the best mixture against the best single policy, both fixed beforehand, on problems of the same kind as "
        "the model of shared difficulty describes them.",
    )


def guess_tables(analysis: PowerAnalysis) -> Group:
    """Return everything that is printed in a terminal where there was no table."""
    return _tables(
        analysis,
        "If exactly one of two arms, both fixed beforehand, solves as many problems as guessed. Coverage that is "
        "averaged over choices among the samples varies somewhat less.",
    )


def _tables(analysis: PowerAnalysis, assumption: str) -> Group:
    rows = [
        [
            f"{design.problems:,}",
            str(design.samples),
            f"{100 * design.stderr:.2f}",
            f"{100 * design.smallest_gain:.1f}",
            f"{100 * design.power:.0f} %",
        ]
        for design in analysis.designs
    ]
    gain = f"{100 * analysis.expected_gain:+z.1f}".replace("-", "−")
    headings = ["problems", "samples of each", "standard error", "smallest gain seen", f"power for {gain}"]
    return Group(
        Text(f"Gain at {counted(analysis.budget, 'sample', 'samples')} per problem, points", style="bold"),
        plain_table(headings, rows, num_texts=0),
        Text(assumption, style="dim"),
        Text("\n" + power_sentence(analysis)),
    )


def power_json(analysis: PowerAnalysis) -> dict[str, Any]:
    """Return the object that `--json` prints; gains are in [0, 1]."""
    return asdict(analysis)
