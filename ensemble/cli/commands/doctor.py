"""`alphamix doctor`: what this machine can do, and the exact fix for what it cannot. Gathers and prints only."""

import importlib.util
import json
import sys
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from alphamix.grading.sandbox.machine import TierFinding, ToolFinding, find_tiers, find_tools

_MODULES_OF_EXTRA = {
    "local": ("torch", "transformers"),
    "report": ("jinja2", "matplotlib"),
    "serve": ("starlette", "uvicorn"),
    "dask": ("distributed",),
    "ray": ("ray",),
    "vllm": ("vllm",),
}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what this machine can do, and the exact fix for what it cannot.

    Exits with 0 if programs can be judged safely here, else with 1.
    """
    tiers, tools = find_tiers(), find_tools()
    extras = [_find_extra(extra, modules) for extra, modules in _MODULES_OF_EXTRA.items()]
    chosen = next((tier.tier for tier in tiers if tier.ok), None)
    if as_json:
        click.echo(json.dumps(_report(chosen, tiers, tools, extras), indent=2))
    else:
        _print(chosen, tiers, tools, extras)
    sys.exit(0 if chosen else 1)


def _find_extra(extra: str, modules: tuple[str, ...]) -> ToolFinding:
    """See whether an extra's modules are installed, without importing them: some take seconds."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return ToolFinding(extra, False, f"without {', '.join(missing)}", f"pip install 'alphamix[{extra}]'")
    return ToolFinding(extra, True, ", ".join(modules))


def _report(
    chosen: str | None, tiers: list[TierFinding], tools: list[ToolFinding], extras: list[ToolFinding]
) -> dict[str, Any]:
    return {
        "sandbox": chosen,
        "tiers": {tier.tier: asdict(tier) for tier in tiers},
        "tools": {tool.name: asdict(tool) for tool in tools},
        "extras": {extra.name: asdict(extra) for extra in extras},
    }


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
        console.print(f"\nGrading is safe here: it uses the tier {chosen}.")
    else:
        console.print(
            "\nGrading is not safe here: mend one of the tiers above, or pass --sandbox=weak for programs you trust."
        )


def _print_finding(console: Console, finding: ToolFinding) -> None:
    detail = f" ({escape(finding.detail)})" if finding.detail else ""
    console.print(f"{_mark(finding.ok)} {finding.name}{detail}")
    if finding.fix:
        console.print(f"    fix: {escape(finding.fix)}")


def _mark(ok: bool) -> str:
    return "[green]ok     [/green]" if ok else "[yellow]missing[/yellow]"
