"""Filling a plan: sample what is owed, and grade it meanwhile.

Sampling runs in this thread, grading in the judge's; between them stands one queue. Only this thread writes to the
store. Whatever fails on our side is counted by cause and stays owed.
"""

import json
import queue
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import closing
from typing import Protocol

from ensemble.inputs import Inputs
from ensemble.sampling import sample_owed
from ensemble.store import Graded, Sample, Store
from grading.extract import extract_program
from grading.judge import Judge
from grading.types import Judgement, Verdict, failure_of
from policies.engines import EngineOptions

_MAX_FAILURES_IN_A_ROW = 100
"""A policy that fails so often with no success between is set aside, so that the others can finish."""


class Monitor(Protocol):
    """Watches a run. Each call says what has just happened."""

    def begin(self, planned: int, sampled: int, graded: int) -> None:
        """Say how many slots there are, and how many were done before."""
        ...

    def policy(self, name: str) -> None:
        """Say whose turn it is."""
        ...

    def sampled(self, count: int, tokens: int) -> None:
        """Count new samples and their completion tokens."""
        ...

    def graded(self, verdicts: Sequence[Verdict]) -> None:
        """Count new verdicts."""
        ...


class Filling:
    """One pass over everything that a run owes."""

    def __init__(self, store: Store, inputs: Inputs, judge: Judge, monitor: Monitor) -> None:
        self._store = store
        self._inputs = inputs
        self._judge = judge
        self._judge_description = json.dumps(judge.describe())
        self._monitor = monitor
        self._problems = {problem.id: problem for problem in inputs.problems}
        self._judged: queue.SimpleQueue[tuple[Sample, Future[Judgement]]] = queue.SimpleQueue()
        self._waiting = 0
        self._owed: Counter[str] = Counter()

    def fill(self) -> Counter[str]:
        """Sample and grade; return what is still owed, counted by cause.

        Raises:
            PolicyError: a policy cannot be opened.
        """
        progress = self._store.progress()
        self._monitor.begin(*(int(progress[column].sum()) for column in ("planned", "sampled", "graded")))
        for sample in list(self._store.ungraded()):
            self._submit(sample)
        for policy in self._inputs.registry.names:
            if self._store.owed(policy):
                self._sample(policy)
        while self._waiting:
            self._collect(wait=True)
        return self._owed

    def _sample(self, policy: str) -> None:
        """Ask one policy for what it owes, unless it fails again and again."""
        section = self._inputs.experiment.sampling
        options = EngineOptions(
            batch_size=section.batch_size,
            concurrency=section.concurrency,
            first_byte_timeout_s=section.first_byte_timeout_s,
            idle_timeout_s=section.idle_timeout_s,
            deadline_s=section.deadline_s,
        )
        self._monitor.policy(policy)
        causes: Counter[str] = Counter()
        failures_in_a_row = 0
        with (
            closing(self._inputs.registry.open(policy, options)) as engine,
            closing(sample_owed(self._store, policy, engine, self._problems, section)) as groups,
        ):
            for group in groups:
                for result in group:
                    if isinstance(result, Sample):
                        failures_in_a_row = 0
                        self._monitor.sampled(1, result.completion.completion_tokens)
                        self._submit(result)
                    else:
                        failures_in_a_row += 1
                        _, failure = result
                        causes[f"{failure.cause}: {failure.message}"] += 1
                self._collect(wait=False)
                if failures_in_a_row >= _MAX_FAILURES_IN_A_ROW:
                    break
        never_asked = len(self._store.owed(policy)) - causes.total()
        if never_asked:
            causes[f"set aside after {failures_in_a_row} failures in a row"] = never_asked
        self._owed.update({f"{policy}: {cause}": count for cause, count in causes.items()})

    def _submit(self, sample: Sample) -> None:
        problem = self._problems[sample.slot.problem]
        future = self._judge.submit(problem, extract_program(sample.completion.text, problem.prologue))
        self._waiting += 1
        future.add_done_callback(lambda done: self._judged.put((sample, done)))

    def _collect(self, *, wait: bool) -> None:
        """Store the verdicts that have come; `wait` for at least one."""
        finished = [self._judged.get()] if wait else []
        while not self._judged.empty():
            finished.append(self._judged.get())
        graded: list[Graded] = []
        for sample, future in finished:
            self._waiting -= 1
            judgement = future.result()
            if judgement.verdict is Verdict.IE:
                self._owed[f"judge: {judgement.message}"] += 1
            else:
                failure = failure_of(judgement.verdict, sample.completion.finish_reason)
                graded.append(Graded(sample.slot, judgement, failure))
        if graded:
            self._store.add_verdicts(graded, self._judge_description)
            self._monitor.graded([one.judgement.verdict for one in graded])
