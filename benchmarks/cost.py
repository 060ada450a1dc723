"""The cost of grading beyond the recorded CPU time: `python cost.py` fits the two constants of `cost_estimate`.

`python cost.py FOLDER` instead measures the bytes per token of text, with the tokenizer of the checkpoint in a folder.

The record holds the CPU seconds of the program that decided a verdict. The judge also forks, proves, feeds and
compares. This script grades the mixed workload kind by kind, and programs that spin into their limit. It compares the
CPU seconds of all processes with the recorded ones and fits a line without negative coefficients to the means of the
kinds, with equal relative weights.
"""

import os
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from measure import cpu_s, one_core
from scipy.optimize import nnls
from transformers import AutoTokenizer
from workload import Sample, mixed, trivial

from alphamix.ensemble.run.cost_estimate import JUDGE_FACTOR, JUDGE_OVERHEAD_S
from alphamix.ensemble.store.rows import compress
from alphamix.grading.judge.judge import Judge
from alphamix.grading.types import Program, Verdict

_SPINS = 20
_TEXT = 50_000
"""Length of a text in characters."""


def kinds() -> dict[str, list[Sample]]:
    """Return samples by the result that they get."""
    found: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in mixed():
        found[sample.verdict.value].append(sample)
    found["trivial"] = trivial(21, 200)
    late = "n = int(input())\nwhile n > 10: pass\nprint(2 * n)  # {}\n"
    problem = found["trivial"][0].problem.model_copy(update={"time_limit_s": 0.1, "id": "spin"})
    found["TLE"] = [Sample(problem, Program(late.format(i)), Verdict.TLE) for i in range(_SPINS)]
    return dict(found)


def measure(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the CPU seconds of a sample: those recorded, and those of all processes."""
    recorded: list[float] = []

    def work() -> None:
        with Judge(workers=1) as judge:
            futures = [judge.submit(sample.problem, sample.program) for sample in samples]
            recorded.extend(future.result().cpu_s for future in futures)

    def nothing() -> None:
        with Judge(workers=1):
            pass

    whole = cpu_s(work) - cpu_s(nothing)
    return sum(recorded) / len(samples), whole / len(samples)


def bytes_per_token(checkpoint: str) -> None:
    """Print the bytes on disk per token of code and of prose, in texts of about the length of a long answer."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    library, pages = Path(os.__file__).parent.glob("*.py"), (Path(__file__).parents[1] / "docs").glob("*.md")
    rng = random.Random(0)
    for name, paths in (("the standard library's sources", library), ("this project's pages", pages)):
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(paths))
        starts = [rng.randrange(len(text) - _TEXT) for _ in range(20)]
        pieces = [text[start : start + _TEXT] for start in starts]
        tokens = sum(len(tokenizer(piece)["input_ids"]) for piece in pieces)
        stored = sum(len(compress(piece)) for piece in pieces)
        print(
            f"{name}: {tokens / len(pieces):,.0f} tokens in {_TEXT:,} characters, {stored / tokens:.2f} bytes a token"
        )


def main() -> None:
    """Print the kinds, the fitted constants, and those in `ensemble.run.cost_estimate`."""
    print("| kind | programs | recorded | all | by alphamix.ensemble.run.cost_estimate |\n|---|---|---|---|---|")
    rows: list[tuple[float, float]] = []
    with one_core():
        for kind, samples in kinds().items():
            recorded, whole = measure(samples)
            told = JUDGE_FACTOR * recorded + JUDGE_OVERHEAD_S
            rows.append((recorded, whole))
            times = " | ".join(f"{1000 * seconds:.2f} ms" for seconds in (recorded, whole, told))
            print(f"| {kind} | {len(samples)} | {times} |")
    recorded_K, whole_K = np.array(rows).T
    design = np.column_stack([recorded_K, np.ones_like(recorded_K)]) / whole_K[:, None]
    (factor, overhead), _ = nnls(design, np.ones_like(whole_K))
    print(
        f"\nfitted: {factor:.2f} × recorded + {1000 * overhead:.2f} ms; cost_estimate: {JUDGE_FACTOR} and ",
        end="",
    )
    print(f"{1000 * JUDGE_OVERHEAD_S:.2f} ms")


if __name__ == "__main__":
    bytes_per_token(sys.argv[1]) if len(sys.argv) > 1 else main()
