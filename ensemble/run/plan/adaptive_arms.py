"""Adaptive arms of a run: what they need next, and how they are scored at the end.

An arm takes the samples of a cell in order, whichever arm they were first drawn for, so that no sample is drawn twice.
Axes: `M` policies, `P` problems, `T` samples of a cell.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from alphamix.ensemble.adaptive.adaptive_arm import play_arm
from alphamix.ensemble.adaptive.sample_streams import SampleStreams, follow
from alphamix.ensemble.adaptive.state import AdaptiveError, AdaptiveState
from alphamix.ensemble.arrays import Ints
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Design
from alphamix.ensemble.mixture.arms import Arm
from alphamix.ensemble.outcomes.table import Outcomes
from alphamix.ensemble.run.plan.resolved_arms import Arms
from alphamix.ensemble.statistics.intervals import Resampling
from alphamix.ensemble.store import RUN_SET, Store


def check_first_steps(design: Design, arms: Arms) -> None:
    """Check that the budget pays for the first step of every adaptive arm. Raises ExperimentError if not."""
    start = AdaptiveState.empty(len(design.problems), arms.members_budget)
    for name, strategy in arms.adaptive.items():
        try:
            strategy.ask(start)
        except AdaptiveError as error:
            raise ExperimentError(f"arm {name!r} of allocation.arms: {error}") from error


def needed_next(store: Store, design: Design, arms: Arms) -> Ints:
    """Return `[M, P]` samples of each cell that adaptive arms need for their next steps; 0 where they are done.

    Raises:
        ExperimentError: the budget does not pay for what an arm needs.
    """
    draws = _draws(store, arms.members, design.problems)
    rows = [arms.policies.index(member) for member in arms.members]
    needed_MP = np.zeros((len(arms.policies), len(design.problems)), np.int64)
    for name, strategy in arms.adaptive.items():
        start = AdaptiveState.empty(len(design.problems), arms.members_budget, _seed(design.seed, name))
        try:
            _, asked_MP = follow(strategy, draws, start)
        except AdaptiveError as error:
            raise ExperimentError(f"arm {name!r} of allocation.arms: {error}") from error
        if asked_MP is not None:
            needed_MP[rows] = np.maximum(needed_MP[rows], asked_MP)
    return needed_MP


class PlayedArms(NamedTuple):
    """Adaptive arms, scored as far as the run has drawn what they ask for."""

    arms: dict[str, Arm]
    undefined: dict[str, str]
    """Why an arm has no score."""


def played_arms(store: Store, design: Design, arms: Arms, outcomes: Outcomes, resampling: Resampling) -> PlayedArms:
    """Score the adaptive arms of a run."""
    played = PlayedArms({}, {})
    if not arms.adaptive:
        return played
    rows = [outcomes.row(member) for member in arms.members]
    draws = _draws(store, arms.members, outcomes.problems)
    for name, strategy in arms.adaptive.items():
        seed = _seed(design.seed, name)
        try:
            played.arms[name] = play_arm(
                strategy, outcomes.select(policies=rows), arms.members_budget, draws, seed, resampling
            )
        except AdaptiveError as error:
            played.undefined[name] = str(error)
    return played


def _draws(store: Store, policies: Sequence[str], problems: Sequence[str]) -> SampleStreams:
    table = store.draws(verdict_set=RUN_SET)
    table = only_cells(table, policies, problems)
    most = int(table["sample_index"].max()) + 1 if len(table) else 0
    accepted_MPT = np.zeros((len(policies), len(problems), most), np.bool_)
    held_MP = np.zeros((len(policies), len(problems)), np.int64)
    m, p = cell_codes(table, policies, problems)
    accepted_MPT[m, p, table["sample_index"]] = table["accepted"] != 0
    np.add.at(held_MP, (m, p), 1)
    return SampleStreams(accepted_MPT, held_MP)


def only_cells(table: pd.DataFrame, policies: Sequence[str], problems: Sequence[str]) -> pd.DataFrame:
    """Return the lines of a table that are about these policies and problems."""
    return table[table["policy"].isin(policies) & table["problem"].isin(problems)]


def cell_codes(table: pd.DataFrame, policies: Sequence[str], problems: Sequence[str]) -> tuple[Ints, Ints]:
    """Return the row and column of each line of a table that has the columns `policy` and `problem`."""
    m = pd.Categorical(table["policy"], categories=list(policies)).codes
    p = pd.Categorical(table["problem"], categories=list(problems)).codes
    return m.astype(np.int64), p.astype(np.int64)


def _seed(seed: int, arm: str) -> int:
    """Return the seed of an arm's own random choices, which differs between the arms of a run."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{arm}".encode()).digest()[:4], "little")
