"""The frontier: how the samples of each policy fail, per failure class.

Rates are means over problems of the share of samples, so that every problem counts the same.
"""

from ensemble.intervals import Estimate, Resampling, mean_over_problems
from ensemble.outcomes import Outcomes
from ensemble.pass_at_k import Floats


def failure_rates(outcomes: Outcomes) -> dict[str, Floats]:
    """`[M, P]` share of samples that failed, by failure class."""
    return {name: failed_MP / outcomes.num_samples_MP for name, failed_MP in outcomes.num_failures_MP.items()}


def frontier(outcomes: Outcomes, resampling: Resampling) -> dict[str, dict[str, Estimate]]:
    """Failure rates with intervals, by policy and failure class."""
    rates_MP = failure_rates(outcomes)
    return {
        policy: {name: mean_over_problems(rate_MP[m], resampling) for name, rate_MP in rates_MP.items()}
        for m, policy in enumerate(outcomes.policies)
    }
