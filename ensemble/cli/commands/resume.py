"""`alphamix resume`: continue the run in a folder."""

import os
from pathlib import Path

import click

from alphamix.ensemble.cli.commands.run import execute
from alphamix.ensemble.cli.options import PATH, json_option, quiet_option
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.store import STORE_NAME


@click.command("resume")
@click.argument("folder", type=PATH)
@json_option
@quiet_option
def command(folder: Path, as_json: bool, quiet: bool) -> None:
    """Continue the run in FOLDER, with the experiment stored there."""
    stored = folder / "experiment.toml"
    for file in (stored, folder / STORE_NAME):
        if not file.is_file():
            raise experiment.ExperimentError(
                f"{folder} has no {file.name}, so there is no run to continue: give the folder of one, or start one "
                "with `alphamix run EXPERIMENT -o FOLDER`"
            )
    settings = experiment.load(stored, environment=os.environ)
    execute(read_inputs(settings), folder, as_json=as_json, quiet=quiet)
