"""Outcomes of a run at a coverage level."""

from itertools import product

from alphamix.ensemble.outcomes.files import outcomes_from_table
from alphamix.ensemble.outcomes.table import Outcomes, OutcomesError
from alphamix.ensemble.store import Store


def count_outcomes(store: Store, level: float = 1.0, verdict_set: str | None = None) -> Outcomes:
    """Count verdicts per problem and policy, with failure classes and mean costs per sample.

    Args:
        store: of a run.
        level: coverage level x: a sample counts as accepted if it passed the first ⌈x·T⌉ of T tests. Other samples
            keep the failure class that they have at full coverage.
        verdict_set: verdicts to count; None for the current ones.

    Raises:
        GradingError: the level is not above 0 and at most 1.
        StoreError: the set does not exist.
        OutcomesError: nothing is graded yet, or a cell has no verdict.
    """
    table = store.tally(level, verdict_set)
    counted = set(zip(table["policy"], table["problem"], strict=True))
    missing = [cell for cell in product(table["policy"].unique(), table["problem"].unique()) if cell not in counted]
    if missing:
        policy, problem = missing[0]
        raise OutcomesError(
            f"{store.path} has no verdict yet in {len(missing)} cells (first: policy {policy!r} on problem "
            f"{problem!r}): continue the run with `alphamix resume {store.path.parent}`"
        )
    return outcomes_from_table(table, str(store.path))
