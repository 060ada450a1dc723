"""One pass over everything that a run owes: samples are drawn, and meanwhile graded.

Policies behind URLs are sampled side by side, those that need this machine's memory one after the other; grading runs
in the judge's own threads or processes. All of them put events into one queue, and the thread of `Executor.fill` alone
writes to the store, so a finished sample is stored however long anything else takes. Failures that are not the model's
are counted by cause, and their samples stay owed.
"""

import queue
from collections import Counter, defaultdict
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

from alphamix.ensemble.budget import Currency
from alphamix.ensemble.experiment.resolved import SamplingInputs
from alphamix.ensemble.run.grading_loop import StoreSink, VerdictKeeper
from alphamix.ensemble.run.producer_threads import ProducerEnded, ProducerThreads
from alphamix.ensemble.run.progress_events import RunObserver, Spent
from alphamix.ensemble.run.slots import sample_owed
from alphamix.ensemble.run.spend_limit import limit_of_run
from alphamix.ensemble.settings.setting import Sampled
from alphamix.ensemble.store import Sample, Store
from alphamix.grading.judge.judge import Judge
from alphamix.grading.parallel.cluster import ClusterJudge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement
from alphamix.policies.types import PolicyError

_MAX_FAILURES_IN_A_ROW = 100
"""Failures without a success between them after which a policy is set aside (at least twice its concurrency)."""

_MAX_UNSTORED_GROUPS = 1024
"""Groups of samples that may wait to be stored; beyond that, sampling waits."""

