"""Outcomes of a run at a coverage level."""

from collections.abc import Sequence

import pandas as pd

from alphamix.ensemble.outcomes.files import Missing, outcomes_from_table
from alphamix.ensemble.outcomes.table import FAILURES, Outcomes
from alphamix.ensemble.store import Store

_COUNTS = ["n", "c", *FAILURES]


def count_outcomes(
    store: Store,
    level: float = 1.0,
    verdict_set: str | None = None,
    missing: Missing = "error",
    policies: Sequence[str] | None = None,
) -> Outcomes:
    """Count verdicts per problem and policy, with failure classes and mean costs per sample.

    Args:
        store: of a run.
        level: coverage level x: a sample counts as accepted if it passed the first ⌈x·T⌉ of T tests. Other samples
            keep the failure class that they have at full coverage.
        verdict_set: verdicts to count; None for the current ones.
        missing: what to do about cells that lack verdicts. By default those without any are refused; otherwise every
            cell that lacks some counts as missing, since what is there may be what was easy to draw, and its problem
            or policy is left out.
        policies: policies to count, in this order; all in the order of the plan if None.

    Raises:
        GradingError: the level is not above 0 and at most 1.
        StoreError: the set does not exist.
        OutcomesError: a cell has no verdict, or nothing would be left.
    """
    table = cells(store, level, verdict_set)
    if policies is not None:
        table = table[table["policy"].isin(policies)]
    if missing != "error":
        table.loc[table["n"] < table["fixed"], _COUNTS] = 0
    outcomes = outcomes_from_table(table.drop(columns=["planned", "fixed"]), str(store.path.parent), missing)
    if policies is None:
        return outcomes
    return outcomes.select(policies=outcomes.rows([name for name in policies if name in outcomes.policies]))


def cells(store: Store, level: float = 1.0, verdict_set: str | None = None) -> pd.DataFrame:
    """Return the counts of every planned cell, with n = 0 where it has no verdict.

    Columns: `policy`, `problem`, `planned`, `fixed` (slots that were planned in advance) and those of `Store.tally`.

    Raises:
        GradingError, StoreError: as for `count_outcomes`.
    """
    table = store.sizes().merge(store.tally(level, verdict_set), how="left", on=["policy", "problem"])
    return table.assign(**{name: table[name].fillna(0).astype("int64") for name in _COUNTS})
