"""A table of outcomes that can be asked for pass@k, coverage, pairs, the best mixture, and a report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from alphamix import _checks as checks
from alphamix.ensemble.analysis import complementarity
from alphamix.ensemble.analysis.ranking import rank_policies
from alphamix.ensemble.analysis.run_analysis import analyse
from alphamix.ensemble.budget import CURRENCIES, Budget, Currency
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.experiment.schema import AnalysisSection
from alphamix.ensemble.mixture.arms import Split
from alphamix.ensemble.mixture.compare_arms import Comparison, compare
from alphamix.ensemble.mixture.cross_fitting import CrossFitOptions, cross_fits
from alphamix.ensemble.outcomes import files
from alphamix.ensemble.outcomes.files import Missing
from alphamix.ensemble.outcomes.table import MAX_SAMPLES, Outcomes
from alphamix.ensemble.report.mixture_text import sentence
from alphamix.ensemble.report.write import write_report
from alphamix.ensemble.statistics import pass_at_k as estimators
from alphamix.ensemble.statistics.intervals import Estimate, Resampling, mean_over_problems, means_over_problems
from alphamix.ensemble.store import STORE_NAME


@dataclass(frozen=True)
class Mixture:
    """The allocation of a budget that is expected to cover most problems, and what it gains.

    The figures scored on data (`coverage`, `gain`) are cross-fitted: mixtures are chosen on some problems and scored on
    others. They are None where the samples do not allow that.

    Example:
        >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
        >>> mixture = outcomes.best_mixture(budget=8)
        >>> sum(mixture.allocation.values())
        8
        >>> mixture.expected <= mixture.upper_bound
        True
    """

    allocation: dict[str, int]
    """Samples per problem of each policy that gets any."""
    expected: float
    """Coverage of the allocation under the posterior: a model's figure, which choosing has maximised."""
    upper_bound: float
    """Proven bound: no allocation of the budget is expected to cover more under the posterior."""
    coverage: Estimate | None
    """Share of new problems that the rule covers, cross-fitted over problems."""
    gain: Estimate | None
    """Difference to the best single policy at the same budget, cross-fitted over problems."""
    best_single: str | None
    """Policy that covers most when it gets the whole budget."""
    advice: str
    """One sentence for a reader: whether the mixture is worth using."""