_MAX_AT_JUDGE = 4096
"""Samples that wait in memory for their verdicts; those beyond are read again from the store later."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """Sampling of a policy begins."""

    policy: str


@dataclass(frozen=True, slots=True)
class _Ended:
    """Sampling of a policy is over."""

    policy: str


@dataclass(frozen=True, slots=True)
class _Outcomes:
    """Samples and failures of one group."""

    policy: str
    results: list[Sampled]


@dataclass(frozen=True, slots=True)
class _SetAside:
    """A policy is not asked any further."""

    policy: str
    cause: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """The judge is done with a sample."""

    sample: Sample
    judgement: Future[Judgement]


_Produced: TypeAlias = _Begun | _Outcomes | _SetAside | _Ended
_Event: TypeAlias = _Produced | ProducerEnded | _Judged


class Executor:
    """One pass over everything that a run owes.

    Args:
        store: the run's record, with a plan.
        inputs: what samples are drawn from.
        limits: what the whole run may spend, by currency.
        judge: grades the programs.
        observer: hears of everything that happens.
    """

    def __init__(
        self,
        store: Store,
        inputs: SamplingInputs,
        limits: Mapping[Currency, float],
        judge: Judge | ClusterJudge,
        observer: RunObserver,
    ) -> None:
        self._store = store
        self._registry = inputs.registry
        self._section = inputs.section
        self._judge = judge
        self._judge_description = judge.describe()
        self._observer = observer
        self._problems = {problem.id: problem for problem in inputs.problems}
        self._spend_limit = limit_of_run(store, inputs, limits)
        self._keeper = VerdictKeeper(StoreSink(store), observer)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._at_judge: set[int] = set()
        self._failed_at_judge: set[int] = set()
        self._may_have_ungraded = True
        """Whether the store may hold samples that have no verdict and are not at the judge."""
        self._num_producers = 0
        self._failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Failures of each policy's engine, by cause."""
        self._set_aside: dict[str, str] = {}

    def fill(self) -> Counter[str]:
        """Sample and grade; return what is still owed, counted by cause."""
        self._observer.begin(self._store.progress(), self._spend_limit.cap())
        with ProducerThreads[_Produced](self._events.put, _MAX_UNSTORED_GROUPS) as producers:
            for policies in self._concurrent_groups():
                producers.start(self._sample_each(policies))
                self._num_producers += 1
            while True:
                self._submit_from_store()
                if not self._num_producers and not self._at_judge:
                    break
                self._handle_events(producers)
        return self._count_owed()

    def _concurrent_groups(self) -> list[list[str]]:
        """Return the policies that owe samples, in groups to sample at once: those of one group share a machine."""
        num_owed = self._num_owed()
        owing = [name for name in self._registry.names if num_owed[name]]
        local = [name for name in owing if not self._registry.is_remote(name)]
        return [[name] for name in owing if self._registry.is_remote(name)] + ([local] if local else [])

    def _sample_each(self, policies: Sequence[str]) -> Generator[_Produced]:
        """Ask policies for what they owe, one after the other, in a producer thread."""
        for policy in policies:
            yield _Begun(policy)
            try:
                yield from self._sample(policy)
            except PolicyError as error:
                yield _SetAside(policy, f"cannot be sampled: {error}")
            yield _Ended(policy)

    def _sample(self, policy: str) -> Generator[_Produced]:
        """Ask one policy for what it owes, unless it fails again and again."""
        section = self._section
        max_failures = max(_MAX_FAILURES_IN_A_ROW, 2 * section.concurrency)
        failures_in_a_row = 0
        with (
            Store(self._store.path, read_only=True) as store,  # a connection belongs to the thread that opened it
            closing(self._registry.open(policy, section.engine_options)) as engine,
            closing(sample_owed(store, policy, engine, self._problems, section, self._spend_limit)) as groups,
        ):
            for group in groups:
                yield _Outcomes(policy, group)
                for result in group:
                    failures_in_a_row = 0 if isinstance(result, Sample) else failures_in_a_row + 1
                if failures_in_a_row >= max_failures:
                    yield _SetAside(policy, f"set aside after {failures_in_a_row} failures in a row")
                    return
        # The cause counts only samples that were never asked for: none if the policy finished before the limit.
        if spent := self._spend_limit.exhausted(policy):
            yield _SetAside(policy, f"not asked, since {spent}")

    def _handle_events(self, producers: ProducerThreads[_Produced]) -> None:
        """Wait for an event, and handle all that have come, with one write for all samples."""
        events = [self._events.get()]
        while not self._events.empty():
            events.append(self._events.get())
        samples: list[Sample] = []
        judged: list[_Judged] = []
        ended: list[str] = []
        for event in events:
            match event:
                case _Judged():
                    judged.append(event)
                    continue
                case ProducerEnded(error):
                    self._num_producers -= 1
                    if error is not None:
                        raise error
                    continue
                case _Begun(policy):
                    self._observer.began(policy)
                case _Ended(policy):
                    ended.append(policy)
                case _SetAside(policy, cause):
                    self._set_aside[policy] = cause
                case _Outcomes(policy, results):
                    for result in results:
                        if isinstance(result, Sample):
                            samples.append(result)
                        else:
                            _, failure = result
                            self._failures[policy][f"{failure.cause}: {failure.message}"] += 1
            producers.taken()
        self._keep_samples(samples)
        self._keep_verdicts(judged)
        for policy in ended:  # only now, when its last samples are stored
            self._observer.ended(policy)

    def _keep_samples(self, samples: list[Sample]) -> None:
        if not samples:
            return
        self._store.add_samples(samples)
        for policy, costs in _costs(samples).items():
            self._observer.sampled(policy, costs)
        for sample in samples:
            if len(self._at_judge) < _MAX_AT_JUDGE:
                self._submit(sample)
            else:
                self._may_have_ungraded = True

    def _keep_verdicts(self, judged: list[_Judged]) -> None:
        judgements = [(event.sample, event.judgement.result()) for event in judged]
        failed = self._keeper.keep(
            (sample.slot, sample.completion.finish_reason, judgement, self._judge_description)
            for sample, judgement in judgements
        )
        self._failed_at_judge.update(slot.number for slot in failed)
        self._at_judge.difference_update(sample.slot.number for sample, _ in judgements)

    def _submit_from_store(self) -> None:
        """Submit stored samples that have no verdict, once there is room for many: each time costs a query."""
        room = _MAX_AT_JUDGE - len(self._at_judge)
        if not self._may_have_ungraded or room < _MAX_AT_JUDGE / 2:
            return
        known = self._at_judge | self._failed_at_judge
        waiting = list(islice((sample for sample in self._store.ungraded() if sample.slot.number not in known), room))
        self._may_have_ungraded = len(waiting) == room
        for sample in waiting:
            self._submit(sample)

    def _submit(self, sample: Sample) -> None:
        problem = self._problems[sample.slot.problem]
        program = program_of(sample.completion.text, problem, is_code=sample.is_code)
        future = self._judge.submit(problem, program)
        self._at_judge.add(sample.slot.number)
        future.add_done_callback(lambda done: self._events.put(_Judged(sample, done)))

    def _count_owed(self) -> Counter[str]:
        """Count every slot that has no verdict under one cause."""
        owed = Counter({f"judge: {reason}": count for reason, count in self._keeper.owed.items()})
        num_owed = self._num_owed()
        for policy in self._registry.names:
            causes = self._failures[policy]
            never_asked = num_owed[policy] - causes.total()
            if never_asked:
                causes[self._set_aside.get(policy, "not asked")] += never_asked
            owed.update({f"{policy}: {cause}": count for cause, count in causes.items()})
        return owed

    def _num_owed(self) -> Counter[str]:
        """Count the slots of each policy that have no sample."""
        progress = self._store.progress()
        owed = progress["planned"] - progress["sampled"]
        return Counter({str(policy): int(count) for policy, count in owed.items()})


def _costs(samples: Sequence[Sample]) -> dict[str, Spent]:
    """Return the cost of samples, by policy."""
    costs: defaultdict[str, Spent] = defaultdict(lambda: Spent(0, 0, 0.0))
    for sample in samples:
        costs[sample.slot.policy] += Spent(1, sample.completion.completion_tokens, sample.completion.seconds)
    return costs
