"""`alphamix doctor`: prints what this machine can do, and a fix for what it cannot."""

import importlib.util
import sys

import click
from rich.console import Console
from rich.markup import escape

from alphamix.ensemble.cli.lazy_group import MODULES_OF_EXTRA
from alphamix.ensemble.cli.options import json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.grading.sandbox.machine import TierFinding, ToolFinding, find_tiers, find_tools
from alphamix.grading.workspace import WorkspacePool, WorkspaceUnavailableError

_EXTRAS = ("local", "report", "serve", "dask", "ray", "vllm")


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Check what this machine can do, and print the exact fix for what it cannot.

    The exit code is 0 if programs can be judged safely on this machine, and 1 otherwise.
    """
    tiers, tools = find_tiers(), [*find_tools(), _find_workspaces()]
    extras = [_find_extra(extra, MODULES_OF_EXTRA[extra]) for extra in _EXTRAS]
    chosen = next((tier.tier for tier in tiers if tier.ok), None)
    if as_json:
        named = {"tools": {tool.name: tool for tool in tools}, "extras": {extra.name: extra for extra in extras}}
        print_json({"sandbox": chosen, "tiers": {tier.tier: tier for tier in tiers}, **named})
    else:
        _print(chosen, tiers, tools, extras)
    sys.exit(0 if chosen else 1)


def _find_workspaces() -> ToolFinding:
    """Open a workspace, and try to break out of it."""
    try:
        with WorkspacePool() as pool:
            pool.check()
    except WorkspaceUnavailableError as error:
        return ToolFinding("workspaces", False, *error.args)
    return ToolFinding("workspaces", True, "models can use tools")


def _find_extra(extra: str, modules: tuple[str, ...]) -> ToolFinding:
    """Check whether an extra's modules are installed, without importing them, because some take seconds."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return ToolFinding(extra, False, f"{', '.join(missing)} not installed", f"pip install 'alphamix[{extra}]'")
    return ToolFinding(extra, True, ", ".join(modules))


def _print(chosen: str | None, tiers: list[TierFinding], tools: list[ToolFinding], extras: list[ToolFinding]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for tier in tiers:
        _print_finding(console, ToolFinding(f"sandbox tier: {tier.tier}", tier.ok, tier.reason, tier.fix))
        for probe, is_closed in tier.probes.items():
            console.print(f"  {_mark(is_closed)} {'closed' if is_closed else 'open'}: {probe}")
    for title, findings in (("", tools), ("extra: ", extras)):
        for finding in findings:
            _print_finding(console, ToolFinding(title + finding.name, finding.ok, finding.detail, finding.fix))
    if chosen:
        console.print(f"\nGrading is safe here: it uses the sandbox tier {chosen}.")
    else:
        console.print(
            "\nGrading is not safe here: fix a tier above, or pass --sandbox=weak for programs that you trust."
        )


def _print_finding(console: Console, finding: ToolFinding) -> None:
    detail = f" ({escape(finding.detail)})" if finding.detail else ""
    console.print(f"{_mark(finding.ok)} {finding.name}{detail}")
    if finding.fix:
        console.print(f"    fix: {escape(finding.fix)}")


def _mark(ok: bool) -> str:
    return "[green]ok     [/green]" if ok else "[yellow]missing[/yellow]"
