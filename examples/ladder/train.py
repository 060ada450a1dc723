"""Make the checkpoints of the ladder from nothing: a supervised start `init`, then `low` and `high` from it.

    python examples/ladder/train.py --out examples/ladder/checkpoints

`low` and `high` differ in one number only: the share of the nested tests that their reward asks for. They run
side by side, each on one thread. A stage whose folder is already there is not made again, so a stopped run
goes on at the stage where it was.
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
@click.option("--only", type=click.Choice(["init", *COVERAGE]), help="Make this checkpoint and no other.")
@click.option("--seed", default=0, show_default=True, help="Of everything that is drawn.")
@click.option("--steps", type=int, help="Reinforcement steps, in place of the planned number.")
def main(out: Path, only: str | None, seed: int, steps: int | None) -> None:
    """Make the checkpoints init, low and high."""
    torch.set_num_threads(1)  # with more threads small models get slower, and much slower on busy cores
    disable_progress_bar()
    if only is None:
        make_all(out, sys.argv[1:])
    elif (out / only).exists():
        click.echo(f"{only}: already there")
    elif only == "init":
        make_init(out, seed)
    else:
        plan = Reinforcement(coverage=COVERAGE[only], seed=seed)
        make_reinforced(out, only, plan if steps is None else replace(plan, steps=steps))


def make_all(out: Path, arguments: list[str]) -> None:
    """Run the stages, each in a process of its own: first init, then low and high side by side."""
    for stage in (["init"], list(COVERAGE)):
        started = time.monotonic()
        processes = [subprocess.Popen([sys.executable, __file__, *arguments, "--only", name]) for name in stage]
        codes = [process.wait() for process in processes]
        if any(codes):
            raise click.ClickException(f"{' and '.join(stage)} stopped; the same command goes on from there.")
        click.echo(f"{' and '.join(stage)}: {(time.monotonic() - started) / 60:.1f} min")


def make_init(out: Path, seed: int) -> None:
    """Learn the tokenizer from the corpus, then the model by supervision."""
    corpus, rng = Corpus(), random.Random(f"tokenizer/{seed}")
    examples = [corpus.draw(rng) for _ in range(TOKENIZER_EXAMPLES)]
    tokenizer = train_tokenizer(text for example in examples for text in (example.statement, example.answer))
    model = untrained_model(seed)
    supervise(model, tokenizer, corpus, Supervision(seed=seed), report_to("init"))
    with written_whole(out / "init") as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def make_reinforced(out: Path, name: str, plan: Reinforcement) -> None:
    """Start from init and reinforce under one coverage level."""
    tokenizer = AutoTokenizer.from_pretrained(out / "init")
    model = LlamaForCausalLM.from_pretrained(out / "init", dtype=torch.float32)
    with Judge(workers=1) as judge:
        reinforce(model, tokenizer, judge, plan, report_to(name))
    with written_whole(out / name) as folder:
        shutil.copytree(out / "init", folder)  # the tokenizer is the same to the byte
        model.save_pretrained(folder)


@contextmanager
def written_whole(folder: Path) -> Generator[Path]:
    """Give a place to write to, which becomes the folder at the end: a folder that is there is complete."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    yield partial
    partial.rename(folder)


def report_to(name: str) -> Callable[[str], None]:
    """Print progress lines with the name of the checkpoint and the seconds since it was begun."""
    started = time.monotonic()
    return lambda line: print(f"[{name} {time.monotonic() - started:4.0f} s] {line}", flush=True)


if __name__ == "__main__":
    main()
