"""The whole way of one experiment: policies and problems in, a folder with samples, verdicts and a report out.

This module joins the others and computes nothing itself. Run again on the same folder, it goes on where it was.
"""

import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from alphamix.ensemble.analysis.run_analysis import Analysis, analyse
from alphamix.ensemble.atomic_files import write_json, write_text
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Inputs
from alphamix.ensemble.experiment.schema import GradingSection
from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.report.write import write_report
from alphamix.ensemble.run import plan
from alphamix.ensemble.run.executor import Executor
from alphamix.ensemble.run.fingerprints import check_unchanged, problem_hashes
from alphamix.ensemble.run.progress_events import RunObserver
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Store
from alphamix.grading.judge.judge import Judge
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.parallel.cluster import ClusterJudge


@dataclass(frozen=True)
class Result:
    """How a run ended: with an analysis, or with work still owed, counted by cause."""

    analysis: Analysis | None
    owed: Counter[str]


def run(inputs: Inputs, folder: Path, monitor: RunObserver) -> Result:
    """Sample and grade what is owed, then analyse and report. The registry is closed at the end.

    Raises:
        ExperimentError: the folder holds a run of something else.
        StoreError: another process works on it.
        PolicyError, GradingError: a policy cannot be opened, or programs cannot be judged safely here.
    """
    plan.check(inputs)
    with inputs.registry, _judge(inputs.experiment.grading) as judge:
        folder.mkdir(parents=True, exist_ok=True)
        with Store(folder / STORE_NAME) as store:
            identity = inputs.identity()
            _check_identity(store, inputs, identity)
            write_text(folder / "policies.toml", tomli_w.dumps(inputs.registry.to_toml(folder)))
            write_text(folder / "experiment.toml", tomli_w.dumps(_relocated(inputs, folder)))
            write_json(folder / "manifest.json", _manifest(identity, judge.describe()))
            owed = _fill(store, inputs, judge, monitor)
            analysis = None if owed else report(store, inputs, folder, judge.describe())
            return Result(analysis, owed)


def _judge(grading: GradingSection) -> Judge | ClusterJudge:
    if grading.backend != "here":
        return ClusterJudge(
            JudgeOptions(grading.sandbox), BackendOptions(grading.backend, grading.workers, grading.address)
        )
    return Judge(workers=grading.num_workers, sandbox=grading.sandbox)


def report(
    store: Store,
    inputs: Inputs,
    folder: Path,
    judge: Mapping[str, Any],
    verdict_set: str | None = None,
    level: float = 1.0,
) -> Analysis:
    """Count outcomes, analyse them, and write tables, claims, figures and the page into a folder.

    Args:
        store: the run's record.
        inputs: what the run was about.
        folder: made where it is missing.
        judge: how verdicts came about.
        verdict_set: which verdicts; None for the current ones.
        level: coverage level at which a sample counts as accepted.
    """
    experiment, registry = inputs.experiment, inputs.registry
    counted = count_outcomes(store, level, verdict_set=verdict_set)
    # The record keeps the order in which policies were planned first; costs and arms have that of the experiment.
    outcomes = counted.select(policies=counted.rows(registry.names))
    alphas = {name: registry.alpha(name) for name in registry.names}
    forgeable = [problem.id for problem in inputs.problems if problem.is_forgeable]
    arms = plan.known_arms(inputs, store)
    if arms is None:
        raise ExperimentError(
            f"{store.path.parent} does not know yet what samples cost: `alphamix resume` goes on with it"
        )
    current = next(one.name for one in store.verdict_sets() if one.is_current)
    is_own = level == 1.0 and (verdict_set or current) == RUN_SET  # what adaptive arms drew rests on these verdicts
    played = plan.played_arms(store, inputs, arms, outcomes, experiment.analysis.resampling) if is_own else {}
    analysis = analyse(outcomes, alphas, arms.splits, arms.budget, played, experiment.analysis, forgeable)
    write_report(analysis, folder, experiment.name, judge, num_owed(store))
    return analysis


def num_owed(store: Store) -> int:
    """Count planned slots that have no sample, or a sample without a verdict of the run's own."""
    progress = store.progress()
    return int((progress["planned"] - progress["graded"]).sum())


def _check_identity(store: Store, inputs: Inputs, identity: dict[str, str]) -> None:
    """Make sure that what the record holds is of this very experiment; its budget and its arms may grow."""
    if store.about():
        check_unchanged(store, inputs, identity)
    else:
        store.plan([], identity | problem_hashes(inputs.problems))


def _fill(store: Store, inputs: Inputs, judge: Judge | ClusterJudge, monitor: RunObserver) -> Counter[str]:
    """Draw what is owed, stage after stage; return what is still owed, counted by cause."""
    while True:
        owed = Executor(store, inputs, judge, monitor).fill()
        if owed or not plan.extend(store, inputs):
            return owed


def _relocated(inputs: Inputs, folder: Path) -> dict[str, Any]:
    """The experiment in the form that `alphamix run` reads, its paths relative to the run's folder."""
    table = inputs.experiment.to_toml()
    table["problems"]["file"] = os.path.relpath(inputs.experiment.problems.file, folder)
    # The policies file beside it has sweeps written out, and also what merges rest on, which need not be sampled.
    table["policies"] = {"file": "policies.toml", "use": list(inputs.registry.names)}
    table["allocation"]["policies"] = list(inputs.members)
    table["allocation"]["weights"] = {name: dict(shares) for name, shares in inputs.weights.items()}
    return table


def _manifest(identity: Mapping[str, str], judge: Mapping[str, Any]) -> dict[str, Any]:
    packages = ("alphamix", "numpy", "scipy", "openai")
    return {
        "versions": {name: version(name) for name in packages},
        "host": {
            "python": platform.python_version(),
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
        },
        "hashes": {key: value for key, value in identity.items() if not key.startswith("sampling.")},
        "judge": dict(judge),
    }
