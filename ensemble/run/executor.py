"""Filling a plan: sample what is owed, and grade it meanwhile.

Policies behind URLs are sampled side by side, those that need this machine's memory one after the other; grading runs
in the judge's threads. All of them fill one queue, and this thread alone writes to the store, so what is finished is
kept however long something else takes. Whatever fails on our side is counted by cause and stays owed.
"""

import json
import queue
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import numpy as np

from alphamix.ensemble.budget import CURRENCIES, Currency
from alphamix.ensemble.experiment.resolved import Inputs
from alphamix.ensemble.run.producer_threads import ProducerEnded, ProducerThreads
from alphamix.ensemble.run.progress_events import RunObserver, Spent
from alphamix.ensemble.run.slots import Sampled, sample_owed
from alphamix.ensemble.run.spend_limit import UNLIMITED, SpendLimit
from alphamix.ensemble.store import Graded, Sample, Store
from alphamix.grading.judge.judge import Judge
from alphamix.grading.parallel.cluster import ClusterJudge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement, Verdict, failure_of
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import Completion, PolicyError

_MAX_FAILURES_IN_A_ROW = 100
"""A policy that fails so often with no success between (and twice for each that may be in flight) is set aside."""

_FIRST_BY_TIME = 32
"""Samples that a limit in seconds is taken to pay for until it is known how long one takes."""

_MOST_AHEAD = 1024
"""Groups of samples that are not stored yet; then sampling waits."""

_MOST_AT_THE_JUDGE = 4096
"""Samples that wait for their verdicts in memory; what is beyond is read again from the store when its turn comes."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """A policy's turn has come."""

    policy: str


@dataclass(frozen=True, slots=True)
class _Ended:
    """A policy's turn is over."""

    policy: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """Samples and failures that came together."""

    policy: str
    results: list[Sampled]


@dataclass(frozen=True, slots=True)
class _SetAside:
    """A policy is asked no further, and why."""

    policy: str
    cause: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """The judge is done with a sample."""

    sample: Sample
    judgement: Future[Judgement]


_FromLane: TypeAlias = _Begun | _Asked | _SetAside | _Ended
_Event: TypeAlias = _FromLane | ProducerEnded | _Judged


