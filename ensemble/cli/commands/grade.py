"""`alphamix grade`: a file of samples to a file of verdicts."""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import click
from rich.console import Console
from rich.table import Table

from alphamix.ensemble.cli.terminal.progress import GradingProgress
from alphamix.ensemble.interchange.samples_jsonl import (
    SampleEntry,
    SampleIndex,
    SamplesError,
    listed,
    read_index,
    read_texts,
)
from alphamix.ensemble.interchange.verdicts_jsonl import VerdictFile, VerdictsLostError
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.isolation_audit import Disagreement
from alphamix.grading.parallel.backends import EXTRA_OF_BACKEND, BackendError
from alphamix.grading.parallel.batch import BackendOptions, JudgedChunk, JudgeOptions, Submission, judge_all
from alphamix.grading.problems import load_problems
from alphamix.grading.types import Failure, Problem, Verdict, failure_of

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("grade")
@click.option("--problems", required=True, type=_FILE, help="JSON lines of problems.")
@click.option("--samples", required=True, type=_FILE, help="JSON lines of samples.")
@click.option("--output", "-o", required=True, type=_FILE, help="JSON lines of verdicts, appended to.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes [one per core, or all of the cluster].")
@click.option("--backend", type=click.Choice(list(EXTRA_OF_BACKEND)), default="loky", help="Where they run [loky].")
@click.option("--address", help="Address of a Dask scheduler or a Ray cluster [a local one].")
@click.option("--all-tests", is_flag=True, help="Run every test, not only those up to the first failure.")
@click.option("--sandbox", type=click.Choice(["strict", "weak"]), default="strict", help="weak: trusted programs only.")
@click.option("--skip-bad", is_flag=True, help="Leave out malformed lines of samples, and say which.")
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, no table.")
def command(
    problems: Path,
    samples: Path,
    output: Path,
    workers: int | None,
    backend: str,
    address: str | None,
    all_tests: bool,
    sandbox: Literal["strict", "weak"],
    skip_bad: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge the programs of samples, and append one verdict each to a file.

    The same command goes on where it stopped: verdicts that are there are kept. It exits with 3 while any is owed.
    """
    problem_of_id = {problem.id: problem for problem in load_problems(problems)}
    index = read_index(samples, problem_of_id)
    _report_complaints(index, skip_bad)
    console = Console(stderr=as_json)
    options = JudgeOptions(sandbox=sandbox, all_tests=all_tests)
    with VerdictFile(output) as verdicts, GradingProgress(console, quiet=quiet or as_json) as progress:
        grading = _Grading(problem_of_id, index, verdicts, progress)
        failure = grading.grade(options, BackendOptions(backend, workers, address))
    if failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(1)
    if as_json:
        click.echo(json.dumps(grading.summary(), indent=2))
    elif not quiet:
        console.print(_table(grading.summary()["policies"]))
    _print_disagreements(grading.disagreements)
    if grading.owed:
        _print_owed(grading.owed)
        sys.exit(3)


class _Grading:
    """Brings the samples of one file to the judge, and the answers to the file of verdicts."""

    def __init__(
        self, problems: dict[str, Problem], index: SampleIndex, verdicts: VerdictFile, progress: GradingProgress
    ) -> None:
        self._problems = problems
        self._index = index
        self._verdicts = verdicts
        self._progress = progress
        self.owed: Counter[str] = Counter()
        """Samples that the judge failed on, by reason."""
        self.disagreements: list[Disagreement] = []
        """Accepted programs that the audit does not confirm, the first few."""
        self._audited = 0
        self._disagreed = 0

    def grade(self, options: JudgeOptions, backend: BackendOptions) -> str:
        """Judge what has no verdict yet. Return why that had to stop before its end; usually nothing.

        Raises BackendError.
        """
        entries = [entry for entry in self._index.entries if entry.key not in self._verdicts.marks]
        entries.sort(key=lambda entry: entry.key.problem)  # so that each goes out with others of its problem
        planned = len(self._index.entries)
        self._progress.begin(planned, planned - len(entries))
        if not entries:
            return ""
        submissions = _submissions(self._index.path, entries)
        try:
            with closing(judge_all(self._problems, submissions, len(entries), options, backend)) as answers:
                for answer in answers:
                    self._keep(entries, answer)
        except BackendError:
            raise  # a matter of the options, not of grading
        except (GradingError, VerdictsLostError) as error:
            return str(error)
        return ""

    def _keep(self, entries: Sequence[SampleEntry], answer: JudgedChunk) -> None:
        good = [one for one in answer.judged if one.judgement.verdict is not Verdict.IE]
        self.owed.update(one.judgement.message for one in answer.judged if one.judgement.verdict is Verdict.IE)
        self._audited += answer.audit.audited
        self._disagreed += answer.audit.disagreed
        self.disagreements += answer.audit.examples
        self._verdicts.append(
            (entries[number].key, judgement, failure_of(judgement.verdict, entries[number].finish_reason), judge)
            for number, judgement, judge in good
        )
        self._progress.graded([one.judgement.verdict for one in good])

    def summary(self) -> dict[str, Any]:
        """Count, by policy, what the samples of the file came to."""
        policies: dict[str, Any] = {}
        for entry in self._index.entries:
            counts = policies.setdefault(entry.key.policy, {"samples": 0, "verdicts": {}, "failures": {}})
            counts["samples"] += 1
            mark = self._verdicts.marks.get(entry.key)
            if mark is not None:
                counts["verdicts"][mark.verdict] = counts["verdicts"].get(mark.verdict, 0) + 1
            if mark is not None and mark.failure is not None:
                counts["failures"][mark.failure] = counts["failures"].get(mark.failure, 0) + 1
        graded = sum(sum(counts["verdicts"].values()) for counts in policies.values())
        return {
            "samples": len(self._index.entries),
            "graded": graded,
            "owed": len(self._index.entries) - graded,
            "owed_because": dict(self.owed),
            "skipped": len(self._index.complaints),
            "audit": {"audited": self._audited, "disagreed": self._disagreed},
            "policies": policies,
        }


def _submissions(path: Path, entries: Sequence[SampleEntry]) -> Iterator[Submission]:
    texts = read_texts(path, entries)
    for number, (entry, (text, is_code)) in enumerate(zip(entries, texts, strict=True)):
        yield Submission(number, entry.key.problem, text, is_code)


def _report_complaints(index: SampleIndex, skip_bad: bool) -> None:
    if index.complaints and not skip_bad:
        raise SamplesError(f"{listed(index.complaints)}\ncorrect these lines, or leave them out with --skip-bad")
    if index.complaints:
        click.echo(f"{listed(index.complaints)}\n{len(index.complaints)} lines left out", err=True)


def _table(policies: dict[str, Any]) -> Table:
    seen = {verdict for counts in policies.values() for verdict in counts["verdicts"]}
    verdicts = [verdict for verdict in Verdict if verdict in seen]
    table = Table("policy", "samples")
    for name in (*verdicts, *Failure):
        table.add_column(str(name), justify="right")
    for policy, counts in policies.items():
        cells = [counts["verdicts"].get(verdict, 0) for verdict in verdicts]
        cells += [counts["failures"].get(failure, 0) for failure in Failure]
        table.add_row(policy, f"{counts['samples']:,}", *(f"{cell:,}" for cell in cells))
    return table


def _print_disagreements(disagreements: Sequence[Disagreement]) -> None:
    for one in disagreements:
        click.echo(
            f"audit: a program accepted at {one.problem_id} is {one.isolated.verdict} where every test has a process "
            f"of its own ({one.isolated.message})",
            err=True,
        )


def _print_owed(owed: Counter[str]) -> None:
    click.echo(f"{owed.total()} verdicts are still owed:", err=True)
    for reason, count in owed.most_common(10):
        click.echo(f"  {count} × {reason}", err=True)
    click.echo("the same command asks for them again", err=True)
