"""What commands print besides tables: results as JSON, and what is still owed."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

_MOST_CAUSES = 10


def print_json(content: Mapping[str, Any], *, ensure_ascii: bool = True) -> None:
    """Print a result as JSON; a dataclass becomes an object with its fields."""
    click.echo(json.dumps(content, indent=2, ensure_ascii=ensure_ascii, default=asdict))


def print_owed(what: str, owed: Counter[str], cure: str = "the same command asks for them again") -> None:
    """Print on standard error what is owed, by cause, and how to continue."""
    click.echo(f"{owed.total()} {what} are still owed:", err=True)
    for cause, count in owed.most_common(_MOST_CAUSES):
        click.echo(f"  {count} × {cause}", err=True)
    click.echo(cure, err=True)
