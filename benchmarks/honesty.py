"""How often honest intervals are wrong: five identical policies, where no split gains anything over another.

Prints the table in `docs/statistics.md`: `python benchmarks/honesty.py` (about a minute). Each row is one way to
cross-fit the gain of an equal split over the best single policy, on the same simulated tables.
"""

import numpy as np

from ensemble.intervals import Resampling
from ensemble.mixture.arms import BestSingle, Split, arm
from ensemble.mixture.comparison import Figures, Honesty, gain_over
from ensemble.mixture.crossfit import CrossFit, Division
from ensemble.mixture.search import Budget
from ensemble.outcomes import Outcomes

_TABLES, _POLICIES, _PROBLEMS, _SAMPLES, _BUDGET = 200, 5, 60, 50, 10
_RESAMPLING = Resampling(resamples=400)


def main() -> None:
    """Print the table."""
    print(f"{_TABLES} tables of {_PROBLEMS} problems, {_SAMPLES} samples each, budget {_BUDGET}, rates Beta(0.2, 1):\n")
    print("| gain | intervals at 95 % that miss 0 | spread from table to table, points |")
    print("|---|---|---|")
    tables = [_table(seed) for seed in range(_TABLES)]
    naive = [_gain(table, "problems", 2, 1).naive for table in tables]
    print(f"| naive | {_missed([one.sign for one in naive])} | {_spread([one.value for one in naive])} |")
    ways: list[tuple[Division, int]] = [("problems", 2), ("problems", 3), ("problems", 5), ("problems", 10)]
    for by, folds in [*ways, ("samples", 2)]:
        honest = [_gain(table, by, folds, 10).honest[by] for table in tables]
        figures = f"{_missed([one.sign for one in honest])} | {_spread([one.value for one in honest])}"
        print(f"| by {by}, {folds} folds, 10 times | {figures} |")


def _table(seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    shape = (_POLICIES, _PROBLEMS)
    num_correct_MP = rng.binomial(_SAMPLES, rng.beta(0.2, 1.0, _PROBLEMS), size=shape)
    names = tuple(f"p{p}" for p in range(_PROBLEMS)), tuple(f"m{m}" for m in range(_POLICIES))
    return Outcomes(*names, np.full(shape, _SAMPLES), num_correct_MP, {}, {})


def _gain(outcomes: Outcomes, by: Division, folds: int, repeats: int) -> Figures:
    budget = Budget.of_samples(_BUDGET, _POLICIES)
    crossfits: dict[Division, CrossFit] = {by: CrossFit(by, folds, repeats, seed=0)}
    rules = BestSingle(budget), Split.equal(outcomes.policies, budget)
    single, equal = (arm(outcomes, rule, crossfits, _RESAMPLING) for rule in rules)
    return gain_over(single, equal, Honesty(crossfits, _RESAMPLING))


def _missed(signs: list[int]) -> str:
    return f"{100 * np.mean(np.array(signs) != 0):.1f} %"


def _spread(values: list[float]) -> str:
    return f"{100 * np.std(values):.2f}"


if __name__ == "__main__":
    main()