class Executor:
    """One pass over everything that a run owes."""

    def __init__(self, store: Store, inputs: Inputs, judge: Judge | ClusterJudge, monitor: RunObserver) -> None:
        self._store = store
        self._inputs = inputs
        self._judge = judge
        self._judge_description = json.dumps(judge.describe())
        self._monitor = monitor
        self._problems = {problem.id: problem for problem in inputs.problems}
        self._allowance = _allowance(store, inputs)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._at_judge: set[int] = set()
        self._failed_at_judge: set[int] = set()
        self._ungraded_in_store = True
        """Whether samples may be there that have no verdict and are not at the judge."""
        self._lanes_running = 0
        self._causes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Failures of each policy's engine."""
        self._set_aside: dict[str, str] = {}
        self._owed: Counter[str] = Counter()

    def fill(self) -> Counter[str]:
        """Sample and grade; return what is still owed, counted by cause."""
        self._monitor.begin(self._store.progress(), self._allowance.cap())
        with ProducerThreads[_FromLane](self._events.put, _MOST_AHEAD) as lanes:
            for policies in self._side_by_side():
                lanes.start(self._sample_each(policies))
                self._lanes_running += 1
            while True:
                self._submit_from_store()
                if not self._lanes_running and not self._at_judge:
                    break
                self._take(lanes)
        self._count_owed_samples()
        return self._owed

    def _side_by_side(self) -> list[list[str]]:
        """Policies that owe samples, as they can be sampled at once: those in one list share a machine."""
        registry = self._inputs.registry
        num_owed = self._num_owed()
        owing = [name for name in registry.names if num_owed[name]]
        local = [name for name in owing if not registry.is_remote(name)]
        return [[name] for name in owing if registry.is_remote(name)] + ([local] if local else [])

    def _sample_each(self, policies: Sequence[str]) -> Generator[_FromLane]:
        """Ask policies for what they owe, one after the other, in a thread of a lane."""
        for policy in policies:
            yield _Begun(policy)
            try:
                yield from self._sample(policy)
            except PolicyError as error:
                yield _SetAside(policy, f"cannot be sampled: {error}")
            yield _Ended(policy)

    def _sample(self, policy: str) -> Generator[_FromLane]:
        """Ask one policy for what it owes, unless it fails again and again."""
        section = self._inputs.experiment.sampling
        options = EngineOptions(
            batch_size=section.batch_size,
            concurrency=section.concurrency,
            choices=section.choices,
            first_byte_timeout_s=section.first_byte_timeout_s,
            idle_timeout_s=section.idle_timeout_s,
            deadline_s=section.deadline_s,
        )
        most_failures = max(_MAX_FAILURES_IN_A_ROW, 2 * section.concurrency)
        failures_in_a_row = 0
        with (
            Store(self._store.path, read_only=True) as store,  # a connection is of one thread
            closing(self._inputs.registry.open(policy, options)) as engine,
            closing(sample_owed(store, policy, engine, self._problems, section, self._allowance)) as groups,
        ):
            for group in groups:
                yield _Asked(policy, group)
                for result in group:
                    failures_in_a_row = 0 if isinstance(result, Sample) else failures_in_a_row + 1
                if failures_in_a_row >= most_failures:
                    yield _SetAside(policy, f"set aside after {failures_in_a_row} failures in a row")
                    return
        if spent := self._allowance.exhausted(policy):  # nothing is owed for it where the policy came to its end
            yield _SetAside(policy, f"not asked, since {spent}")

    def _take(self, lanes: ProducerThreads[_FromLane]) -> None:
        """Wait for something to happen, and see to all that has happened, with one write for all samples."""
        events = [self._events.get()]
        while not self._events.empty():
            events.append(self._events.get())
        samples: list[Sample] = []
        judged: list[_Judged] = []
        over: list[str] = []
        for event in events:
            match event:
                case _Judged():
                    judged.append(event)
                    continue
                case ProducerEnded(error):
                    self._lanes_running -= 1
                    if error is not None:
                        raise error
                    continue
                case _Begun(policy):
                    self._monitor.began(policy)
                case _Ended(policy):
                    over.append(policy)
                case _SetAside(policy, cause):
                    self._set_aside[policy] = cause
                case _Asked(policy, results):
                    for result in results:
                        if isinstance(result, Sample):
                            samples.append(result)
                        else:
                            _, failure = result
                            self._causes[policy][f"{failure.cause}: {failure.message}"] += 1
            lanes.taken()
        self._keep_samples(samples)
        self._keep_verdicts(judged)
        for policy in over:  # after its last samples
            self._monitor.ended(policy)

    def _keep_samples(self, samples: list[Sample]) -> None:
        if not samples:
            return
        self._store.add_samples(samples)
        for policy, costs in _costs(samples).items():
            self._monitor.sampled(policy, costs)
        for sample in samples:
            if len(self._at_judge) < _MOST_AT_THE_JUDGE:
                self._submit(sample)
            else:
                self._ungraded_in_store = True

    def _keep_verdicts(self, judged: list[_Judged]) -> None:
        graded: list[Graded] = []
        for one in judged:
            slot, judgement = one.sample.slot, one.judgement.result()
            self._at_judge.discard(slot.number)
            if judgement.verdict is Verdict.IE:
                self._failed_at_judge.add(slot.number)
                self._owed[f"judge: {judgement.message}"] += 1
            else:
                failure = failure_of(judgement.verdict, one.sample.completion.finish_reason)
                graded.append(Graded(slot, judgement, failure))
        if graded:
            self._store.add_verdicts(graded, self._judge_description)
            self._monitor.graded([one.judgement.verdict for one in graded])

    def _submit_from_store(self) -> None:
        """Bring samples to the judge that were stored without one, once there is room for many."""
        room = _MOST_AT_THE_JUDGE - len(self._at_judge)
        if not self._ungraded_in_store or room < _MOST_AT_THE_JUDGE / 2:
            return
        known = self._at_judge | self._failed_at_judge
        waiting = list(islice((one for one in self._store.ungraded() if one.slot.number not in known), room))
        self._ungraded_in_store = len(waiting) == room
        for sample in waiting:
            self._submit(sample)

    def _submit(self, sample: Sample) -> None:
        problem = self._problems[sample.slot.problem]
        program = program_of(sample.completion.text, problem.prologue, is_code=sample.is_code)
        future = self._judge.submit(problem, program)
        self._at_judge.add(sample.slot.number)
        future.add_done_callback(lambda done: self._events.put(_Judged(sample, done)))

    def _count_owed_samples(self) -> None:
        """Count every slot that has no sample under one cause."""
        num_owed = self._num_owed()
        for policy in self._inputs.registry.names:
            causes = self._causes[policy]
            never_asked = num_owed[policy] - causes.total()
            if never_asked:
                causes[self._set_aside.get(policy, "not asked")] += never_asked
            self._owed.update({f"{policy}: {cause}": count for cause, count in causes.items()})

    def _num_owed(self) -> Counter[str]:
        """Slots of each policy that have no sample."""
        progress = self._store.progress()
        return Counter(
            {str(policy): int(count) for policy, count in (progress["planned"] - progress["sampled"]).items()}
        )


def _allowance(store: Store, inputs: Inputs) -> SpendLimit:
    """What the whole run may still spend; a sample is taken to cost the most it can until one is known.

    An embedded engine draws whole batches or nothing: its first one must be affordable, or no cost is ever known.
    """
    section, limits = inputs.experiment.sampling, inputs.experiment.budget.run.limits
    if not limits:
        return UNLIMITED
    is_embedded = not all(map(inputs.registry.is_remote, inputs.registry.names))
    batch = section.batch_size if is_embedded else 1
    at_first: dict[Currency, float] = {
        "samples": 1,
        "tokens": min(section.max_tokens, limits.get("tokens", np.inf) / batch),
        "seconds": limits.get("seconds", 0.0) / max(_FIRST_BY_TIME, batch),
    }
    done = store.progress().rename(columns={"sampled": "samples"})[list(CURRENCIES)]
    spent: dict[str, dict[Currency, float]] = {
        str(policy): {currency: float(costs[currency]) for currency in CURRENCIES} for policy, costs in done.iterrows()
    }
    return SpendLimit(limits, spent, at_first)


def _costs(samples: Sequence[Sample]) -> dict[str, Spent]:
    """What samples cost, by policy."""
    found: defaultdict[str, list[Completion]] = defaultdict(list)
    for sample in samples:
        found[sample.slot.policy].append(sample.completion)
    return {
        policy: Spent(len(some), sum(one.completion_tokens for one in some), sum(one.seconds for one in some))
        for policy, some in found.items()
    }
