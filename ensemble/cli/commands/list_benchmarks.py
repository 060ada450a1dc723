"""`alphamix problems list`: the benchmarks that have a name here."""

import click

from alphamix.ensemble.cli.options import json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.grading.benchmarks.catalog import BENCHMARKS


@click.command("list")
@json_option
def command(as_json: bool) -> None:
    """List the benchmarks that have a name here.

    Any other problems can be given as a file of JSON lines.
    """
    if as_json:
        print_json({name: benchmark.facts() for name, benchmark in BENCHMARKS.items()})
        return
    width = max(map(len, BENCHMARKS))
    for benchmark in BENCHMARKS.values():
        click.echo(f"{benchmark.name:<{width}}  {benchmark.summary}")
