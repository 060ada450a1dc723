"""An estimate of what a run needs, from a run that was measured: engine hours, disk, grading CPU hours, wall hours.

`Rates` are what a policy's samples took in a run; `estimate_run` multiplies them by a plan. With S samples:

- tokens = S · mean completion tokens of a sample, or S · a given number.
- engine hours = tokens / tokens per second of one engine / 3600. The throughput is given, or measured: tokens over the
  time in which at least one request was under way, by the number of engines. It counts completion tokens only, but
  includes the time to read prompts, so it holds while prompts and answers keep their proportion.
- disk = an empty record + S · (bytes of a row + compressed bytes of a text). Where tokens are given, texts grow in
  proportion to them, unless the bytes of a token are given, too. Long texts compress better than short ones, so for
  longer answers this is an upper bound.
- grading CPU hours = S · (`JUDGE_FACTOR` · CPU seconds of the program as recorded + `JUDGE_OVERHEAD_S`). All programs
  are assumed to differ; a program that occurs again at a problem is not run again.
- wall hours = the longer of sampling (engine hours / engines) and grading (CPU hours / workers), which overlap.

Ranges are prediction intervals for the mean over new problems and policies, of the same kind as those measured: with
means per problem of standard deviation s over P measured problems, the mean over Q new ones lies within
t · s · √(1/P + 1/Q), Student's t with P − 1 degrees of freedom (Geisser, Predictive Inference, 1993, section 2.2), and
likewise over policies where the plan's are not those measured. Nothing is sampled, graded or written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from math import inf, isfinite, nan, sqrt

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from alphamix.ensemble.arrays import Floats
from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.store import Store

JUDGE_FACTOR = 2.1
"""CPU seconds of grading per recorded second of a program: every test is sent, measured and compared."""
JUDGE_OVERHEAD_S = 0.0014
"""CPU seconds of grading beside the program itself. `benchmarks/cost.py` fits both."""

_LEVEL = 0.95
_SLICES = 10
"""Number of slices of a run's time whose throughputs are compared."""
_EMPTY_RECORD_BYTES = 21 * 4096


class CostError(EnsembleError):
    """A run lacks what an estimate needs: the message says what, then what to do."""


@dataclass(frozen=True, slots=True)
class Range:
    """An estimate with its 95 % prediction interval."""

    low: float
    mean: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        """Add quantities that vary together: low to low, high to high."""
        return Range(self.low + other.low, self.mean + other.mean, self.high + other.high)

    def times(self, factor: float, more: float = 0.0) -> "Range":
        """Multiply by a factor ≥ 0, then add a number."""
        return Range(*(factor * value + more for value in (self.low, self.mean, self.high)))

    def divided_by(self, other: "Range") -> "Range":
        """Divide; the range is the widest that the quotient can have."""
        return Range(_ratio(self.low, other.high), _ratio(self.mean, other.mean), _ratio(self.high, other.low))


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over problems and policies (or slices of time), with its variation."""

    mean: float
    deviation: float
    """Standard deviation of the means of problems."""
    count: int
    """Number of problems that it was measured on."""
    policy_deviation: float = 0.0
    num_policies: int = 1

    def predict(self, problems: int, policies: int | None = None) -> Range:
        """Predict the mean over a number of new problems, and of new policies unless they are those measured.

        Raises:
            CostError: only one problem was measured, which has no spread.
        """
        if self.count < 2:
            raise CostError("one problem shows no spread: measure on a run of two problems or more")
        half = _half_width(self.deviation, self.count, problems)
        if policies is not None and self.num_policies > 1:
            half = sqrt(half**2 + _half_width(self.policy_deviation, self.num_policies, policies) ** 2)
        return Range(max(0.0, self.mean - half), self.mean, self.mean + half)


@dataclass(frozen=True, slots=True)
class Rates:
    """Mean cost of one sample in a run.

    A mean is NaN where it is unknown: imported samples may lack their tokens, or no sample may have been graded yet.
    """

    samples: int
    prompt_tokens: Spread
    completion_tokens: Spread
    engine_s: Spread
    """Seconds from a request to its answer; a request for several samples counts for each."""
    text_bytes: Spread
    """Size of the compressed text."""
    grading_cpu_s: Spread
    """CPU seconds of the program, as recorded, without the judge's own."""
    row_bytes: float
    """Size of a slot, a sample and a verdict beside the text."""
    samples_per_s: float
    tokens_per_s: Spread
    """Completion tokens in each second in which the policy was sampled; the spread is over slices of the run."""


