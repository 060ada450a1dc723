"""Cross-fitting: the value of a rule's choices on data that did not make them, with its uncertainty.

The data are divided in two ways. By *problems*: does a choice made on some problems transfer to others? By *samples*:
is the value of a choice real on this benchmark, or luck of the draws? Every rule gets the same divisions and the same
resampled problems, so that differences between rules are paired. Axes: `M` policies, `P` problems, `C` allocations
chosen in any fold, `F` folds, `R` bootstrap resamples of the problems.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, get_args

import numpy as np

from alphamix.ensemble.arrays import Floats, Ints
from alphamix.ensemble.budget import BudgetError
from alphamix.ensemble.outcomes.table import MAX_SAMPLES, Outcomes
from alphamix.ensemble.statistics.intervals import Resampling, draw_weights
from alphamix.ensemble.statistics.pass_at_k import UndefinedError, miss_of_each
from alphamix.ensemble.statistics.posterior import Posterior
from alphamix.ensemble.statistics.shared_difficulty import SharedDifficulty, fit

Division = Literal["problems", "samples"]
DIVISIONS: tuple[Division, ...] = get_args(Division)

# Folds are few and repeats are many. Among equally good policies, nearly all of ten folds choose the same lucky one, so
# the honest estimate varies twice as much between tables as with three folds (simulated in docs/statistics.md).
DEFAULT_FOLDS: dict[Division, int] = {"problems": 3, "samples": 2}
DEFAULT_REPEATS = 10
_RESAMPLED_PRIORS = 20
_DECIMALS = 12
"""Decimals to which merits are rounded, so that floating-point noise does not break ties."""


@dataclass(frozen=True)
class Evidence:
    """Outcomes that a choice may look at, and the beliefs that follow from them."""

    outcomes: Outcomes
    known_prior: SharedDifficulty | None = None
    """A prior that was already fitted to these outcomes; None for one that is fitted when it is needed."""

    @cached_property
    def prior(self) -> SharedDifficulty:
        """The prior that fits the outcomes."""
        return self.known_prior or fit(self.outcomes.num_samples_MP, self.outcomes.num_correct_MP)

    @cached_property
    def posterior(self) -> Posterior:
        """Beliefs about the solve rates of these problems."""
        return Posterior.of(self.outcomes.num_samples_MP, self.outcomes.num_correct_MP, self.prior)

    def resampled_priors(self, resampling: Resampling) -> Iterator[SharedDifficulty]:
        """Yield priors that fit resampled problems. There are enough for the spread of a normal interval."""
        for weight_P in draw_weights(len(self.outcomes.problems), resampling)[:_RESAMPLED_PRIORS]:
            times_P = np.rint(weight_P / weight_P[weight_P > 0].min()).astype(np.int64)
            picked = np.repeat(np.arange(len(times_P)), times_P)
            yield fit(self.outcomes.num_samples_MP[:, picked], self.outcomes.num_correct_MP[:, picked])


class AllocationRule(Protocol):
    """A way to spend a budget that chooses by outcomes alone."""

    def choose(self, evidence: Evidence, limit_M: Ints) -> Ints:
        """Choose an allocation by this evidence, with at most `limit_M` samples of each policy, `[M]`.

        Raises:
            UndefinedError: the choice could not be scored within the limits.
        """
        ...

    def merit(self, evidence: Evidence, allocations_CM: Ints) -> Floats:
        """Return the merit of each allocation on each problem, `[C, P]`; the rule maximises its sum over problems."""
        ...


@dataclass(frozen=True)
class CrossFit:
    """How the data are divided: into folds, each scored with the choice made on the others, several times over."""

    by: Division
    folds: int
    repeats: int
    seed: int


@dataclass(frozen=True)
class CrossFitOptions:
    """How honest estimates are made."""

    crossfits: Mapping[Division, CrossFit]
    """How the data are divided, by what they are divided into."""
    resampling: Resampling
    """How problems are resampled, for the intervals."""


def cross_fits(
    seed: int, repeats: int = DEFAULT_REPEATS, folds: Mapping[Division, int] = DEFAULT_FOLDS
) -> dict[Division, CrossFit]:
    """Return a cross-fit for each division in `folds`, which gives its number of folds."""
    return {by: CrossFit(by, num_folds, repeats, seed) for by, num_folds in folds.items()}


@dataclass(frozen=True)
class CrossFitted:
    """Coverage under choices made without the data that score them."""

    covered_P: Floats
    """`[P]` coverage of each problem, as the mean over divisions."""
    resampled_R: Floats
    """`[R]` mean coverage over resampled problems, with the choice repeated on each resample."""
    chosen_FM: Ints | None
    """`[F, M]` allocation chosen in each fold; None for adaptive arms, which have no one allocation."""


class _Fold(NamedTuple):
    chosen_on: Outcomes
    chosen_where: Ints
    """Indices of the problems that the choice is made on."""
    scored_on: Outcomes
    scored_where: Ints


def cross_fit(
    outcomes: Outcomes, rules: Mapping[str, AllocationRule], crossfit: CrossFit, resampling: Resampling
) -> tuple[dict[str, CrossFitted], dict[str, str]]:
    """Score the choices of several rules on the data that did not make them.

    The spread of `covered_P` over problems gives no standard error. Folds share the data that they choose on, so a
    close choice makes all problems err together (in simulations of identical policies, intervals made from that spread
    held 75 to 90 % instead of 95). `resampled_R` therefore repeats the choice as well, among the allocations chosen in
    any fold, so that no new search is needed.

    Returns:
        The scores by rule, and why there is none by rule: some fold holds fewer samples than the rule must spend, or
        there is nothing to divide.

    Raises:
        OutcomesError: n depends on what was drawn.
    """
    outcomes.check_fixed_size()
    chosen: dict[str, list[Ints]] = {name: [] for name in rules}
    undefined: dict[str, str] = {}
    priors: list[SharedDifficulty] = []
    # Every choice must be scored on all folds, since resamples choose among those of any fold.
    parts = crossfit.folds if crossfit.by == "samples" else 1
    limit_M = outcomes.num_samples_MP.min(axis=1) // parts
    try:
        for fold in _folds(outcomes, crossfit):
            evidence = Evidence(fold.chosen_on)
            for name in rules.keys() - undefined.keys():
                try:
                    chosen[name].append(rules[name].choose(evidence, limit_M))
                except (UndefinedError, BudgetError) as error:
                    undefined[name] = str(error)
            if len(undefined) == len(rules):
                return {}, undefined
            priors.append(evidence.prior)
    except UndefinedError as error:
        return {}, dict.fromkeys(rules, str(error))
    scores = {
        name: _Scores(rule, np.array(chosen[name]), outcomes, resampling)
        for name, rule in rules.items()
        if name not in undefined
    }
    # The same folds again, since all of them at once would not fit into memory where tables are large.
    for number, (fold, prior) in enumerate(zip(_folds(outcomes, crossfit), priors, strict=True)):
        evidence = Evidence(fold.chosen_on, prior)
        for score in scores.values():
            score.add(number, fold, evidence)
    # Each repeat scores a problem once when problems are divided, and once per fold when samples are.
    times = crossfit.repeats * (1 if crossfit.by == "problems" else crossfit.folds)
    return {name: score.averaged(times) for name, score in scores.items()}, undefined


class _Scores:
    """Sums over folds of what the choices of one rule cover."""

    def __init__(self, rule: AllocationRule, chosen_FM: Ints, outcomes: Outcomes, resampling: Resampling) -> None:
        self._rule = rule
        self._chosen_FM = chosen_FM
        # A rule always breaks ties in favour of the policy named first, and resamples must do the same: `argmax` takes
        # the first of equal merits, so allocations are sorted with those that give most to the first policies in front.
        negated_CM, candidate_F = np.unique(-chosen_FM, axis=0, return_inverse=True)
        self._candidates_CM, self._candidate_F = -negated_CM, candidate_F.ravel()
        self._weight_RP = draw_weights(len(outcomes.problems), resampling)
        self._covered_P = np.zeros(len(outcomes.problems))
        self._resampled_R = np.zeros(len(self._weight_RP))

    def add(self, number: int, fold: "_Fold", evidence: Evidence) -> None:
        """Add a fold, scored with the choice made on the others, and with the choices made on resamples of them."""
        scored_CP = coverage_of_each(fold.scored_on, self._candidates_CM)
        self._covered_P[fold.scored_where] += scored_CP[self._candidate_F[number]]
        if len(self._candidates_CM) == 1:
            self._resampled_R += self._weight_RP @ self._everywhere(scored_CP[0], fold.scored_where)
            return
        merit_CP = self._rule.merit(evidence, self._candidates_CM)
        covered_CR, merit_CR = (
            self._everywhere(values_CP, where) @ self._weight_RP.T
            for values_CP, where in ((scored_CP, fold.scored_where), (merit_CP, fold.chosen_where))
        )
        choice_R = np.round(merit_CR, _DECIMALS).argmax(axis=0)
        self._resampled_R += np.take_along_axis(covered_CR, choice_R[None], axis=0)[0]

    def _everywhere(self, values: Floats, where_P: Ints) -> Floats:
        """Return values of some problems with 0 for all others; to copy the weights of some would take longer."""
        all_P = np.zeros((*values.shape[:-1], len(self._covered_P)))
        all_P[..., where_P] = values
        return all_P

    def averaged(self, times: int) -> CrossFitted:
        """Return means over repeats."""
        return CrossFitted(self._covered_P / times, self._resampled_R / times, self._chosen_FM)


def coverage_of_each(outcomes: Outcomes, allocations_CM: Ints) -> Floats:
    """Return the unbiased coverage of each problem under each allocation, `[C, P]`, to absolute rounding noise."""
    miss_CP = np.ones((len(allocations_CM), len(outcomes.problems)))
    for n_P, c_P, k_C in zip(outcomes.num_samples_MP, outcomes.num_correct_MP, allocations_CM.T, strict=True):
        if not k_C.any():
            continue
        # Counts repeat from problem to problem, and numbers of samples from allocation to allocation.
        _, first_U, unique_P = np.unique(n_P * (MAX_SAMPLES + 1) + c_P, return_index=True, return_inverse=True)
        k_K, unique_C = np.unique(k_C, return_inverse=True)
        miss_CP *= miss_of_each(n_P[first_U], c_P[first_U], k_K)[unique_C][:, unique_P]
    return 1 - miss_CP


def _folds(outcomes: Outcomes, crossfit: CrossFit) -> Iterator[_Fold]:
    return (_by_problems if crossfit.by == "problems" else _by_samples)(outcomes, crossfit)


def _by_problems(outcomes: Outcomes, crossfit: CrossFit) -> Iterator[_Fold]:
    for chosen, scored in problem_folds(outcomes, crossfit):
        yield _Fold(outcomes.select(problems=chosen), chosen, outcomes.select(problems=scored), scored)


def problem_folds(outcomes: Outcomes, crossfit: CrossFit) -> Iterator[tuple[Ints, Ints]]:
    """Yield the problems that a choice is made on, and those that it is scored on; groups are never divided.

    Raises:
        UndefinedError: there is a single problem, or a single group.
    """
    group_P = outcomes.group_P
    num_groups = int(group_P.max()) + 1
    folds = min(crossfit.folds, num_groups)
    if folds < 2:
        what = "problems" if outcomes.groups is None else "groups of problems"
        raise UndefinedError(f"cross-fitting by problems needs at least 2 {what}: add {what}")
    rng = np.random.default_rng(crossfit.seed)
    for _ in range(crossfit.repeats):
        fold_P = (rng.permutation(num_groups) % folds)[group_P]
        for fold in range(folds):
            yield np.flatnonzero(fold_P != fold), np.flatnonzero(fold_P == fold)


def _by_samples(outcomes: Outcomes, crossfit: CrossFit) -> Iterator[_Fold]:
    rng = np.random.default_rng(crossfit.seed)
    everywhere = np.arange(len(outcomes.problems))
    for _ in range(crossfit.repeats):
        for n_MP, c_MP in _parts(outcomes, crossfit.folds, rng):
            others = _counts(outcomes, outcomes.num_samples_MP - n_MP, outcomes.num_correct_MP - c_MP)
            yield _Fold(others, everywhere, _counts(outcomes, n_MP, c_MP), everywhere)


def _parts(outcomes: Outcomes, folds: int, rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
    """Divide the samples of each cell at random into equal parts, and yield n and c of each part.

    Samples of a cell are exchangeable, so it is enough to draw how many of a part's n samples are accepted.
    """
    n_MP, c_MP = outcomes.num_samples_MP.copy(), outcomes.num_correct_MP.copy()
    if n_MP.min() < folds:
        raise UndefinedError(
            f"cross-fitting by samples in {folds} folds needs {folds} samples everywhere, but one cell has "
            f"{int(n_MP.min())}: draw more, or divide by problems"
        )
    for left in range(folds, 0, -1):
        part_n_MP = n_MP // left
        part_c_MP = rng.hypergeometric(c_MP, n_MP - c_MP, part_n_MP)
        yield part_n_MP, part_c_MP
        n_MP, c_MP = n_MP - part_n_MP, c_MP - part_c_MP


def _counts(outcomes: Outcomes, n_MP: Ints, c_MP: Ints) -> Outcomes:
    return replace(outcomes, num_samples_MP=n_MP, num_correct_MP=c_MP, num_failures_MP={})
