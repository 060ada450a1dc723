"""pass@k over many cells at once against the loop of the usual harness: one product per cell and k."""

import numpy as np
from measure import Row, compare

from ensemble.pass_at_k import pass_at_k

_CELLS, _SAMPLES = 2000, 250
_KS = (1, 10, 50, 100, 250)


def rows() -> list[Row]:
    """Compare on random counts."""
    rng = np.random.default_rng(0)
    n = np.full(_CELLS, _SAMPLES)
    c = rng.binomial(n, rng.beta(0.3, 1.0, _CELLS))

    def ours() -> None:
        for k in _KS:
            pass_at_k(n, c, k)

    def loop() -> None:
        for k in _KS:
            np.array([_one(int(n_i), int(c_i), k) for n_i, c_i in zip(n, c, strict=True)])

    what = f"pass@k: {_CELLS:,} cells of {_SAMPLES} samples, {len(_KS)} values of k, against a loop over cells"
    return [compare(what, "cell", _CELLS, ours, loop)]


def _one(n: int, c: int, k: int) -> float:
    """Chen et al. 2021, fig. 3, in its numerically stable form."""
    return 1.0 if n - c < k else float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))
