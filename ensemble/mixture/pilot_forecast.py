"""Forecasts of what an allocation solves, where too few samples were drawn to score it without a model.

The value is expected under the posterior. The interval is for the share of *these* problems that is solved when the
allocation is drawn once: it joins the luck of those draws, what the counts leave open about each problem, and what
they leave open about the prior, by fits to resampled problems. On public LiveCodeBench outcomes with pilots of 2 to 5
samples, it held the share found with other samples in 96 % of cases (`benchmarks/honesty.py`). It says nothing about
problems of another kind. Axes: `M` policies, `P` problems.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.mixture.cross_fitting import Evidence
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.statistics.posterior import Posterior


@dataclass(frozen=True)
class PilotForecast:
    """Share of problems that an allocation is expected to solve, according to the model of `shared_difficulty`."""

    value: float
    interval: tuple[float, float]
    """Interval for the share solved when the allocation is drawn once on the same problems."""


def forecast_pilot(evidence: Evidence, allocation_M: Ints, resampling: Resampling) -> PilotForecast:
    """Forecast the coverage of an allocation of any size."""
    covered_P = evidence.posterior.covered(allocation_M[None])[0]
    value, num_problems = float(covered_P.mean()), len(covered_P)
    luck = float((covered_P * (1 - covered_P)).sum()) / num_problems**2
    counts_MP = evidence.outcomes.num_samples_MP, evidence.outcomes.num_correct_MP
    refitted = [Posterior.of(*counts_MP, prior) for prior in evidence.resampled_priors(resampling)]
    prior = float(np.var([posterior.coverage(allocation_M) for posterior in refitted], ddof=1))
    reach = float(ndtri((1 + resampling.level) / 2)) * np.sqrt(luck + prior)
    return PilotForecast(value, (max(0.0, value - reach), min(1.0, value + reach)))
