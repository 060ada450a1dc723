"""`alphamix policies list`: prints the policies of a file after checking it."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.cli.options import PATH, json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.ensemble.report.formatting import alpha_label
from alphamix.policies.registry import Registry


@click.command("list")
@click.argument("file", type=PATH)
@json_option
def command(file: Path, as_json: bool) -> None:
    """List the policies of FILE with their α, and its mixtures.

    Sweeps are expanded. The whole file is checked first.
    """
    with Registry.load(file) as registry:
        registry.check()
    alphas = {name: registry.alpha(name) for name in registry.names}
    if as_json:
        print_json({"policies": alphas, "mixtures": registry.mixtures})
        return
    table = Table("policy", "α")
    for name, alpha in alphas.items():
        table.add_row(name, alpha_label(alpha))
    console = Console()
    console.print(table)
    for mixture, weights in registry.mixtures.items():
        console.print(f"mixture {mixture}: {', '.join(weights)}", highlight=False)
