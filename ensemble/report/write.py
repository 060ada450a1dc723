"""The files of a report: outcomes, summary, claims, and with the extra `report` a page with figures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphamix import _checks as checks
from alphamix.atomic import write_json
from alphamix.ensemble.analysis.paper_claims import claims_json
from alphamix.ensemble.analysis.run_analysis import Analysis
from alphamix.ensemble.analysis.run_summary import RunRemarks, summary
from alphamix.ensemble.outcomes.files import write_outcomes


def write_report(
    analysis: Analysis, folder: Path, name: str, judge: Mapping[str, Any], remarks: RunRemarks | None = None
) -> Path:
    """Write all files of a report into a folder, each whole or not at all, and return the path of the page.

    The numbers are written first, so they are there even if the figures cannot be drawn.

    Args:
        analysis: All numbers.
        folder: Folder to write to; it is created if it is missing.
        name: Name of the run, or of the table.
        judge: How the verdicts were made; empty if this is unknown, as for a table from another source.
        remarks: What a reader should know about the samples of a run.

    Raises:
        MissingExtraError: the extra `report` is not installed.
    """
    remarks = remarks or RunRemarks()
    checks.folder(folder)
    write_outcomes(analysis.outcomes, folder / "outcomes.csv")
    write_json(folder / "summary.json", summary(analysis, name, judge, remarks))
    write_json(folder / "claims.json", claims_json(analysis.claims, analysis.resampling.level))
    page = checks.module("alphamix.ensemble.report.page", "a report's page", "report")
    return page.write_page(analysis, folder, name, judge, remarks)
