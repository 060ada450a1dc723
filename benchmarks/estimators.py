"""Estimators and intervals compared with common implementations: OpenAI's human-eval and scipy's bootstrap.

If the other side would take minutes, it does part of the same work, and its time is scaled up.
"""

from collections.abc import Callable, Iterable

import numpy as np
from measure import Row, alternate, cpu_s, median_ratio, milliseconds
from scipy.stats import bootstrap

from alphamix.ensemble.statistics.intervals import Resampling, means_over_problems
from alphamix.ensemble.statistics.pass_at_k import pass_at_ks

_PAIRS, _SAMPLES, _LARGEST_K = 100_000, 250, 250
_PART_OF_PAIRS = 500
_PROBLEMS = 1000
_ROWS, _PART_OF_ROWS = 100, 5


def rows() -> list[Row]:
    """Compare on random counts."""
    rng = np.random.default_rng(0)
    return [_all_k(rng), _intervals(rng)]


def _all_k(rng: np.random.Generator) -> Row:
    n = np.full(_PAIRS, _SAMPLES)
    c = rng.binomial(n, rng.beta(0.3, 1.0, _PAIRS))
    ks = range(1, _LARGEST_K + 1)

    def loop() -> None:
        for k in ks:
            estimate_pass_at_k(n[:_PART_OF_PAIRS], c[:_PART_OF_PAIRS], k)

    what = (
        f"pass@k for k = 1 … {_LARGEST_K}: {_PAIRS:,} pairs (n, c), against human-eval's loop (over {_PART_OF_PAIRS})"
    )
    return _scaled(what, "pair", _PAIRS, lambda: pass_at_ks(n, c, ks), loop, _PAIRS / _PART_OF_PAIRS, "≥ 300 ×")


def _intervals(rng: np.random.Generator) -> Row:
    values_RP = rng.beta(0.3, 1.0, (_ROWS, _PROBLEMS))
    resampling = Resampling(method="bca")

    def one_by_one() -> None:
        for values_P in values_RP[:_PART_OF_ROWS]:
            bootstrap(
                (values_P,), np.mean, n_resamples=resampling.resamples, method="BCa", rng=np.random.default_rng(0)
            )

    what = f"BCa intervals: {_ROWS} means over {_PROBLEMS:,} problems, against scipy (over {_PART_OF_ROWS} means)"
    times = _ROWS / _PART_OF_ROWS
    return _scaled(what, "mean", _ROWS, lambda: means_over_problems(values_RP, resampling), one_by_one, times, "")


def _scaled(
    what: str,
    unit: str,
    per: int,
    ours: Callable[[], object],
    part: Callable[[], object],
    times: float,
    target: str,
) -> Row:
    pairs = alternate(lambda: cpu_s(ours), lambda: times * cpu_s(part))
    return Row(what, *milliseconds(pairs, per, unit), f"{median_ratio(pairs):.1f} ×", target)


def estimate_pass_at_k(num_samples: Iterable[int], num_correct: Iterable[int], k: int) -> np.ndarray:
    """Return pass@k of every problem for one k, computed as in human-eval (Chen et al. 2021, fig. 3)."""

    def estimator(n: int, c: int, k: int) -> float:
        if n - c < k:
            return 1.0
        return 1.0 - float(np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))

    return np.array([estimator(int(n), int(c), k) for n, c in zip(num_samples, num_correct, strict=True)])
