"""`alphamix regrade`: another set of verdicts over the samples of a run, with other limits or checkers."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from alphamix.ensemble.cli.options.finite import Finite
from alphamix.ensemble.cli.terminal.progress import GradingProgress
from alphamix.ensemble.experiment import config as experiment
from alphamix.ensemble.store import RUN_SET, STORE_NAME, Graded, Slot, Store, StoreError
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import JUDGE_VERSION
from alphamix.grading.parallel.backends import EXTRA_OF_BACKEND
from alphamix.grading.parallel.batch import BackendOptions, JudgedChunk, JudgeOptions, Submission, judge_all
from alphamix.grading.problems import fingerprint, load_problems
from alphamix.grading.types import Checker, Problem, Verdict, failure_of


@click.command("regrade")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--set", "name", help="Name of the new verdicts [made from the judge's version and the options].")
@click.option(
    "--time-limit-scale", type=Finite(0, min_open=True), default=1.0, show_default=True, help="Times each limit."
)
@click.option(
    "--memory-limit-scale", type=Finite(0, min_open=True), default=1.0, show_default=True, help="Times each limit."
)
@click.option("--checker", help='For all problems: tokens, exact, lines, or JSON as {"floats": {"rel": 1e-4}}.')
@click.option("--problems", "problems_file", type=click.Path(path_type=Path), help="Other tests for the same problems.")
@click.option("--sandbox", type=click.Choice(["strict", "weak"]), help="[as in the run]")
@click.option("--all-tests", is_flag=True, help="Run every test, not only those up to the first failure.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes [one per core, or all of the cluster].")
@click.option("--backend", type=click.Choice(list(EXTRA_OF_BACKEND)), default="loky", help="Where they run [loky].")
@click.option("--address", help="Address of a Dask scheduler or a Ray cluster [a local one].")
@click.option("--keep-current", is_flag=True, help="Go on counting outcomes from the verdicts that are current now.")
@click.option("--use", help="Grade nothing; count outcomes from the verdicts of this name from now on.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
def command(
    folder: Path,
    name: str | None,
    time_limit_scale: float,
    memory_limit_scale: float,
    checker: str | None,
    problems_file: Path | None,
    sandbox: Literal["strict", "weak"] | None,
    all_tests: bool,
    workers: int | None,
    backend: str,
    address: str | None,
    keep_current: bool,
    use: str | None,
    quiet: bool,
) -> None:
    """Grade the samples of the run in FOLDER anew. No model is called, and earlier verdicts stay.

    The same command goes on where it stopped; it exits with 3 while any verdict is owed. Once all are there, outcomes,
    exports and reports are made from them.
    """
    if use is not None:
        with Store(folder / STORE_NAME, create=False) as store:
            store.use_verdict_set(use)
        return
    if name == RUN_SET:
        raise click.BadParameter(f"{RUN_SET!r} are the run's own verdicts: choose another name", param_hint="--set")
    settings = experiment.load(folder / "experiment.toml", environment=os.environ)
    problems = load_problems(problems_file or settings.problems.file)
    if problems_file is None:
        problems = problems[: settings.problems.limit]
    options = JudgeOptions(sandbox or settings.grading.sandbox, all_tests)
    scales = {"time_limit_scale": time_limit_scale, "memory_limit_scale": memory_limit_scale}
    about = {"judge": JUDGE_VERSION, "problems": fingerprint(problems), **asdict(options), **scales, "checker": checker}
    name = name or _name(about, settings.grading.sandbox)
    with (
        Store(folder / STORE_NAME, create=False) as store,
        Store(folder / STORE_NAME, read_only=True) as reader,
        GradingProgress(Console(), quiet=quiet) as progress,
    ):
        _check_problems(store, problems, None if problems_file else settings.problems.file)
        adapted = {problem.id: _adapt(problem, time_limit_scale, memory_limit_scale, checker) for problem in problems}
        store.add_verdict_set(name, about)
        regrading = _Regrading(store, reader, name, progress)
        regrading.grade(adapted, options, BackendOptions(backend, workers, address))
        if not regrading.owed and not keep_current:
            store.use_verdict_set(name)
    if regrading.owed:
        _print_owed(regrading.owed)
        sys.exit(3)
    if not quiet:
        click.echo(f"graded as {name!r}; `alphamix report {folder}` reports on the current verdicts")


class _Regrading:
    """Brings the samples of a run to the judge, and the answers into one set of verdicts."""

    def __init__(self, store: Store, reader: Store, name: str, progress: GradingProgress) -> None:
        self._store = store
        self._reader = reader
        """The same record once more: submissions are fetched from threads of the backend."""
        self._name = name
        self._progress = progress
        self._asked: dict[int, tuple[Slot, str]] = {}
        """Slot and finish reason of what is with the judge."""
        self.owed: Counter[str] = Counter()
        """Samples that the judge failed on, by reason."""

    def grade(self, problems: dict[str, Problem], options: JudgeOptions, backend: BackendOptions) -> None:
        """Judge what has no verdict in the set yet."""
        owed = self._store.ungraded_numbers(self._name)
        sampled = int(self._store.progress()["sampled"].sum())
        self._progress.begin(sampled, sampled - len(owed))
        if owed:
            with closing(judge_all(problems, self._submissions(owed), len(owed), options, backend)) as answers:
                for answer in answers:
                    self._keep(answer)

    def _submissions(self, owed: Sequence[int]) -> Iterator[Submission]:
        for sample in self._reader.samples_of(owed):
            slot, completion = sample.slot, sample.completion
            self._asked[slot.number] = slot, completion.finish_reason
            yield Submission(slot.number, slot.problem, completion.text, sample.is_code)

    def _keep(self, answer: JudgedChunk) -> None:
        judged: list[tuple[Graded, str]] = []
        for number, judgement, judge in answer.judged:
            slot, finish_reason = self._asked.pop(number)
            if judgement.verdict is Verdict.IE:
                self.owed[judgement.message] += 1
            else:
                graded = Graded(slot, judgement, failure_of(judgement.verdict, finish_reason))
                judged.append((graded, json.dumps(judge)))
        for description in {description for _, description in judged}:
            self._store.add_verdicts([one for one, by in judged if by == description], description, self._name)
        self._progress.graded([one.judgement.verdict for one, _ in judged])


def _check_problems(store: Store, problems: Sequence[Problem], own_file: Path | None) -> None:
    """Refuse problems that are not those of the run; if they come from another file, those that lack some."""
    if own_file is not None and fingerprint(problems) != store.about().get("problems"):
        raise StoreError(
            f"{own_file} has changed since the run was planned: restore it, or give it as --problems to grade with it "
            "as it is now"
        )
    lacking = sorted({problem for _, problem in store.cells()} - {problem.id for problem in problems})
    if lacking:
        raise GradingError(f"the problems lack {lacking[0]!r} and {len(lacking) - 1} others of the run: add them")


def _adapt(problem: Problem, time_limit_scale: float, memory_limit_scale: float, checker: str | None) -> Problem:
    changes: dict[str, Any] = {
        "time_limit_s": problem.time_limit_s * time_limit_scale,
        "memory_limit_mb": problem.memory_limit_mb * memory_limit_scale,
    }
    if checker is not None:
        changes["checker"] = _checker(checker)
    return problem.model_copy(update=changes)


def _checker(text: str) -> Checker:
    try:
        return TypeAdapter[Checker](Checker).validate_python(json.loads(text) if text.startswith("{") else text)
    except (ValidationError, ValueError):
        raise click.BadParameter(
            f'{text!r} is no checker: give tokens, exact, lines, or JSON as {{"floats": {{"rel": 1e-4}}}}',
            param_hint="--checker",
        ) from None


def _name(about: dict[str, Any], usual_sandbox: str) -> str:
    """Name a set by the judge's version and whatever is not as usual."""
    usual = {
        "sandbox": usual_sandbox,
        "all_tests": False,
        "time_limit_scale": 1,
        "memory_limit_scale": 1,
        "checker": None,
    }
    unusual = [f"{key}={about[key]}" for key, value in usual.items() if about[key] != value]
    return ",".join([f"judge-{about['judge']}", *unusual])


def _print_owed(owed: Counter[str]) -> None:
    click.echo(f"{owed.total()} verdicts are still owed:", err=True)
    for reason, count in owed.most_common(10):
        click.echo(f"  {count} × {reason}", err=True)
    click.echo("the same command asks for them again", err=True)
