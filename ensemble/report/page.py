"""The page of a report: one self-contained HTML file with its figures. Only this module needs the extra `report`."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from alphamix.atomic import write_text
from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.analysis.run_summary import RunRemarks
from alphamix.ensemble.report import figures, formatting, gain_text, mixture_text, run_text, settings_text
from alphamix.grading.types import FAILURE_MAPPING_NAME

_CAPTIONS = {
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


def write_page(analysis: Analysis, folder: Path, name: str, judge: Mapping[str, Any], remarks: RunRemarks) -> Path:
    """Draw the figures into a folder and write the page that shows them; return the path of the page.

    Args:
        analysis: All numbers.
        folder: Folder to write to, which exists.
        name: Name of the run, or of the table.
        judge: How the verdicts were made; empty if this is unknown.
        remarks: What the page says before any figure.
    """
    paths = figures.save_all(analysis, folder / "figures")
    page = folder / "report.html"
    write_text(page, _page(analysis, name, paths, judge, remarks))
    return page


def _page(analysis: Analysis, run: str, images: Sequence[Path], judge: Mapping[str, Any], remarks: RunRemarks) -> str:
    """Return the page with the images, PNG files that are named as in `_CAPTIONS`, inlined."""
    environment = Environment(loader=PackageLoader("alphamix.ensemble.report"), autoescape=True, trim_blocks=True)
    environment.filters |= {
        "percent": formatting.percent,
        "points": formatting.points,
        "alpha": formatting.alpha_label,
        "p_value": formatting.p_label,
        "allocation": formatting.allocation_label,
    }
    inlined = [
        {"name": path.stem, "caption": _CAPTIONS[path.stem], "data": base64.b64encode(path.read_bytes()).decode()}
        for path in images
    ]
    return environment.get_template("page.html").render(
        run=run,
        analysis=analysis,
        notes=run_text.notes(analysis, remarks),
        intervals=formatting.interval_note(analysis.resampling),
        arm_label=formatting.arm_label,
        axis_label=formatting.axis_label,
        spends=run_text.spends,
        conclusion=run_text.conclusion(analysis),
        advice=mixture_text.sentence(analysis.comparison, "problems"),
        settings_headings=settings_text.settings_headings,
        settings_rows=settings_text.settings_rows,
        settings_note=settings_text.settings_note,
        settings_sentences=settings_text.settings_sentences,
        gain_advice=gain_text.gain_sentence(analysis.gain_location) if analysis.gain_location else None,
        expected_gain=gain_text.expected_gain,
        front=run_text.front_note(analysis.front),
        moderate=run_text.moderate_note(analysis.moderate),
        claims=run_text.claim_rows(analysis.claims),
        images=inlined,
        judge=judge,
        mapping=FAILURE_MAPPING_NAME,
    )
