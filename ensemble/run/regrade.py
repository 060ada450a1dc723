"""Grading the samples of a run anew, with other limits, checkers or tests, into another set of verdicts."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alphamix.ensemble.run.grading_loop import StoreSink, Ungraded, VerdictKeeper, grade_all
from alphamix.ensemble.run.progress_events import GradingObserver
from alphamix.ensemble.store import STORE_NAME, Slot, Store, StoreError
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import JUDGE_VERSION
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions
from alphamix.grading.problems import fingerprint
from alphamix.grading.types import Checker, Problem


@dataclass(frozen=True)
class Changes:
    """What a regrading changes about problems."""

    time_limit_scale: float = 1.0
    memory_limit_scale: float = 1.0
    checker: Checker | None = None
    """Checker for all problems; None keeps that of each."""
    checker_text: str | None = None
    """The checker as the user wrote it."""

    def apply_to(self, problem: Problem) -> Problem:
        """Return a problem with these changes."""
        changes: dict[str, Any] = {
            "time_limit_s": problem.time_limit_s * self.time_limit_scale,
            "memory_limit_mb": problem.memory_limit_mb * self.memory_limit_scale,
        }
        if self.checker is not None:
            changes["checker"] = self.checker
        return problem.model_copy(update=changes)

    def describe(self, problems: Sequence[Problem], options: JudgeOptions) -> dict[str, Any]:
        """Return everything that verdicts depend on beside the samples."""
        return {
            "judge": JUDGE_VERSION,
            "problems": fingerprint(problems),
            **asdict(options),
            "packages": "+".join(options.packages) or None,
            "time_limit_scale": self.time_limit_scale,
            "memory_limit_scale": self.memory_limit_scale,
            "checker": self.checker_text,
        }


def regrade(
    folder: Path,
    problems: Sequence[Problem],
    changes: Changes,
    verdict_set: str,
    options: JudgeOptions,
    backend: BackendOptions,
    progress: GradingObserver,
    *,
    own_source: str | None,
    keep_current: bool = False,
) -> Counter[str]:
    """Judge what has no verdict in a set yet, and return what is still owed, by reason.

    The set becomes the current one when nothing is owed, unless `keep_current`.

    Args:
        folder: of the run.
        problems: with the tests to grade by.
        changes: what differs from these problems.
        verdict_set: name of the set; it is begun where it does not exist.
        options: what each process makes its judge with.
        backend: where the processes run.
        progress: watches the grading.
        own_source: where the run's own problems come from, if these are they: then they must not have changed.
        keep_current: whether outcomes are counted from the verdicts that are current now.

    Raises:
        StoreError: the set was begun with other options, or the run's own problems have changed.
        GradingError: problems are missing, or programs cannot be judged safely.
    """
    path = folder / STORE_NAME
    # The record is opened twice: samples are read from threads of the backend, and a writer belongs to one thread.
    with Store(path, create=False) as store, Store(path, read_only=True) as reader:
        check_problems(store, problems, own_source)
        store.add_verdict_set(verdict_set, changes.describe(problems, options))
        owed = store.ungraded_numbers(verdict_set)
        num_samples = int(store.progress()["sampled"].sum())
        progress.begin(num_samples, num_samples - len(owed))
        keeper = VerdictKeeper(StoreSink(store, verdict_set), progress)
        changed = {problem.id: changes.apply_to(problem) for problem in problems}
        grade_all(changed, _ungraded(reader, owed), len(owed), keeper, options, backend)
        if not keeper.owed and not keep_current:
            store.use_verdict_set(verdict_set)
    return keeper.owed


def name_of_set(about: Mapping[str, Any], usual_sandbox: str) -> str:
    """Name a set by the judge's version and whatever is not as usual."""
    usual = {
        "sandbox": usual_sandbox,
        "all_tests": False,
        "time_limit_scale": 1,
        "memory_limit_scale": 1,
        "checker": None,
        "packages": None,
    }
    unusual = [f"{key}={about[key]}" for key, value in usual.items() if about[key] != value]
    return ",".join([f"judge-{about['judge']}", *unusual])


def _ungraded(reader: Store, numbers: Sequence[int]) -> Iterator[Ungraded[Slot]]:
    for sample in reader.samples_of(numbers):
        slot, completion = sample.slot, sample.completion
        yield Ungraded(slot, slot.problem, completion.finish_reason, completion.text, sample.is_code)


def check_problems(store: Store, problems: Sequence[Problem], own_source: str | None) -> None:
    """Refuse problems that are not those of the run; if they come from another file, those that lack some."""
    if own_source is not None and fingerprint(problems) != store.about().get("problems"):
        raise StoreError(
            f"{own_source} has changed since the run was planned: restore it, or give what it is now with --problems"
        )
    lacking = sorted({problem for _, problem in store.cells()} - {problem.id for problem in problems})
    if lacking:
        raise GradingError(f"the problems lack {lacking[0]!r} and {len(lacking) - 1} others of the run: add them")
