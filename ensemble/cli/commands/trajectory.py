"""`alphamix policies trajectory`: prints how straight a training run is, and extrapolates it to a checkpoint."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from alphamix.ensemble.cli.options import PATH, json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.policies.checkpoints.locate import locate, source
from alphamix.policies.checkpoints.safetensors_folder import size
from alphamix.policies.checkpoints.target_folder import check_room, refuse_taken
from alphamix.policies.merging.trajectory import STRAIGHT, Linearity, extrapolate, linearity
from alphamix.policies.policy_file.recipes import Method
from alphamix.policies.types import PolicyError


@click.command("trajectory", context_settings={"show_default": True})
@click.argument("checkpoints", nargs=-1, required=True, metavar="STEP=CHECKPOINT…")
@click.option("--min-range", type=float, default=0.0, help="Select weights whose range over the steps exceeds this.")
@json_option
@click.option("--plot", metavar="FILE", type=PATH, help="Draw the R² of each tensor into this file.")
@click.option("--step", type=float, help="Extrapolate to this step; goes with --out.")
@click.option("--out", metavar="FOLDER", type=PATH, help="Folder to write the extrapolated checkpoint to.")
@click.option("--method", type=click.Choice(["lines", "rank-1"]), default="lines", help="Method of extrapolation.")
@click.option(
    "--norms",
    type=click.Choice(["extrapolate", "copy"]),
    default="extrapolate",
    help="Whether to extrapolate the weights of norms, or to copy them from the last checkpoint.",
)
def command(
    checkpoints: tuple[str, ...],
    min_range: float,
    as_json: bool,
    plot: Path | None,
    step: float | None,
    out: Path | None,
    method: Method,
    norms: str,
) -> None:
    """Measure how straight the weights of a training run moved, and extrapolate them to another step.

    Give each checkpoint of the run as STEP=CHECKPOINT, where CHECKPOINT is a folder or a hub id. The table shows R² of
    a line through the checkpoints, for each tensor.
    """
    if (step is None) != (out is None):
        raise click.UsageError("--step and --out go together: give both or neither")
    run = _parsed(checkpoints)
    if out is not None:
        refuse_taken(out)
        check_room(out, size(run[max(run)]))
    rows = linearity(run, min_range=min_range)
    if plot is not None:
        _draw(rows, plot)
    if step is not None and out is not None:
        extrapolate(run, step, out, method=method, norms=norms == "extrapolate")
    if as_json:
        tensors = {name: row for name, row in rows.items() if name}
        print_json({"min_range": min_range, "overall": rows[""], "tensors": tensors})
        return
    table = Table(Column("tensor", overflow="fold"), "weights", "selected", "mean R²", "pooled R²", f"R² ≥ {STRAIGHT}")
    for name, row in rows.items():
        shares = (row.mean, row.pooled, row.straight)
        cells = ["n/a" if value is None else f"{value:.3f}" for value in shares]
        table.add_row(name or "all", str(row.num_weights), str(row.num_selected), *cells)
    console = Console()
    console.print(table)
    console.print(f"Selected: weights whose range over the checkpoints exceeds {min_range:g}.", highlight=False)


def _parsed(checkpoints: tuple[str, ...]) -> dict[int, Path]:
    run: dict[int, Path] = {}
    for text in checkpoints:
        step, _, place = text.partition("=")
        if not step.isdecimal() or not place or int(step) in run:
            raise click.UsageError(
                f"{text!r} must be a checkpoint with a step that occurs once: write STEP=CHECKPOINT, as 200=run/b"
            )
        run[int(step)] = locate(source(place, Path.cwd()))
    return run


def _draw(rows: Mapping[str, Linearity], path: Path) -> None:
    """Draw a bar for the mean R² of each tensor, and a line for that of all weights."""
    try:
        figure_class: Any = importlib.import_module("matplotlib.figure").Figure
    except ModuleNotFoundError as error:
        raise PolicyError(f"--plot needs the package {error.name}: pip install 'alphamix[report]'") from error
    drawn = {name: row.mean for name, row in rows.items() if name and row.mean is not None}
    overall = rows[""].mean
    if overall is None:
        raise PolicyError("there is no R² to draw: give three or more checkpoints that differ")
    figure = figure_class(figsize=(7, 1.2 + 0.16 * len(drawn)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(drawn), list(drawn.values()), color="#457b9d")
    axes.axvline(overall, color="#e76f51", label=f"all weights: {overall:.3f}")
    axes.set(xlim=(0, 1), xlabel="mean R² of a line per weight")
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper right")
    figure.savefig(path, dpi=150)
