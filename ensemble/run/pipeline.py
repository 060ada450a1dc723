"""An experiment from start to end: policies and problems in, a folder with samples, verdicts and a report out.

This module joins the others and computes nothing itself. Called again on the same folder, it resumes the run.
"""

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from alphamix import _checks as checks
from alphamix.atomic import write_json, write_text
from alphamix.ensemble.analysis.run_analysis import Analysis, analyse
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Inputs
from alphamix.ensemble.experiment.schema import GradingSection
from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.report.write import write_report
from alphamix.ensemble.run import plan
from alphamix.ensemble.run.executor import Executor
from alphamix.ensemble.run.fingerprints import check_unchanged, identity, problem_hashes
from alphamix.ensemble.run.progress_events import RunObserver
from alphamix.ensemble.run.status import num_owed
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Store
from alphamix.grading.judge.judge import Judge, check_packages
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.parallel.cluster import ClusterJudge
from alphamix.grading.types import Problem


@dataclass(frozen=True)
class Result:
    """The end of a run: with an analysis, or with work still owed."""

    analysis: Analysis | None
    owed: Counter[str]
    """Samples and verdicts that are owed, by cause."""
    missing_modules: Counter[str] = field(default_factory=Counter[str])
    """Programs that failed for want of a module, by its name."""


def run(inputs: Inputs, folder: Path, observer: RunObserver) -> Result:
    """Sample and grade what is owed, then analyse and report. The registry is closed at the end.

    Raises:
        AlphamixError: the folder cannot be written.
        ExperimentError: the folder holds a run of another experiment.
        StoreError: another process is working on it.
        PolicyError, GradingError: a policy cannot be opened, or programs cannot be judged safely here.
    """
    plan.check(inputs.design)
    registry = inputs.sampling.registry
    with registry, _judge(inputs.experiment.grading, inputs.sampling.problems) as judge:
        checks.folder(folder)
        with Store(folder / STORE_NAME) as store:
            now = identity(inputs.sampling, inputs.experiment.grading.packages)
            if store.about():
                check_unchanged(store, inputs.sampling, now)
            else:
                store.plan([], now | problem_hashes(inputs.sampling.problems))
            write_text(folder / "policies.toml", tomli_w.dumps(registry.to_toml(folder)))
            write_text(folder / "experiment.toml", tomli_w.dumps(_relocated(inputs, folder)))
            write_json(folder / "manifest.json", _manifest(now, judge.describe()))
            owed = _fill(store, inputs, judge, observer)
            analysis = None if owed else report(store, inputs, folder, judge.describe())
            return Result(analysis, owed, store.missing_modules())


def _judge(grading: GradingSection, problems: Sequence[Problem]) -> Judge | ClusterJudge:
    if grading.backend != "here":
        return ClusterJudge(
            JudgeOptions(grading.sandbox, packages=tuple(grading.packages)),
            BackendOptions(grading.backend, grading.workers, grading.address),
        )
    check_packages(problems, grading.packages)
    return Judge(workers=grading.num_workers, sandbox=grading.sandbox, packages=grading.packages)


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
        inputs: of the run.
        folder: made if it does not exist.
        judge: the judge's description of itself.
        verdict_set: verdicts to count; None for the current ones.
        level: coverage level at which a sample counts as accepted.
    """
    experiment, design, registry = inputs.experiment, inputs.design, inputs.sampling.registry
    counted = count_outcomes(store, level, verdict_set=verdict_set)
    # The record has the order in which policies were first planned; costs and arms have that of the experiment.
    outcomes = counted.select(policies=counted.rows(design.policies))
    alphas = {name: registry.alpha(name) for name in design.policies}
    forgeable = [problem.id for problem in inputs.sampling.problems if problem.is_forgeable]
    arms = plan.known_arms(design, store)
    if arms is None:
        raise ExperimentError(
            f"{store.path.parent} has not measured yet what samples cost: continue the run with `alphamix resume`"
        )
    current = next(each.name for each in store.verdict_sets() if each.is_current)
    is_own = level == 1.0 and (verdict_set or current) == RUN_SET  # adaptive arms drew because of these verdicts
    played = (
        plan.played_arms(store, design, arms, outcomes, experiment.analysis.resampling.with_groups(outcomes.groups))
        if is_own
        else {}
    )
    analysis = analyse(outcomes, alphas, arms.splits, arms.budget, played, experiment.analysis, forgeable)
    missing_modules = store.missing_modules(verdict_set)
    write_report(analysis, folder, experiment.name, judge, num_owed(store), missing_modules)
    return analysis


def _fill(store: Store, inputs: Inputs, judge: Judge | ClusterJudge, observer: RunObserver) -> Counter[str]:
    """Draw what is owed, stage after stage; return what is still owed, counted by cause."""
    while True:
        owed = Executor(store, inputs.sampling, inputs.design.budget.run.amounts, judge, observer).fill()
        if owed or not plan.extend(store, inputs.design):
            return owed


def _relocated(inputs: Inputs, folder: Path) -> dict[str, Any]:
    """Return the experiment in the form that `alphamix run` reads, with paths relative to the run's folder."""
    table = inputs.experiment.to_toml()
    table["problems"]["file"] = os.path.relpath(inputs.experiment.problems.file, folder)
    # The policies file beside it has sweeps written out, and contains the sources of merges, which need not be sampled.
    table["policies"] = {"file": "policies.toml", "use": list(inputs.design.policies)}
    table["allocation"]["policies"] = list(inputs.design.members)
    table["allocation"]["weights"] = {name: dict(shares) for name, shares in inputs.design.weights.items()}
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
