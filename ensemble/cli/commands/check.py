"""`alphamix policies check`: asks each policy a little and draws what `policies.health.check_policy` found."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.health.check_policy import CheckQuestion, check_policy
from alphamix.policies.health.findings import CHECKS, Finding
from alphamix.policies.registry import Registry

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failure": "[red]✗[/]", "unknown": "[dim]–[/]"}
_LABELS = {"reachable": "reach", "choices": "n"}
"""Of columns, where the check's name is too long for ten of them in 80 characters."""
_SHOWN_CHARACTERS = 12
"""Of a fingerprint, in the table."""

_DEFAULT = CheckQuestion()


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--policy", "names", multiple=True, metavar="NAME", help="Check only this one; may be repeated.")
@click.option("--prompt", default=_DEFAULT.prompt, show_default=True, metavar="TEXT", help="What is asked.")
@click.option("--plain", is_flag=True, help="Ask with plain text to be continued, not with a message as runs do.")
@click.option("--samples", type=click.IntRange(min=2), default=_DEFAULT.samples, show_default=True)
@click.option("--max-tokens", type=click.IntRange(min=1), default=_DEFAULT.max_tokens, show_default=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="For one request to a URL, with its repeats.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    file: Path,
    names: tuple[str, ...],
    prompt: str,
    plain: bool,
    samples: int,
    max_tokens: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask each policy of FILE a little, before a budget is spent on it.

    Marks: ✓ well, ! a warning, ✗ would spoil pass@k, – cannot be told. Exits with 1 if there is a ✗.
    """
    registry = Registry.load(file).select(names or None)
    question = CheckQuestion(prompt, chat=not plain, samples=samples, max_tokens=max_tokens)
    options = EngineOptions(first_byte_timeout_s=timeout, idle_timeout_s=timeout, deadline_s=timeout, max_retries=2)
    progress = Console(stderr=True)
    findings: dict[str, list[Finding]] = {}
    with registry, progress.status("") as status:
        for name in registry.names:
            status.update(f"checking {escape(name)} …")
            findings[name] = check_policy(registry, name, question, options)
    ok = all(finding.state != "failure" for found in findings.values() for finding in found)
    if as_json:
        click.echo(json.dumps({"ok": ok, "question": asdict(question), "policies": _report(findings)}, indent=2))
    else:
        _print(findings, question)
    sys.exit(0 if ok else 1)


def _report(findings: Mapping[str, Sequence[Finding]]) -> dict[str, dict[str, dict[str, str | int | None]]]:
    """By policy and check: state, message, value."""
    return {
        name: {found.check: {"state": found.state, "message": found.message, "value": found.value} for found in all_of}
        for name, all_of in findings.items()
    }


def _print(findings: Mapping[str, Sequence[Finding]], question: CheckQuestion) -> None:
    console = Console(highlight=False)
    labels = [_LABELS.get(check, check) for check in CHECKS]
    columns = [Column(label, min_width=len(label)) for label in labels]
    table = Table(Column("policy", overflow="fold"), *columns, box=SIMPLE_HEAD, padding=0)
    for name, found in findings.items():
        table.add_row(escape(name), *map(_cell, found))
    console.print(table)
    for name, found in findings.items():
        for finding in found:
            if finding.state in ("warning", "failure"):
                told = escape(f"{name}, {finding.check}: {finding.message}")
                console.print(f"{_MARKS[finding.state]} {told}", soft_wrap=True)
    kind = "message" if question.chat else "plain text"
    asked = f"{question.samples} seeds, at most {question.max_tokens} tokens each, the {kind} {question.prompt!r}"
    console.print(f"Asked: {escape(asked)}", soft_wrap=True)


def _cell(finding: Finding) -> str:
    if finding.value is None:
        return _MARKS[finding.state]
    return escape(str(finding.value)[:_SHOWN_CHARACTERS])
