"""`alphamix resume`: go on with the run in a folder."""

import os
from pathlib import Path

import click

from ensemble import experiment
from ensemble.cli.run import execute
from ensemble.inputs import read_inputs


@click.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no tables.")
def command(folder: Path, as_json: bool, quiet: bool) -> None:
    """Go on with the run in FOLDER, by the experiment that is kept there."""
    settings = experiment.load(folder / "experiment.toml", environment=os.environ)
    execute(read_inputs(settings), folder, as_json=as_json, quiet=quiet)
