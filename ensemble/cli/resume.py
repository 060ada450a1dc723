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
    kept = folder / "experiment.toml"
    if not kept.is_file():
        raise experiment.ExperimentError(
            f"{folder} holds no {kept.name}, so no run that has begun: name the folder of one, or begin it with "
            "`alphamix run`"
        )
    settings = experiment.load(kept, environment=os.environ)
    execute(read_inputs(settings), folder, as_json=as_json, quiet=quiet)
