"""The report as one HTML file that needs nothing else: tables from the analysis, figures inlined."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.report import mixture_text as mixture
from alphamix.ensemble.report import tables

CAPTIONS = {
    "arms": "The same budget spent in several ways. Hollow: scored on the outcomes that made the choice. Filled: on "
    "other problems, and on other samples. Whiskers are intervals.",
    "frontier": "Left: how samples fail, one point per policy, joined along α. Right: the share of samples in each "
    "class along α; dotted: where format and exhausted failures take over. Whiskers and bands are intervals over "
    "problems.",
    "coverage": "Share of problems covered by what is spent per problem: each policy alone, and the ensembles that "
    "split the same budget. An adaptive arm stands where it ends: it may stop early.",
    "complementarity": "Share of accepted samples per problem and policy. Problems are ordered by which end of the "
    "line solves them, so a diagonal band means policies that complement each other.",
}


def render(analysis: Analysis, run: str, figures: Sequence[Path], judge: Mapping[str, Any], mapping: str) -> str:
    """The page as a string.

    Args:
        analysis: all numbers.
        run: name of the run.
        figures: PNG files, named as in `CAPTIONS`.
        judge: how verdicts came about.
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
        intervals=tables.intervals(analysis.resampling),
        arm_label=tables.arm_label,
        spends=tables.spends,
        conclusion=tables.conclusion(analysis),
        advice=mixture.sentence(analysis.comparison, "problems"),
        front=tables.front(analysis.front),
        moderate=tables.moderate_range(analysis.moderate),
        claims=tables.claim_rows(analysis.claims),
        images=images,
        judge=judge,
        mapping=mapping,
    )