class OutcomesTable:
    """Graded and accepted samples of every policy on every problem.

    Make one with `read_outcomes` or `Run.outcomes`. Every interval is for new problems of the same kind.

    Example:
        >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
        >>> outcomes.policies[:2]
        ('init', 'low')
        >>> outcomes.frame.columns[:4].tolist()
        ['problem', 'policy', 'n', 'c']
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self._outcomes = outcomes

    def __repr__(self) -> str:
        return f"<OutcomesTable: {len(self.policies)} policies × {len(self.problems)} problems>"

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies, in the order of the table."""
        return self._outcomes.policies

    @property
    def problems(self) -> tuple[str, ...]:
        """Ids of the problems, in the order of the table."""
        return self._outcomes.problems

    @property
    def frame(self) -> pd.DataFrame:
        """One row per cell: `problem`, `policy`, `n`, `c`, and where known failure classes and costs."""
        return files.to_frame(self._outcomes)

    def pass_at_k(self, k: int | Sequence[int] = 1, *, level: float = 0.95) -> pd.DataFrame:
        """Estimate pass@k of every policy, without bias (Chen et al. 2021, eq. 1).

        Returns:
            One row per policy and k: `policy`, `k`, `value`, `stderr`, `low`, `high`.

        Raises:
            UndefinedError: a cell has fewer than k samples.
            OutcomesError: n depends on what was drawn, so that pass@k is undefined.

        Example:
            >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
            >>> outcomes.pass_at_k([1, 8]).columns.tolist()
            ['policy', 'k', 'value', 'stderr', 'low', 'high']
        """
        self._outcomes.check_fixed_size()
        ks = _sample_counts("k", k)
        n_MP, c_MP = self._outcomes.num_samples_MP, self._outcomes.num_correct_MP
        pass_MKP = estimators.pass_at_k(n_MP[:, None], c_MP[:, None], np.reshape(ks, (-1, 1)))
        estimates = means_over_problems(pass_MKP.reshape(-1, len(self.problems)), self._resampling(level), lowest=0)
        rows: list[dict[str, Any]] = []
        for (policy, size), estimate in zip(product(self.policies, ks), estimates, strict=True):
            figures = {"value": estimate.value, "stderr": estimate.stderr, **_bounds("", estimate.interval)}
            rows.append({"policy": policy, "k": size, **figures})
        return pd.DataFrame(rows)

    def rank(self, *, level: float = 0.95) -> pd.DataFrame:
        """Rank policies by their mean solve rate on these problems, the best first.

        Returns:
            One row per policy: `rank` (shared by policies that are tied), `policy`, `pass_at_1`, `mean` with `low` and
            `high` (posterior of the mean solve rate on these very problems), `chance_first` (to be the best on them),
            `is_candidate` (whether it belongs to the fewest policies of which one is the best with the chance `level`),
            and `difference` to the first with `difference_low` and `difference_high` (on new problems, paired).

        Raises:
            OutcomesError: n depends on what was drawn.

        Example:
            >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
            >>> outcomes.rank()[["rank", "policy"]].head(2).values.tolist()
            [[1, 'coverage@+1.25'], [2, 'high']]
        """
        ranking = rank_policies(self._outcomes, _resampling(level))
        rows: list[dict[str, Any]] = []
        for ranked in ranking.policies:
            belief = {"mean": ranked.mean, **_bounds("", ranked.interval), "chance_first": ranked.chance_first}
            difference = {"difference": ranked.difference.value, **_bounds("difference_", ranked.difference.interval)}
            place = {"rank": ranked.rank, "policy": ranked.policy, "pass_at_1": ranked.pass_at_1}
            rows.append({**place, **belief, "is_candidate": ranked.policy in ranking.best, **difference})
        return pd.DataFrame(rows)

    def coverage(self, allocation: Mapping[str, int], *, level: float = 0.95) -> Estimate:
        """Estimate the share of problems that an allocation solves: 1 − Π_j miss(n_j, c_j, k_j), without bias.

        Args:
            allocation: Samples per problem, by policy. It must not have been chosen by looking at these outcomes.
            level: Level of the interval.

        Raises:
            UndefinedError: a policy gets more samples than the table holds of it.
            OutcomesError: a policy is unknown, or n depends on what was drawn.

        Example:
            >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
            >>> round(outcomes.coverage({"low": 4, "high": 4}).value, 3)
            0.798
        """
        self._outcomes.check_fixed_size()
        counts = _allocation(allocation)
        self._outcomes.rows(list(counts))
        if not sum(counts.values()):
            raise EnsembleError("the allocation spends no sample: give some policy 1 or more")
        allocation_M = np.array([counts.get(policy, 0) for policy in self.policies], np.int64)
        covered_P = estimators.coverage(self._outcomes.num_samples_MP, self._outcomes.num_correct_MP, allocation_M)
        return mean_over_problems(covered_P, self._resampling(level), lowest=0)

    def _resampling(self, level: float) -> Resampling:
        return _resampling(level).with_groups(self._outcomes.groups)

    def pairs(self, k: int = 1, *, level: float = 0.95) -> pd.DataFrame:
        """Compare every ordered pair of policies at k samples each.

        Returns:
            One row per ordered pair: `first`, `second`, `gain` (what k samples of the second add to k of the first,
            beyond k more of the first) with `gain_low` and `gain_high`, and `co_failure` (share of problems that both
            leave unsolved).

        Raises:
            UndefinedError: a cell has fewer than 2k samples.

        Example:
            >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
            >>> sorted(outcomes.pairs(k=2).columns)
            ['co_failure', 'first', 'gain', 'gain_high', 'gain_low', 'second']
        """
        self._outcomes.check_fixed_size()
        rows: list[dict[str, Any]] = []
        for pair in complementarity.pairs(self._outcomes, _sample_count("k", k), self._resampling(level)):
            low, high = pair.gain.interval or (np.nan, np.nan)
            gain = {"gain": pair.gain.value, "gain_low": low, "gain_high": high}
            rows.append({"first": pair.first, "second": pair.second, **gain, "co_failure": pair.co_failure.value})
        return pd.DataFrame(rows)

    def best_mixture(
        self,
        budget: float,
        currency: Currency = "samples",
        *,
        min_policies: int = 1,
        is_pilot: bool = False,
        level: float = 0.95,
        seed: int = 0,
    ) -> Mixture:
        """Choose how many samples of each policy to draw per problem, and say what that gains.

        Args:
            budget: What may be spent on one problem.
            currency: `samples`, or `tokens` or `seconds` where the table has such a column.
            min_policies: Minimum number of policies in the mixture.
            is_pilot: Whether to choose beyond the samples that the table holds; nothing is then scored on data.
            level: Level of intervals.
            seed: Seed of the divisions and the intervals.

        Raises:
            BudgetError: no mixture meets the budget.
            OutcomesError: n depends on what was drawn, or the costs are unknown.

        Example:
            >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
            >>> mixture = outcomes.best_mixture(budget=8)
            >>> mixture.best_single
            'coverage@+0.50'
        """
        resampling = _resampling(level, seed)
        options = CrossFitOptions(cross_fits(resampling.seed), resampling)
        least = checks.whole_number("min_policies", min_policies, 1, thing="number of policies")
        spent = self._budget(budget, currency)
        comparison = compare(self._outcomes, spent, options, min_policies=least, is_pilot=is_pilot)
        return _mixture(self.policies, comparison)

    def report(
        self,
        folder: str | Path,
        budget: float,
        currency: Currency = "samples",
        *,
        alphas: Mapping[str, float] | None = None,
        level: float = 0.95,
    ) -> Path:
        """Write the report of a run for this table: `report.html`, figures, `summary.json`, claims and outcomes.

        Args:
            folder: Folder for the report, created if it is missing. The folder of a run is refused, since it has a
                report of its own.
            budget: What each arm may spend on one problem. Where the table holds too few samples for it, the mixture
                is chosen and judged by the posterior alone, as with `is_pilot`.
            currency: Currency of the budget.
            alphas: α of the policies that have one, for the figures along α.
            level: Level of intervals.

        Returns:
            The path of the page. Needs the extra `report`.

        Raises:
            BudgetError: no mixture meets the budget.
            AlphamixError: a value does not hold, or the folder cannot be written or is that of a run.

        Example:
            >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
            >>> page = outcomes.report("results/mine", budget=8, alphas={"low": 0.0, "high": 1.0})
            >>> page.name
            'report.html'
        """
        section = AnalysisSection(level=_resampling(level).level)
        spent = self._budget(budget, currency)
        splits = {"equal": Split.equal(sorted(self.policies), spent)}
        known = self._alphas({} if alphas is None else alphas)
        checks.module("alphamix.ensemble.report.page", "a report", "report")
        target = _report_folder(checks.path("folder", folder))
        analysis = analyse(self._outcomes, known, splits, spent, {}, section, ())
        try:
            return write_report(analysis, target, target.name, {})
        except OSError as error:
            raise checks.unwritable(target, error) from error

    def _budget(self, total: float, currency: Currency) -> Budget:
        checks.one_of("currency", currency, CURRENCIES)
        return self._outcomes.budget(checks.finite("budget", total), currency)

    def _alphas(self, alphas: Mapping[str, float]) -> dict[str, float | None]:
        """Return the α of each policy, None where it has none."""
        named = checks.mapping("alphas", alphas)
        self._outcomes.rows(list(named))
        known = {policy: checks.finite(f"alphas[{policy!r}]", alpha) for policy, alpha in named.items()}
        return {policy: known.get(policy) for policy in self.policies}