@dataclass(frozen=True, slots=True)
class Resources:
    """Resources of a plan, where they differ from those of the measured run."""

    tokens: float | None = None
    """Completion tokens of a sample; None for those of the measured run."""
    bytes_per_token: float | None = None
    """Compressed size of the text of a token; None for that of the measured run."""
    tokens_per_s: float | None = None
    """Completion tokens per second of one engine or GPU; None for that of the measured run."""
    measured_engines: int = 1
    """Number of engines, or GPUs, of the measured run."""
    engines: int = 1
    workers: int = 1
    """Cores that grade."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a plan needs; None where it cannot be estimated."""

    samples: int
    prompt_tokens: Range | None
    completion_tokens: Range | None
    disk_bytes: Range | None
    engine_hours: Range | None
    grading_cpu_hours: Range | None
    wall_hours: Range | None


def rates_of(store: Store) -> dict[str, Rates]:
    """Measure what the samples of each policy of a run took. A policy without samples is left out.

    Raises:
        CostError: the run has no samples.
    """
    cells_of_policy, row_bytes = _cells(store)
    return {policy: _rates([cells], store.times(policy), row_bytes) for policy, cells in cells_of_policy.items()}


def pooled(store: Store) -> Rates:
    """Measure the samples of all policies of a run together, to predict policies that are like them.

    Raises:
        CostError: the run has no samples.
    """
    cells_of_policy, row_bytes = _cells(store)
    return _rates(list(cells_of_policy.values()), store.times(), row_bytes)


def estimate_run(
    problems: int,
    samples_of_policy: Mapping[str, int],
    rates: Mapping[str, Rates] | None,
    resources: Resources | None = None,
) -> Cost:
    """Estimate what a plan of named policies needs.

    Args:
        problems: number of problems.
        samples_of_policy: number of samples of each policy, over all problems.
        rates: measured, by policy. A term is estimated only if every policy of the plan has it.
        resources: of the plan.
    """
    resources = resources or Resources()
    if rates is None or not samples_of_policy.keys() <= rates.keys():
        return Cost(sum(samples_of_policy.values()), None, None, None, None, None, None)
    parts = [_part(samples, problems, None, rates[name], resources) for name, samples in samples_of_policy.items()]
    return _whole(_summed(parts), resources)


def estimate(problems: int, policies: int, samples: int, rates: Rates, resources: Resources | None = None) -> Cost:
    """Estimate what `samples` per problem and policy need, of policies that are like those measured (`pooled`)."""
    resources = resources or Resources()
    return _whole(_part(problems * policies * samples, problems, policies, rates, resources), resources)


def _part(samples: int, problems: int, policies: int | None, rates: Rates, resources: Resources) -> Cost:
    """Estimate everything but the wall time, of policies with these rates."""

    def total(spread: Spread) -> Range | None:
        return spread.predict(problems, policies).times(samples) if isfinite(spread.mean) else None

    tokens, text_bytes = total(rates.completion_tokens), total(rates.text_bytes)
    if resources.tokens is not None:
        longer = resources.tokens / rates.completion_tokens.mean if rates.completion_tokens.mean else nan
        text_bytes = text_bytes.times(longer) if text_bytes is not None and isfinite(longer) else None
        tokens = Range(*(3 * [resources.tokens * samples]))
    if resources.bytes_per_token is not None:
        text_bytes = tokens.times(resources.bytes_per_token) if tokens else None
    cpu_s = total(rates.grading_cpu_s)
    throughput = _throughput(rates, resources)
    return Cost(
        samples,
        total(rates.prompt_tokens),
        tokens,
        text_bytes.times(1, rates.row_bytes * samples) if text_bytes else None,
        tokens.divided_by(throughput.times(3600)) if tokens and throughput else None,
        cpu_s.times(JUDGE_FACTOR / 3600, JUDGE_OVERHEAD_S * samples / 3600) if cpu_s else None,
        None,
    )


def _throughput(rates: Rates, resources: Resources) -> Range | None:
    """Return tokens per second of one engine; None if unknown."""
    if resources.tokens_per_s is not None:
        return Range(*(3 * [resources.tokens_per_s]))
    measured = rates.tokens_per_s  # over several slices wherever it is known
    return measured.predict(_SLICES).times(1 / resources.measured_engines) if isfinite(measured.mean) else None


def _summed(parts: Sequence[Cost]) -> Cost:
    """Add up every term that all parts have."""

    def total(term: str) -> Range | None:
        ranges: list[Range | None] = [getattr(part, term) for part in parts]
        known = [term for term in ranges if term is not None]
        return reduce(Range.__add__, known) if known and len(known) == len(ranges) else None

    terms = [field.name for field in fields(Cost) if field.name != "samples"]
    return Cost(sum(part.samples for part in parts), **{term: total(term) for term in terms})


