"""`alphamix policies list`: prints the policies of a file after checking it."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.cli.options.output import json_option
from alphamix.ensemble.report.tables import alpha_label
from alphamix.policies.registry import Registry


@click.command("list")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def command(file: Path, as_json: bool) -> None:
    """List the policies of FILE with their α, and its mixtures.

    Sweeps are expanded. The whole file is checked first.
    """
    with Registry.load(file) as registry:
        registry.check()
    alphas = {name: registry.alpha(name) for name in registry.names}
    if as_json:
        click.echo(json.dumps({"policies": alphas, "mixtures": registry.mixtures}, indent=2))
        return
    table = Table("policy", "α")
    for name, alpha in alphas.items():
        table.add_row(name, alpha_label(alpha))
    console = Console()
    console.print(table)
    for mixture, weights in registry.mixtures.items():
        console.print(f"mixture {mixture}: {', '.join(weights)}", highlight=False)
