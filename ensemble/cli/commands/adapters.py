"""`alphamix policies extract-adapter` and `alphamix policies merge-adapters`."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Column, Table

from alphamix.ensemble.cli.options import COUNT, PATH, json_option
from alphamix.ensemble.cli.terminal.output import print_json
from alphamix.policies.checkpoints.locate import ADAPTER_FILES, locate, source
from alphamix.policies.checkpoints.target_folder import refuse_taken
from alphamix.policies.lora.extract_adapter import extract_adapter
from alphamix.policies.lora.merge_adapters import merge_adapters

_OUT = click.option("--out", type=PATH, required=True, help="Folder to write the adapter to; it must not exist.")


@click.command("extract-adapter", context_settings={"show_default": True})
@click.argument("base")
@click.argument("tuned")
@_OUT
@click.option("--rank", type=COUNT, default=16, help="Rank in every module.")
@click.option("--target", metavar="REGEX", show_default="all linear modules", help="Only modules whose name matches.")
@click.option(
    "--save-rest",
    is_flag=True,
    help="Store norms and embeddings in full, as modules_to_save. vLLM cannot load such an adapter.",
)
@json_option
def extract(base: str, tuned: str, out: Path, rank: int, target: str | None, save_rest: bool, as_json: bool) -> None:
    """Write what training changed between BASE and TUNED as a LoRA adapter.

    BASE and TUNED are folders or hub ids. The table shows how much of each tensor's change the adapter keeps.
    """
    refuse_taken(out)
    ends = [locate(source(end, Path.cwd())) for end in (base, tuned)]
    report = extract_adapter(ends[0], ends[1], out, rank=rank, target=target, save_rest=save_rest)
    energy = sum(entry.energy for entry in report)
    kept = sum(entry.kept * entry.energy for entry in report) / energy
    if as_json:
        print_json({"rank": rank, "energy": energy, "kept": kept, "tensors": report})
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
@click.option("--alpha", type=float, required=True, help="0 gives LOW, 1 gives HIGH; values beyond extrapolate.")
@_OUT
def merge(low: str, high: str, alpha: float, out: Path) -> None:
    """Merge the LoRA adapters LOW and HIGH of one base into one adapter at α, exactly.

    LOW and HIGH are folders or hub ids.
    """
    refuse_taken(out)
    ends = [locate(source(end, Path.cwd()), ADAPTER_FILES) for end in (low, high)]
    merge_adapters(ends[0], ends[1], {alpha: out})
