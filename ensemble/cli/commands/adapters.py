"""`alphamix policies extract-adapter` and `merge-adapters`."""

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from alphamix.policies.checkpoints.locate import ADAPTER_FILES, locate, source
from alphamix.policies.checkpoints.target_folder import refuse_taken
from alphamix.policies.lora.extract_adapter import extract_adapter
from alphamix.policies.lora.merge_adapters import merge_adapters

_FOLDER = click.Path(path_type=Path)


@click.command("extract-adapter")
@click.argument("base")
@click.argument("tuned")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the adapter; it must not exist.")
@click.option("--rank", type=click.IntRange(min=1), default=16, show_default=True, help="Rank of every module.")
@click.option("--target", metavar="REGEX", help="Only modules whose name contains this; all linear ones if left out.")
@click.option("--save-rest", is_flag=True, help="Keep norms and embeddings whole (modules_to_save; not for vLLM).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def extract(base: str, tuned: str, out: Path, rank: int, target: str | None, save_rest: bool, as_json: bool) -> None:
    """Write what training changed from BASE to TUNED (folders or hub ids) as a LoRA adapter, and say what it keeps."""
    refuse_taken(out)
    ends = [locate(source(end, Path.cwd())) for end in (base, tuned)]
    report = extract_adapter(ends[0], ends[1], out, rank=rank, target=target, save_rest=save_rest)
    energy = sum(entry.energy for entry in report)
    kept = sum(entry.kept * entry.energy for entry in report) / energy
    if as_json:
        tensors = [asdict(entry) for entry in report]
        click.echo(json.dumps({"rank": rank, "energy": energy, "kept": kept, "tensors": tensors}, indent=2))
        return
    table = Table(Column("tensor", overflow="fold"), "energy", "% of all", "% kept", "how")
    for entry in report:
        share = 100 * entry.energy / energy
        table.add_row(entry.tensor, f"{entry.energy:.3g}", f"{share:.1f}", f"{100 * entry.kept:.1f}", entry.how)
    table.add_section()
    table.add_row("all", f"{energy:.3g}", "100.0", f"{100 * kept:.1f}", "")
    Console().print(table)


@click.command("merge-adapters")
@click.argument("low")
@click.argument("high")
@click.option("--alpha", type=float, required=True, help="0 is LOW, 1 is HIGH; beyond them extrapolates.")
@click.option("--out", type=_FOLDER, required=True, help="Folder of the adapter; it must not exist.")
def merge(low: str, high: str, alpha: float, out: Path) -> None:
    """Merge the LoRA adapters LOW and HIGH (folders or hub ids) of one base at α into one, exactly."""
    refuse_taken(out)
    ends = [locate(source(end, Path.cwd()), ADAPTER_FILES) for end in (low, high)]
    merge_adapters(ends[0], ends[1], {alpha: out})
