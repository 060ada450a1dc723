"""`alphamix policies check`: asks each policy a little and prints what `policies.health.check_policy` finds."""

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

from alphamix.ensemble.cli.options.output import json_option
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.health.check_policy import CheckQuestion, check_policy
from alphamix.policies.health.findings import CHECKS, Finding
from alphamix.policies.registry import Registry

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failure": "[red]✗[/]", "unknown": "[dim]–[/]"}
_LABELS = {"reachable": "reach", "choices": "n"}
"""Shorter headings for checks whose name is too long: ten columns must fit in 80 characters."""
_CELL_CHARACTERS = 12
"""Longest value in a cell; a fingerprint is cut to this."""

_DEFAULT = CheckQuestion()


@click.command("check", context_settings={"show_default": True})
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--policy", "names", multiple=True, metavar="NAME", help="Check only this policy; may be repeated.")
@click.option("--prompt", default=_DEFAULT.prompt, metavar="TEXT", help="Prompt to send.")
@click.option("--plain", is_flag=True, help="Send the prompt as plain text to continue, not as a chat message.")
@click.option("--samples", type=click.IntRange(min=2), default=_DEFAULT.samples, help="Samples per policy.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=_DEFAULT.max_tokens, help="Most tokens per sample.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    metavar="SECONDS",
    help="Time limit for one request to a server, with its retries.",
)
@json_option
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
    """Send each policy of FILE a few requests and check its answers, before a budget is spent on it.

    Marks: ✓ is good, ! is a warning, ✗ would spoil pass@k, – is unknown. The exit code is 1 if there is a ✗.
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
    """Return the state, message and value of each check, by policy."""
    return {
        name: {each.check: {"state": each.state, "message": each.message, "value": each.value} for each in found}
        for name, found in findings.items()
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
                message = escape(f"{name}, {finding.check}: {finding.message}")
                console.print(f"{_MARKS[finding.state]} {message}", soft_wrap=True)
    kind = "message" if question.chat else "plain text"
    asked = f"{question.samples} seeds, at most {question.max_tokens} tokens each, the {kind} {question.prompt!r}"
    console.print(f"Asked: {escape(asked)}", soft_wrap=True)


def _cell(finding: Finding) -> str:
    if finding.value is None:
        return _MARKS[finding.state]
    return escape(str(finding.value)[:_CELL_CHARACTERS])
