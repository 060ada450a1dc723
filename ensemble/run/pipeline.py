"""An experiment from start to end: policies and problems in, a folder with samples, verdicts and a report out.

This module joins the others and computes nothing itself. Called again on the same folder, it resumes the run.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tomli_w

from alphamix import _checks as checks
from alphamix.atomic import write_json, write_text
from alphamix.ensemble.analysis.run_analysis import Analysis, analyse
from alphamix.ensemble.analysis.run_summary import RunRemarks
from alphamix.ensemble.experiment.config import ExperimentError
from alphamix.ensemble.experiment.resolved import Design, Inputs
from alphamix.ensemble.experiment.schema import GradingSection
from alphamix.ensemble.interchange import count_outcomes
from alphamix.ensemble.outcomes.table import OutcomesError
from alphamix.ensemble.report.write import write_report
from alphamix.ensemble.run import plan
from alphamix.ensemble.run.executor import Executor, Unfinished
from alphamix.ensemble.run.fingerprints import check_unchanged, identity, problem_hashes
from alphamix.ensemble.run.open_setting import check_settings, check_workspaces
from alphamix.ensemble.run.progress_events import RunObserver
from alphamix.ensemble.run.status import remarks_on
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Store
from alphamix.grading.judge.judge import Judge, check_packages
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.parallel.cluster import ClusterJudge
from alphamix.grading.types import Problem


@dataclass(frozen=True)
class Report:
    """What was computed from a run, and the page that shows it."""

    analysis: Analysis
    remarks: RunRemarks
    page: Path | None
    no_page: str = ""
    """Why there is no page, and how to get one."""


@dataclass(frozen=True)
class Result:
    """The end of a run: with a report, or without one because of what is left to do."""

    report: Report | None
    left: Unfinished
    no_report: str = ""
    """Why there is no report although `analysis.missing` says what to leave out."""


def run(inputs: Inputs, folder: Path, observer: RunObserver) -> Result:
    """Sample and grade what is owed, then analyse and report. The registry is closed at the end.

    If some of it cannot be done, there is a report only where `analysis.missing` says what to leave out.

    Raises:
        AlphamixError: the folder cannot be written.
        ExperimentError: the folder holds a run of another experiment.
        StoreError: another process is working on it.
        PolicyError, GradingError: a policy cannot be opened, or programs cannot be judged, or run for a model, safely
            here.
    """
    plan.check(inputs.design)
    check_settings(inputs.experiment.sampling)
    check_workspaces(inputs.experiment.sampling)
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
            left = _fill(store, inputs, judge, observer)
            if left.is_anything and inputs.experiment.analysis.missing == "error":
                return Result(None, left)
            try:
                return Result(report(store, inputs, folder, judge.describe()), left)
            except OutcomesError as error:
                if not left.is_anything:
                    raise
                return Result(None, left, str(error))


def _judge(grading: GradingSection, problems: Sequence[Problem]) -> Judge | ClusterJudge:
    """Return the judge of a run, as large as while nothing is sampled here."""
    if grading.backend != "here":
        return ClusterJudge(
            JudgeOptions(grading.sandbox, packages=tuple(grading.packages)),
            BackendOptions(grading.backend, grading.workers, grading.address),
        )
    check_packages(problems, grading.packages)
    workers = grading.num_workers(is_sampling_here=False)
    return Judge(workers=workers, sandbox=grading.sandbox, packages=grading.packages)


def report(
    store: Store,
    inputs: Inputs,
    folder: Path,
    judge: Mapping[str, Any],
    verdict_set: str | None = None,
    level: float = 1.0,
) -> Report:
    """Count outcomes, analyse them, and write tables, claims, figures and the page into a folder.

    Args:
        store: the run's record.
        inputs: of the run.
        folder: made if it does not exist.
        judge: the judge's description of itself.
        verdict_set: verdicts to count; None for the current ones.
        level: coverage level at which a sample counts as accepted.
    """
    experiment, sampling = inputs.experiment, inputs.sampling
    # The record has the order in which policies were first planned; costs and arms have that of the experiment.
    outcomes = count_outcomes(store, level, verdict_set, experiment.analysis.missing, inputs.design.policies)
    design = inputs.design.of(outcomes.policies, outcomes.problems)
    alphas = {name: sampling.registry.alpha(sampling.asked[name].policy) for name in design.policies}
    forgeable = [problem.id for problem in sampling.problems if problem.is_forgeable]
    arms = plan.known_arms(design, store)
    if arms is None:
        raise ExperimentError(
            f"{store.path.parent} has not measured yet what samples cost: continue the run with `alphamix resume`"
        )
    current = next(each.name for each in store.verdict_sets() if each.is_current)
    is_own = level == 1.0 and (verdict_set or current) == RUN_SET  # adaptive arms drew because of these verdicts
    resampling = experiment.analysis.resampling
    played = plan.played_arms(store, design, arms, outcomes, resampling) if is_own else plan.PlayedArms({}, {})
    analysis = analyse(
        outcomes,
        alphas,
        arms.splits,
        arms.budget,
        played.arms,
        experiment.analysis,
        forgeable,
        played.undefined,
        sampling.section.settings,
    )
    remarks = remarks_on(store, verdict_set, inputs.sampling.problems)
    try:
        return Report(analysis, remarks, write_report(analysis, folder, experiment.name, judge, remarks))
    except checks.MissingExtraError as error:
        return Report(analysis, remarks, None, f"{error}, then `alphamix report {store.path.parent}`")


def _fill(store: Store, inputs: Inputs, judge: Judge | ClusterJudge, observer: RunObserver) -> Unfinished:
    """Draw what is owed, stage after stage; return what is left.

    What was rejected is asked for once. Later stages go on without it where `analysis.missing` says what to leave out.
    """
    grading, limits = inputs.experiment.grading, inputs.design.budget.run.amounts

    def resize_judge(is_sampling_here: bool) -> None:
        if isinstance(judge, Judge):
            judge.resize(grading.num_workers(is_sampling_here=is_sampling_here))

    began = time.time()
    store.forget_passing_failures()
    while True:
        left = Executor(store, inputs.sampling, limits, judge, observer, began, resize_judge).fill()
        design = _without_rejected(store, inputs) if left.rejected else inputs.design
        if left.owed or design is None or not plan.extend(store, design):
            return left


def _without_rejected(store: Store, inputs: Inputs) -> Design | None:
    """Return the design without the policies or problems that cannot be sampled; None if it may not go on so."""
    design, missing = inputs.design, inputs.experiment.analysis.missing
    rejected = store.rejected_cells()
    policies, problems = set(design.policies), set(design.problems)
    if missing == "drop-policies":
        policies -= {policy for policy, _ in rejected}
    else:
        problems -= {problem for _, problem in rejected}
    return design.of(policies, problems) if missing != "error" and policies and problems else None


def _relocated(inputs: Inputs, folder: Path) -> dict[str, Any]:
    """Return the experiment in the form that `alphamix run` reads, with paths relative to the run's folder."""
    table = inputs.experiment.to_toml()
    for key in {"file", "path"} & table["problems"].keys():
        table["problems"][key] = os.path.relpath(table["problems"][key], folder)
    loop = inputs.experiment.sampling.agent.loop
    if loop is not None and loop.partition(":")[0].endswith(".py"):
        table["sampling"]["agent"]["loop"] = os.path.relpath(loop, folder)
    # The policies file beside it has sweeps written out, and contains the sources of merges, which need not be sampled.
    table["policies"] = {"file": "policies.toml", "use": list(inputs.sampling.registry.names)}
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
