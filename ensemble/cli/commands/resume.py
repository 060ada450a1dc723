"""`alphamix resume`: continue the run in a folder."""

import os
from pathlib import Path

import click

from alphamix.ensemble.cli.commands.run import execute
from alphamix.ensemble.cli.options import PATH, json_option, quiet_option, set_option
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.experiment.resolved import read_inputs
from alphamix.ensemble.store import STORE_NAME
from alphamix.policies.types import CheckpointNotFoundError


@click.command("resume")
@click.argument("folder", type=PATH)
@set_option
@json_option
@quiet_option
def command(folder: Path, overrides: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Continue the run in FOLDER, with the experiment stored there.

    If checkpoints have moved, name a policies file that knows their new places: --set policies.file=FILE.
    """
    stored = folder / "experiment.toml"
    for file in (stored, folder / STORE_NAME):
        if not file.is_file():
            raise experiment.ExperimentError(
                f"{folder} has no {file.name}, so there is no run to continue: give the folder of one, or start one "
                "with `alphamix run EXPERIMENT -o FOLDER`"
            )
    settings = experiment.load(stored, overrides, os.environ)
    again = f"if it has moved, `alphamix resume {folder} --set"
    problems = settings.problems.file
    if problems is not None and not problems.is_file():
        raise experiment.ExperimentError(
            f"there is no file {problems}, which held the problems: {again} problems.file=FILE` goes on"
        )
    try:
        inputs = read_inputs(settings)
    except CheckpointNotFoundError as error:
        cure = f"{again} policies.file=FILE` goes on with a policies file that has the new place"
        raise experiment.ExperimentError(f"{error} Or {cure}") from error
    execute(inputs, folder, as_json=as_json, quiet=quiet)