def read_outcomes(source: str | Path | pd.DataFrame, *, missing: Missing = "error") -> OutcomesTable:
    """Read a table of outcomes with the columns `problem`, `policy`, `n` (graded samples) and `c` (accepted ones).

    Args:
        source: CSV or Parquet file, or a pandas frame. More columns may say failure classes and, as means per sample,
            `tokens` and `seconds`.
        missing: What to do about cells without samples: refuse them (`error`), or leave out every problem
            (`drop-problems`) or policy (`drop-policies`) that has one.

    Raises:
        OutcomesError: this is not such a table, or cells are missing.

    Example:
        >>> outcomes = alphamix.read_outcomes("results/quickstart/outcomes.csv")
        >>> outcomes
        <OutcomesTable: 9 policies × 40 problems>
    """
    checks.one_of("missing", missing, get_args(Missing))
    if isinstance(source, pd.DataFrame):
        return OutcomesTable(files.outcomes_from_table(source, "the frame", missing))
    path = checks.path("source", source, "the path of a CSV or Parquet file, or a pandas frame")
    return OutcomesTable(files.read_outcomes(path, missing))


def _mixture(policies: Sequence[str], comparison: Comparison) -> Mixture:
    counts = zip(policies, comparison.choice.allocation_M.tolist(), strict=True)
    single = comparison.arms.get("best_single")
    coverage, gain = comparison.coverage.get("mixture"), comparison.gains.get("mixture")
    return Mixture(
        allocation={policy: count for policy, count in counts if count},
        expected=comparison.choice.certificate.objective,
        upper_bound=comparison.choice.certificate.upper_bound,
        coverage=coverage.honest.get("problems") if coverage else None,
        gain=gain.honest.get("problems") if gain else None,
        best_single=next(iter(single.allocation)) if single else None,
        advice=sentence(comparison, "problems"),
    )


def _sample_count(name: str, count: Any, least: int = 1) -> int:
    return checks.whole_number(name, count, least, MAX_SAMPLES, "number of samples")


def _sample_counts(name: str, given: Any) -> list[int]:
    """Return one number of samples or more, which were given as a number or as several."""
    value = given.tolist() if isinstance(given, np.ndarray) else given
    counts: list[Any] = list(value) if isinstance(value, Iterable) and not isinstance(value, str) else [value]
    if not counts:
        raise EnsembleError(f"{name} is {value}: give one whole number of samples or more")
    return [_sample_count(name, count) for count in counts]


def _allocation(given: Any) -> dict[str, int]:
    """Return the samples per problem of each policy, which were given as a mapping or a pandas series."""
    allocation = checks.mapping("allocation", given.to_dict() if isinstance(given, pd.Series) else given)
    return {policy: _sample_count(str(policy), count, least=0) for policy, count in allocation.items()}


def _report_folder(folder: Path) -> Path:
    if (checks.folder(folder) / STORE_NAME).exists():
        raise EnsembleError(f"{folder} is the folder of a run: give another folder")
    return folder


def _bounds(start: str, interval: tuple[float, float] | None) -> dict[str, float | None]:
    """Return the columns of an interval, named `low` and `high` after a given start."""
    low, high = interval or (None, None)
    return {f"{start}low": low, f"{start}high": high}


def _resampling(level: float, seed: int = 0) -> Resampling:
    level = checks.between("level", level, 0, 1, "0.95")
    return Resampling(level, seed=checks.whole_number("seed", seed, 0))
