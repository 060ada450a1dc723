"""What grading costs beside what is recorded of it: `python cost.py` fits the two constants of `ensemble.cost`.

The record has the CPU seconds of the program that decided a verdict. The judge also forks, feeds and compares, confirms
failures in a fresh process, and examines a share of the acceptances twice. Here the mixed workload is graded kind by
kind, with programs that spin into their limit besides; CPU seconds of all processes are held against those recorded,
and a line with no negative coefficient is fitted to the means of the kinds, weighted alike in relative terms.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from measure import cpu_s, one_core
from scipy.optimize import nnls
from workload import Sample, mixed, trivial

from ensemble.cost import JUDGE_FACTOR, JUDGE_OVERHEAD_S
from grading.judge import Judge
from grading.types import Program, Verdict

_SPINS = 20


def kinds() -> dict[str, list[Sample]]:
    """Samples by what comes of them."""
    found: defaultdict[str, list[Sample]] = defaultdict(list)
    for sample in mixed():
        found[sample.verdict.value].append(sample)
    found["trivial"] = trivial(21, 200)
    late = "n = int(input())\nwhile n > 10: pass\nprint(2 * n)  # {}\n"
    problem = found["trivial"][0].problem.model_copy(update={"time_limit_s": 0.1, "id": "spin"})
    found["TLE"] = [Sample(problem, Program(late.format(i)), Verdict.TLE) for i in range(_SPINS)]
    return dict(found)


def measure(samples: Sequence[Sample]) -> tuple[float, float]:
    """CPU seconds of a sample: those recorded, and those of all processes."""
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


def main() -> None:
    """Print the kinds, what the fit says, and what `ensemble.cost` has."""
    print("| kind | programs | recorded | all | by ensemble.cost |\n|---|---|---|---|---|")
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
    print(f"\nfitted: {factor:.2f} × recorded + {1000 * overhead:.2f} ms; ensemble.cost: {JUDGE_FACTOR} and ", end="")
    print(f"{1000 * JUDGE_OVERHEAD_S:.2f} ms")


if __name__ == "__main__":
    main()
