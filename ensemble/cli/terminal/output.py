"""What commands print besides tables: results as JSON, and what is still owed."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console

from alphamix.ensemble.report.run_text import notes, run_tables
from alphamix.ensemble.run.pipeline import Report

_MOST_CAUSES = 10
ASK_AGAIN = "the same command asks for them again"


def print_json(content: Mapping[str, Any], *, ensure_ascii: bool = True) -> None:
    """Print a result as JSON; a dataclass becomes an object with its fields."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=ensure_ascii, default=asdict))


def print_report(report: Report, console: Console) -> None:
    """Print the tables of a run and where the page is, or why there is none."""
    console.print(run_tables(report.analysis, report.remarks))
    page = f"Report: {report.page}" if report.page else report.no_page
    console.print(f"\n{page}", highlight=False, markup=False, soft_wrap=True)


def print_notes(report: Report) -> None:
    """Print on standard error what a reader must know before any figure."""
    for note in notes(report.analysis, report.remarks):
        click.echo(note, err=True)


def print_owed(what: str, owed: Counter[str], cure: str = ASK_AGAIN) -> None:
    """Print on standard error what is owed, by cause, and how to continue."""
    click.echo(f"{owed.total()} {what}:", err=True)
    for cause, count in owed.most_common(_MOST_CAUSES):
        click.echo(f"  {count} × {cause}", err=True)
    click.echo(cure, err=True)
