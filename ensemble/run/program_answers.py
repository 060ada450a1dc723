"""What the programs of a run answer to the inputs of their tests, as a table of answers, for votes among programs.

Two programs give the same answer if on every input both fail or the problem's checker takes their outputs as the same.
Expected outputs decide nothing here: what is correct is what the run's verdicts say. Nothing is kept in the run.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import pandas as pd

from alphamix.ensemble.run.progress_events import GradingObserver
from alphamix.ensemble.run.regrade import check_problems
from alphamix.ensemble.store import STORE_NAME, Sample, Store, StoreError
from alphamix.grading.checkers.agreement import same_by_checker
from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Problem, Verdict

_MAX_BYTES = 1 << 20
"""Total size of the outputs of a program; the inputs after that count as failed."""

Outputs = tuple[bytes | None, ...]
"""Output for each input; None where the program failed."""


def answers_of_run(
    folder: Path,
    problems: Sequence[Problem],
    source: str,
    judge: Judge,
    observer: GradingObserver,
    most_inputs: int | None = None,
) -> pd.DataFrame:
    """Run every program of a run that has a verdict on the inputs of its problem.

    Args:
        folder: of the run.
        problems: of the run, which must not have changed.
        source: where they come from, for the message if they have.
        judge: runs the programs.
        observer: watches; a program that fails on no input counts as AC.
        most_inputs: how many tests give their input, from the first on; None for all.

    Returns:
        One row per sample: `problem`, `policy`, `sample`, `answer` (a number within the problem, or empty if the
        program failed on every input) and `correct` (0 or 1).

    Raises:
        StoreError: the run has no verdicts, or its problems have changed.
        GradingError: the judge failed on a program.
    """
    with Store(folder / STORE_NAME, read_only=True) as store:
        check_problems(store, problems, source)
        is_correct: dict[int, bool] = {}
        numbers_of: defaultdict[str, list[int]] = defaultdict(list)
        for graded, _ in store.graded():
            is_correct[graded.slot.number] = graded.judgement.verdict is Verdict.AC
            numbers_of[graded.slot.problem].append(graded.slot.number)
        if not is_correct:
            raise StoreError(f"the run in {folder} has no verdicts: finish it with `alphamix resume {folder}`")
        observer.begin(len(is_correct), 0)
        rows = [
            (sample.slot.problem, sample.slot.policy, sample.slot.index, answer, int(is_correct[sample.slot.number]))
            for problem in problems
            for sample, answer in _answers(
                problem, [*store.samples_of(sorted(numbers_of[problem.id]))], judge, observer, most_inputs
            )
        ]
    return pd.DataFrame(rows, columns=["problem", "policy", "sample", "answer", "correct"])


def _answers(
    problem: Problem, samples: Sequence[Sample], judge: Judge, observer: GradingObserver, most_inputs: int | None
) -> Iterator[tuple[Sample, str]]:
    given = problem.model_copy(update={"tests": problem.tests[:most_inputs]})
    programs = (program_of(one.completion.text, problem, is_code=one.is_code) for one in samples)
    futures = [judge.run(given, program, _MAX_BYTES) for program in programs]
    outputs = [_outputs(sample, future, observer) for sample, future in zip(samples, futures, strict=True)]
    judge.forget(given)
    name_of = _names(problem, outputs)
    yield from zip(samples, (name_of[one] for one in outputs), strict=True)


def _outputs(sample: Sample, future: Future[Judgement], observer: GradingObserver) -> Outputs:
    judgement = future.result()
    if judgement.verdict is Verdict.IE:
        raise GradingError(f"{sample.slot} could not be run ({judgement.message}): try again")
    observer.graded([judgement.verdict])
    return tuple(judgement.answers or ())


def _names(problem: Problem, outputs: Sequence[Outputs]) -> dict[Outputs, str]:
    """Give a number to each behaviour, and no name to that of programs that failed everywhere."""
    is_same = same_by_checker(problem)

    def are_same(first: Outputs, second: Outputs) -> bool:
        pairs = zip(first, second, strict=True)
        return all(a == b or (a is not None and b is not None and is_same(a, b)) for a, b in pairs)

    name_of: dict[Outputs, str] = {}
    kinds: defaultdict[tuple[bool, ...], list[Outputs]] = defaultdict(list)  # by the inputs that have an answer
    # In an order of its own, because with a tolerance "the same" is no equivalence.
    for one in sorted(set(outputs), key=lambda outputs: [output or b"" for output in outputs]):
        answered = tuple(output is not None for output in one)
        if not any(answered):
            name_of[one] = ""
            continue
        known = next((other for other in kinds[answered] if are_same(one, other)), None)
        if known is None:
            kinds[answered].append(one)
        name_of[one] = name_of[known] if known is not None else str(sum(map(len, kinds.values())))
    return name_of