def _whole(cost: Cost, resources: Resources) -> Cost:
    """Add what occurs once per run: an empty record, and the wall time."""
    if cost.disk_bytes is not None:
        cost = replace(cost, disk_bytes=cost.disk_bytes.times(1, _EMPTY_RECORD_BYTES))
    if cost.engine_hours is None or cost.grading_cpu_hours is None:
        return cost
    sampling = cost.engine_hours.times(1 / resources.engines)
    grading = cost.grading_cpu_hours.times(1 / resources.workers)
    longer = Range(max(sampling.low, grading.low), max(sampling.mean, grading.mean), max(sampling.high, grading.high))
    return replace(cost, wall_hours=longer)


def _cells(store: Store) -> tuple[dict[str, pd.DataFrame], float]:
    """Return the means of each problem by policy, and the bytes that a sample takes beside its text."""
    cells = store.cell_costs()
    if cells.empty:
        raise CostError(f"{store.path.parent} has no samples yet: measure on a run that has some")
    text_bytes = float((cells["text_bytes"] * cells["n"]).sum())
    row_bytes = max(0.0, store.size() - _EMPTY_RECORD_BYTES - text_bytes) / float(cells["n"].sum())
    return {str(policy): table for policy, table in cells.groupby("policy", sort=False)}, row_bytes


def _rates(cells: list[pd.DataFrame], times: pd.DataFrame, row_bytes: float) -> Rates:
    """Return the rates of some policies, from the means of their cells."""

    def spread(column: str) -> Spread:
        by_problem = pd.concat([table.set_index("problem")[column] for table in cells], axis=1, sort=False)
        return _spread(by_problem.to_numpy(float))

    samples = int(sum(table["n"].sum() for table in cells))
    samples_per_s, tokens_per_s = _throughputs(times)
    return Rates(
        samples,
        spread("prompt_tokens"),
        spread("completion_tokens"),
        spread("seconds"),
        spread("text_bytes"),
        spread("cpu_s"),
        row_bytes,
        samples_per_s,
        tokens_per_s,
    )


def _spread(values_PM: Floats) -> Spread:
    """Return mean and deviations of the means of cells; unknown ones are left out."""
    known_PM = np.isfinite(values_PM)
    if not known_PM.any():
        return Spread(nan, nan, 0)
    means_P = [row[known].mean() for row, known in zip(values_PM, known_PM, strict=True) if known.any()]
    means_M = [column[known].mean() for column, known in zip(values_PM.T, known_PM.T, strict=True) if known.any()]
    return Spread(
        float(np.mean(values_PM[known_PM])), _deviation(means_P), len(means_P), _deviation(means_M), len(means_M)
    )


def _throughputs(times: pd.DataFrame) -> tuple[float, Spread]:
    """Return samples per second, and tokens per second overall and over equal slices of the busy time.

    Each sample's tokens are spread over its request. The busy time has at least one request under way.
    """
    ends, seconds, tokens = (times[column].to_numpy(float) for column in ("created", "seconds", "completion_tokens"))
    starts = ends - seconds
    busy_starts, busy_ends = _busy(starts, ends)
    busy_s = float((busy_ends - busy_starts).sum())
    if busy_s <= 0:
        return _ratio(len(times), busy_s), Spread(nan, nan, 0)
    lengths = np.maximum(seconds, 1e-6)
    edges = _slices(busy_starts, busy_ends)
    made = [float((tokens * np.clip((edge - starts) / lengths, 0, 1)).sum()) for edge in edges]
    rates = np.diff(made) / (busy_s / _SLICES)
    return _ratio(len(times), busy_s), Spread(float(tokens.sum() / busy_s), _deviation(rates.tolist()), _SLICES)


def _slices(starts: Floats, ends: Floats) -> list[float]:
    """Return the times that cut disjoint intervals, in order, into slices of equal length."""
    busy_before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    wanted = np.linspace(0, busy_before[-1], _SLICES + 1)
    place = np.clip(np.searchsorted(busy_before, wanted, side="right") - 1, 0, len(starts) - 1)
    return (starts[place] + wanted - busy_before[place]).tolist()


def _busy(starts: Floats, ends: Floats) -> tuple[Floats, Floats]:
    """Return the union of intervals, as disjoint intervals in order."""
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], np.maximum.accumulate(ends[order])
    is_first = np.concatenate([[True], starts[1:] > ends[:-1]])[: len(starts)]
    is_last = np.concatenate([is_first[1:], [True]])[: len(starts)]
    return starts[is_first], ends[is_last]


def _half_width(deviation: float, measured: int, planned: int) -> float:
    if measured < 2:
        return inf
    return float(stdtrit(measured - 1, (1 + _LEVEL) / 2)) * deviation * sqrt(1 / measured + 1 / planned)


def _deviation(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else inf
