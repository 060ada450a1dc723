"""The files of a report: outcomes, summary, claims, figures, and the page that shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphamix.ensemble.analysis.paper_claims import content
from alphamix.ensemble.analysis.run_analysis import Analysis, summary
from alphamix.ensemble.atomic_files import write_json, write_text
from alphamix.ensemble.outcomes.files import write_outcomes
from alphamix.ensemble.report import figures, html
from alphamix.grading.types import FAILURE_MAPPING_NAME


def write_report(analysis: Analysis, folder: Path, name: str, judge: Mapping[str, Any], owed: int = 0) -> Path:
    """Write all files of a report into a folder, each whole or not at all, and return the path of the page.

    Args:
        analysis: All numbers.
        folder: Folder that is made where it is missing.
        name: Name of the run, or of the table.
        judge: How verdicts came about; empty where that is unknown, as for a table from elsewhere.
        owed: Number of planned samples that are missing or not judged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_outcomes(analysis.outcomes, folder / "outcomes.csv")
    write_json(folder / "summary.json", summary(analysis, name, judge, owed))
    write_json(folder / "claims.json", content(analysis.claims, analysis.level))
    paths = figures.save_all(analysis, folder / "figures")
    page = folder / "report.html"
    write_text(page, html.render(analysis, name, paths, judge, FAILURE_MAPPING_NAME))
    return page
