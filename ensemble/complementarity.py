"""Do policies solve different problems? What a second policy adds that more of the first would not.

Pure functions on outcomes; axes `M` policies, `P` problems.
"""

import numpy as np

from ensemble.outcomes import Outcomes
from ensemble.pass_at_k import Floats, miss


def pairwise_gain(outcomes: Outcomes, budget: int) -> Floats:
    """Gain of splitting a budget over two policies, against spending all of it on the first.

    With k = budget // 2 samples each, entry [i, j] is the mean over problems of

        miss_i(2k) - miss_i(k) · miss_j(k),

    the problems that k samples of j save after k of i failed, beyond those that k more of i would save. Unbiased for
    i ≠ j. The diagonal is 0: more of the same adds nothing beyond itself.

    Returns:
        `[M, M]`, row i the policy that comes first.

    Raises:
        UndefinedError: some cell has fewer than 2·(budget // 2) samples.
    """
    n_MP, c_MP = outcomes.num_samples_MP, outcomes.num_correct_MP
    half_MP, whole_MP = miss(n_MP, c_MP, budget // 2), miss(n_MP, c_MP, 2 * (budget // 2))
    gain_MM = whole_MP.mean(axis=1)[:, None] - half_MP @ half_MP.T / len(outcomes.problems)
    np.fill_diagonal(gain_MM, 0.0)
    return gain_MM


def only_solver(outcomes: Outcomes) -> dict[str, list[str]]:
    """Problems that exactly one policy solved at all, by policy."""
    solved_MP = outcomes.num_correct_MP > 0
    alone_P = solved_MP.sum(axis=0) == 1
    return {
        policy: [outcomes.problems[p] for p in np.flatnonzero(solved_P & alone_P)]
        for policy, solved_P in zip(outcomes.policies, solved_MP, strict=True)
    }
