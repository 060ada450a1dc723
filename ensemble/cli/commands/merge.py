"""`alphamix policies merge`: merges checkpoints into checkpoints, without a file of policies."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from alphamix.ensemble.cli.options import PATH, json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.ensemble.cli.terminal.progress import LoggedProgress
from alphamix.policies.checkpoints.dtypes import FORMAT_OF_DTYPE
from alphamix.policies.checkpoints.locate import locate, source
from alphamix.policies.checkpoints.safetensors_folder import read_json, size
from alphamix.policies.checkpoints.target_folder import check_room, refuse_taken
from alphamix.policies.merging.merge import combine
from alphamix.policies.policy_file.recipes import alpha_folder, combination

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def _bytes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> int | None:
    """Return the bytes of a size such as `5GB`."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", value.strip(), re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS or float(match[1]) == 0:
        raise click.BadParameter(f"{value!r} is not a size: write a number of bytes, or 500MB, or 5GB")
    return math.ceil(float(match[1]) * _UNITS[match[2].upper()])


@click.command("merge")
@click.option("--low", metavar="CHECKPOINT", help="Checkpoint at α = 0: a folder or a hub id.")
@click.option("--high", metavar="CHECKPOINT", help="Checkpoint at α = 1: a folder or a hub id.")
@click.option(
    "--alpha", "alphas", type=float, multiple=True, help="Merge low + α·(high − low) at this α. May be repeated."
)
@click.option(
    "--weight",
    "weights",
    multiple=True,
    metavar="CHECKPOINT=W",
    help="Instead of a line, merge a weighted sum: one checkpoint of it and its weight. May be repeated.",
)
@click.option(
    "--base", metavar="CHECKPOINT", help="Merge base + Σ W·(checkpoint − base). Without it, the weights must sum to 1."
)
@click.option(
    "--out", required=True, type=PATH, help="Folder to write to. Several α get a subfolder each, such as alpha_-0.50."
)
@click.option(
    "--dtype",
    type=click.Choice(list(FORMAT_OF_DTYPE)),
    show_default="that of the inputs",
    help="Type of all float tensors.",
)
@click.option(
    "--shard-size",
    metavar="SIZE",
    callback=_bytes,
    show_default="files as in the first input",
    help="Largest size of a file, such as 5GB.",
)
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print no progress and no summary.")
def merge(
    low: str | None,
    high: str | None,
    alphas: Sequence[float],
    weights: Sequence[str],
    base: str | None,
    out: Path,
    dtype: str | None,
    shard_size: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Merge checkpoints at one or more α, or as a weighted sum.

    The arithmetic is exact: in float64, rounded once, with all α in one pass over the inputs.

    \b
    alphamix policies merge --low a --high b --alpha 1.3 --out beyond
    alphamix policies merge --low a --high b --alpha -0.5 --alpha 1.5 --out sweep
    alphamix policies merge --weight a=0.2 --weight b=0.3 --weight c=0.5 --out soup
    alphamix policies merge --base a --weight b=0.7 --weight c=0.4 --out sum
    """
    is_line = low is not None and high is not None and bool(alphas)
    if is_line == bool(weights) or (is_line and base is not None) or (weights and (low or high or alphas)):
        raise click.UsageError(
            "give --low, --high and --alpha, or --weight CHECKPOINT=W for each checkpoint (with or without --base)"
        )
    if low is not None and high is not None:
        inputs = {"low": _located(low), "high": _located(high)}
        folders = _folders(alphas, out)
    else:
        recipe = combination(base, _parsed(weights), "--weight")
        inputs = {name: _located(name) for name in recipe.inputs.values()}
        folders = {recipe.weights: out}
    for folder in folders.values():
        refuse_taken(folder)
    first = next(iter(inputs.values()))
    check_room(out, len(folders) * size(first, dtype))
    with _MergeProgress(size(first), quiet=quiet or as_json) as progress:
        combine(inputs, folders, dtype=dtype, shard_size=shard_size, advance=progress.merged)
    records = {folder: read_json(folder / "merge.json") for folder in folders.values()}
    if as_json:
        print_json({"merges": [{"folder": str(folder), **record} for folder, record in records.items()]})
    elif not quiet:
        for folder, record in records.items():
            click.echo(f"{folder}: {_summary(record)}")


def _located(text: str) -> Path:
    return locate(source(text, Path.cwd()))


def _parsed(weights: Sequence[str]) -> dict[str, float]:
    parsed: dict[str, float] = {}
    for text in weights:
        name, _, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not name or not math.isfinite(weight):
            raise click.UsageError(
                f"--weight {text!r} is not CHECKPOINT=W with a finite W: write folder=0.5, for example"
            )
        if name in parsed:
            raise click.UsageError(f"--weight gives {name!r} twice: add the two weights up")
        parsed[name] = weight
    return parsed


def _folders(alphas: Sequence[float], out: Path) -> dict[tuple[float, ...], Path]:
    for alpha in alphas:
        if not math.isfinite(alpha):
            raise click.UsageError(f"--alpha {alpha} is not finite: give a number such as 1.5")
    if len(alphas) == 1:
        return {(alphas[0],): out}
    return {(alpha,): out / alpha_folder(alpha) for alpha in alphas}


def _summary(record: Mapping[str, Any]) -> str:
    if "alpha" in record:
        effective = record["alpha_effective"]
        after = "the inputs are equal" if effective is None else f"{effective:.6g} after rounding"
        made = f"α = {record['alpha']:g} ({after})"
    else:
        terms = [f"{weight:+g}·({name} − base)" for name, weight in record["weights"].items()]
        made = " ".join([record["base"], *terms])
    copied = record["copied"]
    return f"{made}; {len(copied)} tensors without floats copied: {', '.join(copied)}" if copied else made


class _MergeProgress(LoggedProgress):
    """Progress of a merge, in bytes of the first input."""

    def __init__(self, total: int, *, quiet: bool) -> None:
        columns = TextColumn("merging"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
        super().__init__(*columns, console=Console(stderr=True), quiet=quiet)
        self._task = self.add_task("", total=total)

    def merged(self, num_bytes: int) -> None:
        """Count bytes that have been merged."""
        self.advance(self._task, num_bytes)
        self.write_line_if_due()

    def line(self) -> str:
        """Return how much has been merged."""
        (task,) = self.tasks
        return f"merged {task.completed / 1e9:.1f} of {(task.total or 0) / 1e9:.1f} GB"
