"""Outcomes of a run, at any coverage level."""

from ensemble.outcomes import Outcomes
from ensemble.outcomes_file import outcomes_from_table
from ensemble.store import Store


def count_outcomes(store: Store, level: float = 1.0, verdict_set: str | None = None) -> Outcomes:
    """Count verdicts per problem and policy, with failure classes and mean costs per sample.

    Args:
        store: of a run.
        level: coverage level x: a sample counts as accepted if it passed the first ⌈x·T⌉ of T tests. One that did not
            keeps the failure class that it has at full coverage.
        verdict_set: the set of verdicts that is counted [the current].

    Raises:
        GradingError: the level is not above 0 and at most 1.
        StoreError: there is no such set.
        OutcomesError: nothing is graded yet, or some cell has no verdict.
    """
    return outcomes_from_table(store.tally(level, verdict_set), str(store.path))
