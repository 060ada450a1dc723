"""What a run draws next: from arms to slots, one stage at a time.

First come the samples that are drawn whatever the verdicts: a pilot where costs have to be measured, then the union of
what the arms of fixed size need, each sample once however many arms share it. Then, round by round, what adaptive arms
ask for beyond that. Each stage follows from the settings and the record alone, so a killed run plans the same again.
Axes: `M` policies, `P` problems.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Design
from alphamix.ensemble.run.plan.adaptive_arms import cell_codes, check_first_steps, needed_next, only_cells
from alphamix.ensemble.run.plan.resolved_arms import known_arms
from alphamix.ensemble.run.slots import plan_slots
from alphamix.ensemble.store import Store


def check(design: Design) -> None:
    """Check the plan before anything is drawn.

    Raises:
        ExperimentError: the budget does not pay for an arm, a k of pass@k exceeds what any arm draws, or a limit of the
            run is below what is certain to be drawn.
    """
    budget, problems = design.budget, len(design.problems)
    arms = known_arms(design)
    if arms is not None:
        fixed_M = arms.fixed_M
        samples, least = int(fixed_M.sum()) * problems, float(fixed_M @ arms.budget.cost_M) * problems
        check_first_steps(design, arms)
        _check_pass_at(design, int(fixed_M.max()))
    else:
        samples, least = design.allocation.pilot * len(design.policies) * problems, 0.0
    for currency, limit in budget.run.amounts.items():
        needed = samples if currency == "samples" else least if currency == budget.currency else 0.0
        if limit < needed:
            raise ExperimentError(
                f"budget.run.{currency} = {limit:g}, but {problems} problems with budget.{budget.currency} = "
                f"{budget.amount:g} each take {needed:g} for the arms {', '.join(design.allocation.arms)}: "
                "raise it, lower the budget, or name fewer arms"
            )


def _check_pass_at(design: Design, samples: int) -> None:
    most, budget = max(design.pass_at), design.budget
    if most > samples:
        raise ExperimentError(
            f"analysis.pass_at asks for pass@{most}, but with budget.{budget.currency} = {budget.amount:g} the arms "
            f"{', '.join(design.allocation.arms)} draw only {samples} samples of any policy on a problem "
            f"for certain: set sampling.samples to {most}, raise the budget, or ask for a smaller k"
        )


def extend(store: Store, design: Design) -> bool:
    """Plan the next stage, once nothing is owed; return whether there was anything left to plan.

    Raises:
        ExperimentError, AdaptiveError: the budget does not pay for what an arm needs.
    """
    arms = known_arms(design, store)
    policies, problems = design.policies, design.problems
    sizes = store.sizes()
    planned_MP, fixed_MP = (_matrix(sizes, column, policies, problems) for column in ("planned", "fixed"))
    fixed_M = np.full(len(policies), design.allocation.pilot) if arms is None else arms.fixed_M
    if np.any(fixed_M[:, None] > fixed_MP):
        fixed = dict(zip(policies, fixed_M.tolist(), strict=True))
        _add(store, design, planned_MP, np.maximum(planned_MP, fixed_M[:, None]), fixed)
        return True
    if arms is None or not arms.adaptive:
        return False
    needed_MP = needed_next(store, design, arms)
    if not np.any(needed_MP > planned_MP):
        return False
    _add(store, design, planned_MP, np.maximum(planned_MP, needed_MP), {})
    return True


def _add(store: Store, design: Design, planned_MP: Ints, end_MP: Ints, fixed: Mapping[str, int]) -> None:
    slots = plan_slots(
        design.policies, design.problems, end_MP, design.seed, planned=planned_MP, first_number=store.next_number()
    )
    store.extend(slots, fixed)


def _matrix(table: pd.DataFrame, column: str, policies: Sequence[str], problems: Sequence[str]) -> Ints:
    matrix_MP = np.zeros((len(policies), len(problems)), np.int64)
    table = only_cells(table, policies, problems)  # the plan may have others, which are left out
    matrix_MP[cell_codes(table, policies, problems)] = table[column]
    return matrix_MP
