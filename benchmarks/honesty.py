"""How often honest intervals are wrong, for five identical policies, among which no split gains over another.

Prints the tables in `docs/statistics.md`: `python benchmarks/honesty.py` (about three minutes). In the first, each row
is one way to cross-fit the gain of an equal split over the best single policy, on the same simulated tables; in the
second, one kind of policies, for the gain of the best mixture.
"""

from collections.abc import Callable

import numpy as np

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.budget import Budget
from alphamix.ensemble.mixture.arms import BestMixture, BestSingle, Split, arm
from alphamix.ensemble.mixture.compare_arms import ArmEstimates, gain_over
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, Division, cross_fits
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.statistics.intervals import Resampling

_TABLES, _POLICIES, _PROBLEMS, _SAMPLES, _BUDGET = 200, 5, 60, 50, 10
_RESAMPLING = Resampling(resamples=400)
Rates = Callable[[np.random.Generator], Floats]


def main() -> None:
    """Print the table."""
    print(f"{_TABLES} tables of {_PROBLEMS} problems, {_SAMPLES} samples each, budget {_BUDGET}, rates Beta(0.2, 1):\n")
    print("| gain | intervals at 95 % that miss 0 | spread from table to table, points |")
    print("|---|---|---|")
    tables = [_table(_identical, seed) for seed in range(_TABLES)]
    naive = [_gain(table, "problems", 2, 1).naive for table in tables]
    print(f"| naive | {_missed([one.sign for one in naive])} | {_spread([one.value for one in naive])} |")
    ways: list[tuple[Division, int]] = [("problems", 2), ("problems", 3), ("problems", 5), ("problems", 10)]
    for by, folds in [*ways, ("samples", 2)]:
        honest = [_gain(table, by, folds, 10).honest[by] for table in tables]
        figures = f"{_missed([one.sign for one in honest])} | {_spread([one.value for one in honest])}"
        print(f"| by {by}, {folds} folds, 10 times | {figures} |")
    print("\n| best mixture of policies that are | gain by problems, points | intervals above it | below it |")
    print("|---|---|---|---|")
    for rates in (_identical, _poorer, _apart):
        print(f"| {_row(rates)} |")


def _row(rates: Rates) -> str:
    """Return one row. The mean honest gain over tables stands for the truth, which depends on what is chosen."""
    tables = [_table(rates, seed) for seed in range(_TABLES)]
    honest = [_gain(table, "problems", 3, 10, best=True).honest["problems"] for table in tables]
    bounds = np.array([one.interval for one in honest])
    truth = np.mean([one.value for one in honest])
    above, below = 100 * np.mean(bounds > truth + 1e-12, axis=0)[0], 100 * np.mean(bounds < truth - 1e-12, axis=0)[1]
    return f"{rates.__doc__} | {100 * truth:+.2f} | {above:.1f} % | {below:.1f} %"


def _identical(rng: np.random.Generator) -> Floats:
    """identical"""
    return np.tile(rng.beta(0.2, 1.0, _PROBLEMS), (_POLICIES, 1))


def _poorer(rng: np.random.Generator) -> Floats:
    """alike, one the best by 5 to 10 %"""
    return rng.beta(0.3, 1.0, _PROBLEMS) * np.array([[1.0], [0.95], [0.95], [0.9], [0.9]])


def _apart(rng: np.random.Generator) -> Floats:
    """three of one kind and two of another, which solves other problems as well"""
    return rng.beta(0.2, 1.0, (2, _PROBLEMS))[[0, 0, 0, 1, 1]]


def _table(rates: Rates, seed: int) -> Outcomes:
    rng = np.random.default_rng(seed)
    num_correct_MP = rng.binomial(_SAMPLES, rates(rng))
    names = tuple(f"p{p}" for p in range(_PROBLEMS)), tuple(f"m{m}" for m in range(_POLICIES))
    return Outcomes(*names, np.full(num_correct_MP.shape, _SAMPLES), num_correct_MP, {}, {})


def _gain(outcomes: Outcomes, by: Division, folds: int, repeats: int, *, best: bool = False) -> ArmEstimates:
    budget = Budget.of_samples(_BUDGET, _POLICIES)
    options = CrossFitOptions(cross_fits(0, repeats, {by: folds}), _RESAMPLING)
    rules = BestSingle(budget), BestMixture(budget) if best else Split.equal(outcomes.policies, budget)
    single, ours = (arm(outcomes, rule, options) for rule in rules)
    return gain_over(single, ours, _RESAMPLING)


def _missed(signs: list[int]) -> str:
    return f"{100 * np.mean(np.array(signs) != 0):.1f} %"


def _spread(values: list[float]) -> str:
    return f"{100 * np.std(values):.2f}"


if __name__ == "__main__":
    main()
