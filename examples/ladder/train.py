"""Train the checkpoints of the ladder from scratch: first `init` by supervision, then `low` and `high` from it.

    python examples/ladder/train.py --out examples/ladder/checkpoints

`low` and `high` differ in one number only: the share of the nested tests that their reward requires. They are trained
in parallel, each on one thread. A stage whose folder already exists is skipped, so the same command continues a stopped
run at the stage where it stopped.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import torch
from language import train_tokenizer, untrained_model
from reinforcement import Reinforcement, reinforce
from supervised import Supervision, supervise
from transformers import AutoTokenizer, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar
from world.corpus import Corpus

from alphamix.grading.judge.judge import Judge

COVERAGE = {"low": 0.25, "high": 1.0}
TOKENIZER_EXAMPLES = 8000


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the checkpoints.")
@click.option("--only", type=click.Choice(["init", *COVERAGE]), help="Make only this checkpoint.")
@click.option("--seed", default=0, show_default=True, help="Seed of all random draws.")
@click.option("--steps", type=int, help="Number of reinforcement steps, instead of the planned one.")
def main(out: Path, only: str | None, seed: int, steps: int | None) -> None:
    """Make the checkpoints init, low and high."""
    torch.set_num_threads(1)  # more threads make small models slower, and much slower on busy cores
    disable_progress_bar()
    if only is None:
        make_all(out, sys.argv[1:])
    elif (out / only).exists():
        click.echo(f"{only}: already exists")
    elif only == "init":
        make_init(out, seed)
    else:
        plan = Reinforcement(coverage=COVERAGE[only], seed=seed)
        make_reinforced(out, only, plan if steps is None else replace(plan, steps=steps))


def make_all(out: Path, arguments: list[str]) -> None:
    """Run each stage in its own process: first init, then low and high in parallel."""
    for stage in (["init"], list(COVERAGE)):
        started = time.monotonic()
        processes = [subprocess.Popen([sys.executable, __file__, *arguments, "--only", name]) for name in stage]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise click.ClickException(f"{' and '.join(stage)} stopped. Run the same command again to continue.")
        click.echo(f"{' and '.join(stage)}: {(time.monotonic() - started) / 60:.1f} min")


def make_init(out: Path, seed: int) -> None:
    """Train the tokenizer on the corpus, then the model by supervision."""
    corpus, rng = Corpus(), random.Random(f"tokenizer/{seed}")
    examples = [corpus.draw(rng) for _ in range(TOKENIZER_EXAMPLES)]
    tokenizer = train_tokenizer(text for example in examples for text in (example.statement, example.answer))
    model = untrained_model(seed)
    supervise(model, tokenizer, corpus, Supervision(seed=seed), report_to("init"))
    with written_whole(out / "init") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def make_reinforced(out: Path, name: str, plan: Reinforcement) -> None:
    """Reinforce `init` under one coverage level."""
    tokenizer = AutoTokenizer.from_pretrained(out / "init")
    model = LlamaForCausalLM.from_pretrained(out / "init", dtype=torch.float32)
    with Judge(workers=1) as judge:
        reinforce(model, tokenizer, judge, plan, report_to(name))
    with written_whole(out / name) as folder:
        shutil.copytree(out / "init", folder)  # copies the tokenizer unchanged
        model.save_pretrained(folder)


@contextmanager
def written_whole(folder: Path) -> Generator[Path]:
    """Yield a temporary place that becomes the folder at the end, so that an existing folder is always complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    partial.rename(folder)


def report_to(name: str) -> Callable[[str], None]:
    """Print progress lines with the name of the checkpoint and the seconds since its start."""
    started = time.monotonic()
    return lambda line: print(f"[{name} {time.monotonic() - started:4.0f} s] {line}", flush=True)


if __name__ == "__main__":
    main()
