"""Grading: programs go to the judge, verdicts go to where they are kept, and what the judge fails on stays owed.

`VerdictKeeper` is shared by everything that grades. The executor of a run feeds a judge sample by sample, while others
are still being drawn; `grade_all` feeds it samples that all exist already, in chunks. Nothing here samples.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from alphamix.ensemble.run.progress_events import VerdictObserver
from alphamix.ensemble.store import RUN_SET, Graded, Slot, Store
from alphamix.grading.parallel.batch import BackendOptions, JudgeOptions, Submission, judge_all
from alphamix.grading.types import Failure, Judgement, Problem, Verdict, failure_of

Key = TypeVar("Key")
_Key_contra = TypeVar("_Key_contra", contravariant=True)


class Ungraded(NamedTuple, Generic[Key]):
    """A sample that has no verdict yet."""

    key: Key
    """Identifies the sample to the keeper of its verdict."""
    problem: str
    finish_reason: str | None
    text: str
    is_code: bool


class VerdictSink(Protocol[_Key_contra]):
    """Keeps verdicts."""

    def append(self, judged: Iterable[tuple[_Key_contra, Judgement, Failure | None, Mapping[str, Any]]]) -> None:
        """Store verdicts, each with its sample's key, its failure class and the judge's description of itself."""
        ...


class StoreSink:
    """Keeps verdicts in one set of a run's record."""

    def __init__(self, store: Store, verdict_set: str = RUN_SET) -> None:
        self._store = store
        self._verdict_set = verdict_set

    def append(self, judged: Iterable[tuple[Slot, Judgement, Failure | None, Mapping[str, Any]]]) -> None:
        """Store verdicts, in one transaction per judge: descriptions differ between the machines of a cluster."""
        graded_by: defaultdict[str, list[Graded]] = defaultdict(list)
        for slot, judgement, failure, judge in judged:
            graded_by[json.dumps(judge)].append(Graded(slot, judgement, failure))
        for description, graded in graded_by.items():
            self._store.add_verdicts(graded, description, self._verdict_set)


class VerdictKeeper(Generic[Key]):
    """Keeps verdicts as they come, reports them, and counts the samples that the judge failed on.

    A failure of the judge (IE) says nothing about a program: it is never stored, so its sample is judged again later.
    """

    def __init__(self, sink: VerdictSink[Key], observer: VerdictObserver) -> None:
        self._sink = sink
        self._observer = observer
        self.owed: Counter[str] = Counter()
        """Samples that the judge failed on, by reason."""
        self.missing_modules: Counter[str] = Counter()
        """Programs that failed for want of a module, by its name."""

    def keep(self, judged: Iterable[tuple[Key, str | None, Judgement, Mapping[str, Any]]]) -> list[Key]:
        """Store verdicts; return the keys of samples that are still owed.

        Args:
            judged: key and finish reason of a sample, its judgement, and the judge's description of itself.
        """
        kept: list[tuple[Key, Judgement, Failure | None, Mapping[str, Any]]] = []
        failed: list[Key] = []
        for key, finish_reason, judgement, judge in judged:
            if judgement.verdict is Verdict.IE:
                self.owed[judgement.message] += 1
                failed.append(key)
            else:
                if judgement.missing_module is not None:
                    self.missing_modules[judgement.missing_module] += 1
                kept.append((key, judgement, failure_of(judgement.verdict, finish_reason), judge))
        if kept:
            self._sink.append(kept)
            self._observer.graded([judgement.verdict for _, judgement, *_ in kept])
        return failed


def grade_all(
    problems: Mapping[str, Problem],
    samples: Iterable[Ungraded[Key]],
    num_samples: int,
    keeper: VerdictKeeper[Key],
    options: JudgeOptions,
    backend: BackendOptions,
) -> None:
    """Judge samples that all exist, many at a time, and keep their verdicts as they come.

    Args:
        problems: by id.
        samples: read as they are needed, from threads of the backend; those of one problem should come together.
        num_samples: 0 starts no backend.
        keeper: takes the verdicts.
        options: what each process makes its judge with.
        backend: where the processes run.

    Raises:
        BackendError: the backend is unavailable.
        GradingError: programs cannot be judged safely; verdicts that came before are kept.
    """
    if not num_samples:
        return
    in_flight: dict[int, tuple[Key, str | None]] = {}  # no texts: memory does not grow with the number of samples

    def submissions() -> Iterator[Submission]:
        for number, sample in enumerate(samples):
            in_flight[number] = sample.key, sample.finish_reason
            yield Submission(number, sample.problem, sample.text, sample.is_code)

    with closing(judge_all(problems, submissions(), num_samples, options, backend)) as chunks:
        for judged in chunks:
            keeper.keep((*in_flight.pop(number), judgement, judge) for number, judgement, judge in judged)
