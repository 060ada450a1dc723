"""The report of a run as one self-contained HTML page, with its figures inlined."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.report import mixture_text, run_text, tables

CAPTIONS = {
    "arms": "The same budget spent in several ways. Hollow points are scored on the outcomes that made the choice, "
    "filled ones on other problems and on other samples. Whiskers are intervals.",
    "frontier": "Left: how samples fail, one point per policy, joined along α. Right: the share of samples in each "
    "class along α; format and exhausted failures take over at the dotted lines. Whiskers and bands are intervals over "
    "problems.",
    "coverage": "Share of problems covered against the amount spent per problem, for each policy alone and for "
    "ensembles that split the same budget. An adaptive arm, which may stop early, is shown at its mean cost.",
    "complementarity": "Share of accepted samples by problem and policy. Problems are ordered by which end of the line "
    "solves them, so a diagonal band means that policies complement each other.",
}


def render(analysis: Analysis, run: str, figures: Sequence[Path], judge: Mapping[str, Any], mapping: str) -> str:
    """Return the page as a string.

    Args:
        analysis: all numbers.
        run: name of the run.
        figures: PNG files, named as in `CAPTIONS`.
        judge: version and settings of the judge.
        mapping: name of the mapping from verdicts to failure classes.
    """
    environment = Environment(loader=PackageLoader("alphamix.ensemble.report"), autoescape=True, trim_blocks=True)
    environment.filters |= {
        "percent": tables.percent,
        "points": tables.points,
        "alpha": tables.alpha_label,
        "p_value": tables.p_label,
        "allocation": tables.allocation_label,
    }
    images = [
        {
            "name": path.stem,
            "caption": CAPTIONS[path.stem],
            "data": base64.b64encode(path.read_bytes()).decode(),
        }
        for path in figures
    ]
    return environment.get_template("page.html").render(
        run=run,
        analysis=analysis,
        intervals=tables.interval_note(analysis.resampling),
        arm_label=tables.arm_label,
        spends=run_text.spends,
        conclusion=run_text.conclusion(analysis),
        advice=mixture_text.sentence(analysis.comparison, "problems"),
        front=run_text.front_note(analysis.front),
        moderate=run_text.moderate_note(analysis.moderate),
        claims=run_text.claim_rows(analysis.claims),
        images=images,
        judge=judge,
        mapping=mapping,
    )
