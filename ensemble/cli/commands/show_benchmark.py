"""`alphamix problems show`: what a benchmark is, and how to get it."""

import click

from alphamix.ensemble.cli.options import json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.grading.benchmarks.catalog import benchmark_of


@click.command("show")
@click.argument("name")
@json_option
def command(name: str, as_json: bool) -> None:
    """Show what the benchmark NAME is, its licence and size, where its files are, and how it can be selected from."""
    facts = benchmark_of(name).facts()
    if as_json:
        print_json(facts)
        return
    width = max(map(len, facts))
    for key, value in facts.items():
        click.echo(f"{key:<{width}}  {value}")
