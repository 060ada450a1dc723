"""`alphamix resume`: go on with the run in a folder."""

import os
from pathlib import Path

import click

from alphamix.ensemble.cli.commands.run import execute
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.store import STORE_NAME


@click.command("resume")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no tables.")
def command(folder: Path, as_json: bool, quiet: bool) -> None:
    """Go on with the run in FOLDER, by the experiment that is kept there."""
    kept = folder / "experiment.toml"
    for file in (kept, folder / STORE_NAME):
        if not file.is_file():
            raise experiment.ExperimentError(
                f"{folder} holds no {file.name}, so no run that can go on: name the folder of one, or begin one with "
                "`alphamix run EXPERIMENT -o FOLDER`"
            )
    settings = experiment.load(kept, environment=os.environ)
    execute(read_inputs(settings), folder, as_json=as_json, quiet=quiet)
