"""How large a gain could be seen: the precision of a comparison before it is run.

The prior of `shared_difficulty`, fitted to a table, describes new problems of the same kind. So problems, their solve
rates and the samples of any size can be drawn from it, and the difference between the best mixture and the best single
policy, estimated without bias from those samples, has a standard deviation per problem. Its standard error falls with
the root of the number of problems; more samples of each policy lower only the part of it that is luck of the draws. A
gain is seen with a power of 80 % where it is 2.8 standard errors (Miller 2024, arXiv 2411.00640, section 5).

Both arms are fixed beforehand here. Where they are chosen on the same problems by cross-fitting, intervals are somewhat
wider. Axes: `M` policies, `R` drawn problems.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.mixture.gain_location import check_tells_of_gains, choose_for_new_problems
from alphamix.ensemble.mixture.single_thread_blas import one_thread
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, coverage
from alphamix.ensemble.statistics.shared_difficulty import SharedDifficulty, fit

_DRAWN_PROBLEMS = 20_000


@dataclass(frozen=True)
class ComparisonDesign:
    """A comparison that could be run, and what it could see."""

    problems: int
    samples: int
    """Samples of each policy per problem."""
    stderr: float
    """Standard error of the gain."""
    smallest_gain: float
    """Gain that is seen with the power asked for."""
    power: float
    """Chance that an interval for the expected gain lies above 0."""


@dataclass(frozen=True)
class PowerAnalysis:
    """What comparisons of the best mixture with the best single policy could see."""

    budget: int
    """Samples per problem that each arm spends."""
    expected_gain: float
    """Gain that is to be seen: the one given, or the one that the model expects."""
    power: float
    """Power that `smallest_gain` and `problems_needed` are for."""
    designs: tuple[ComparisonDesign, ...]
    problems_needed: dict[int, int | None]
    """By samples of each policy, the number of problems at which the expected gain is seen; None where it is 0."""


@one_thread()
def analyse_power(
    outcomes: Outcomes,
    budget: int,
    problems: Sequence[int],
    samples: Sequence[int],
    gain: float | None = None,
    power: float = 0.8,
    level: float = 0.95,
    seed: int = 0,
) -> PowerAnalysis:
    """Say what comparisons with these numbers of problems, and of samples of each policy, could see.

    Args:
        outcomes: a table of the same kind of problems and policies.
        budget: samples per problem that each arm spends.
        problems: numbers of problems.
        samples: numbers of samples of each policy per problem, each at least the budget.
        gain: the gain to be seen, in coverage; None for the one that the model expects.
        power: chance with which it is to be seen.
        level: level of the intervals.
        seed: of the problems that are drawn.

    Raises:
        OutcomesError: the table says nothing about gains (`check_tells_of_gains`).
        UndefinedError: a number of samples is below the budget, so that the single policy cannot be scored.
    """
    check_tells_of_gains(outcomes)
    if min(samples) < budget:
        raise UndefinedError(
            f"{min(samples)} samples of each policy cannot score a single policy at a budget of {budget}: give "
            f"{budget} samples or more, or lower the budget"
        )
    table = outcomes.canonical()
    prior = fit(table.num_samples_MP, table.num_correct_MP)
    choice = choose_for_new_problems(prior, budget)
    spreads = {
        n: float(_differences_R(prior, choice.allocation_M, choice.single_M, n, seed).std(ddof=1)) for n in samples
    }
    return _analysis(budget, choice.gain if gain is None else gain, spreads, problems, power, level)


def power_of_guess(
    discordant: float, budget: int, problems: Sequence[int], gain: float, power: float = 0.8, level: float = 0.95
) -> PowerAnalysis:
    """Say what comparisons could see where there is no table yet, with as many samples of each policy as the budget.

    If each arm solves a problem or does not, differences are -1, 0 or 1, and their variance is discordant - gain². The
    mixture's coverage is averaged over choices among the samples, which makes the true variance smaller: real
    comparisons see somewhat more.

    Args:
        discordant: share of problems that exactly one of the two arms solves, at least the gain.
        budget: samples per problem that each arm spends.
        problems: numbers of problems.
        gain: the gain to be seen, in coverage.
        power: chance with which it is to be seen.
        level: level of the intervals.

    Raises:
        OutcomesError: the gain exceeds the share of discordant problems.
    """
    if gain > discordant:
        raise OutcomesError(
            f"a gain of {100 * gain:g} points needs at least as many discordant problems, not {100 * discordant:g} %: "
            "raise the share, or lower the gain"
        )
    return _analysis(budget, gain, {budget: float(np.sqrt(discordant - gain**2))}, problems, power, level)


def _analysis(
    budget: int, gain: float, spreads: dict[int, float], problems: Sequence[int], power: float, level: float
) -> PowerAnalysis:
    """Analyse designs, given the standard deviation of differences over problems by samples of each policy."""
    above, reach = float(ndtri((1 + level) / 2)), float(ndtri((1 + level) / 2) + ndtri(power))
    designs: list[ComparisonDesign] = []
    for num_samples, spread in spreads.items():
        for num_problems in problems:
            stderr = spread / np.sqrt(num_problems)
            seen = float(ndtr(gain / stderr - above)) if stderr > 0 else float(gain > 0)
            designs.append(ComparisonDesign(num_problems, num_samples, stderr, reach * stderr, seen))
    needed = {n: int(np.ceil((reach * spread / gain) ** 2)) if gain > 0 else None for n, spread in spreads.items()}
    return PowerAnalysis(budget, gain, power, tuple(designs), needed)


def _differences_R(prior: SharedDifficulty, mixture_M: Ints, single_M: Ints, num_samples: int, seed: int) -> Floats:
    """Return estimated differences of coverage on problems that are drawn from the prior, `[R]`."""
    rng = np.random.default_rng(seed)
    node_R = rng.choice(len(prior.weight_G), _DRAWN_PROBLEMS, p=prior.weight_G)
    rate_MR = rng.beta(prior.a_MG[:, node_R], prior.b_MG[:, node_R])
    drawn_MR = np.full(rate_MR.shape, num_samples)
    correct_MR = rng.binomial(drawn_MR, rate_MR)
    return coverage(drawn_MR, correct_MR, mixture_M) - coverage(drawn_MR, correct_MR, single_M)
