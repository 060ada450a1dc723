"""`alphamix policies check`: sends each policy a few requests and prints what `policies.health.check_policy` finds."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from alphamix.ensemble.cli.options import COUNT, PATH, json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.health.check_policy import CheckQuestion, check_policy
from alphamix.policies.health.findings import CHECKS, Finding, judge_twins
from alphamix.policies.registry import Registry

_MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "failure": "[red]✗[/]", "unknown": "[dim]–[/]"}
_LABELS = {"reachable": "reach", "choices": "n"}
"""Shorter headings for checks with long names, because ten columns must fit in 80 characters."""
_CELL_CHARACTERS = 12
"""Maximum length of a value in a cell; longer fingerprints are cut."""

_DEFAULT = CheckQuestion()


@click.command("check", context_settings={"show_default": True})
@click.argument("file", type=PATH)
@click.option("--policy", "names", multiple=True, metavar="NAME", help="Check only this policy. May be repeated.")
@click.option("--prompt", default=_DEFAULT.prompt, metavar="TEXT", help="Prompt to send.")
@click.option("--plain", is_flag=True, help="Send the prompt as plain text to continue, not as a chat message.")
@click.option("--samples", type=click.IntRange(min=2), default=_DEFAULT.samples, help="Number of samples per policy.")
@click.option("--max-tokens", type=COUNT, default=_DEFAULT.max_tokens, help="Maximum number of tokens per sample.")
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
        findings = judge_twins(findings, registry.twins())
    ok = all(finding.state != "failure" for of_policy in findings.values() for finding in of_policy)
    if as_json:
        print_json({"ok": ok, "question": question, "policies": _report(findings)})
    else:
        _print(findings, question)
    sys.exit(0 if ok else 1)


def _report(findings: Mapping[str, Sequence[Finding]]) -> dict[str, dict[str, dict[str, str | int | None]]]:
    """Return the state, message and value of each check, by policy."""
    return {
        name: {each.check: {"state": each.state, "message": each.message, "value": each.value} for each in of_policy}
        for name, of_policy in findings.items()
    }


def _print(findings: Mapping[str, Sequence[Finding]], question: CheckQuestion) -> None:
    console = Console(highlight=False)
    labels = [_LABELS.get(check, check) for check in CHECKS]
    columns = [Column(label, min_width=len(label)) for label in labels]
    table = Table(Column("policy", overflow="fold"), *columns, box=SIMPLE_HEAD, padding=0)
    for name, of_policy in findings.items():
        table.add_row(escape(name), *map(_cell, of_policy))
    console.print(table)
    for name, of_policy in findings.items():
        for finding in of_policy:
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
