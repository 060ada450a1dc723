"""One pass over everything that a run owes: samples are drawn, and meanwhile graded.

Policies behind URLs are sampled side by side, those that need this machine's memory one after the other; grading runs
in the judge's own threads or processes. All of them put events into one queue, and the thread of `Executor.fill` alone
writes to the store, so a finished sample is stored however long anything else takes. Failures that are not the model's
are stored with their cause: a slot is rejected if asking again would not help, else its sample stays owed.
"""

import queue
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import TypeAlias

from alphamix.ensemble.budget import Currency
from alphamix.ensemble.experiment.resolved import SamplingInputs
from alphamix.ensemble.run.grading_loop import StoreSink, VerdictKeeper
from alphamix.ensemble.run.open_setting import open_setting
from alphamix.ensemble.run.producer_threads import ProducerEnded, ProducerThreads
from alphamix.ensemble.run.progress_events import JudgeLoad, RunObserver, Spent
from alphamix.ensemble.run.slots import sample_owed
from alphamix.ensemble.run.spend_limit import limit_of_run
from alphamix.ensemble.settings.setting import Failed, Sampled
from alphamix.ensemble.store import Sample, Store
from alphamix.grading.judge.judge import Judge
from alphamix.grading.parallel.cluster import ClusterJudge
from alphamix.grading.programs.extract import program_of
from alphamix.grading.types import Judgement
from alphamix.policies.types import Engine, PolicyError

_MAX_FAILURES_IN_A_ROW = 100
"""Failures without a success between them after which a policy is set aside (at least twice its concurrency)."""

_FEWEST_PROBLEMS = 3
"""Problems that such a row of failures must concern, if there are as many: one that a policy refuses, say because it is
too long, says nothing about the others."""

_GATHERING_S = 0.01
"""Time in which events are gathered to be stored together: thousands may come in a second, each at its own time."""

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
class _Gone:
    """A policy cannot be sampled, and is not asked any further."""

    policy: str
    message: str


@dataclass(frozen=True, slots=True)
class _LimitMet:
    """A policy is not asked any further because a limit of the run is spent."""

    policy: str
    message: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """The judge is done with a sample."""

    sample: Sample
    judgement: Future[Judgement]


_Produced: TypeAlias = _Begun | _Outcomes | _Gone | _LimitMet | _Ended
_Event: TypeAlias = _Produced | ProducerEnded | _Judged


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What is left after a pass, in numbers of slots by cause."""

    owed: Counter[str]
    """Slots whose sample or verdict the same command asks for again, perhaps with success."""
    rejected: Counter[str]
    """Slots that cannot be filled: the request was refused, or the policy is gone. They are asked for again, too."""

    @property
    def is_anything(self) -> bool:
        """Whether anything is left."""
        return bool(self.owed or self.rejected)


class Executor:
    """One pass over everything that a run owes.

    Args:
        store: the run's record, with a plan.
        inputs: what samples are drawn from.
        limits: what the whole run may spend, by currency.
        judge: grades the programs.
        observer: hears of everything that happens.
        began: when the run began or went on, in seconds since the epoch; slots for which asking has failed since then
            are not asked for again. None for now.
        on_sampling_here: is told when sampling on this machine begins (True) and ends (False).
    """

    def __init__(
        self,
        store: Store,
        inputs: SamplingInputs,
        limits: Mapping[Currency, float],
        judge: Judge | ClusterJudge,
        observer: RunObserver,
        began: float | None = None,
        on_sampling_here: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._store = store
        self._registry = inputs.registry
        self._asked = inputs.asked
        self._judge = judge
        self._judge_description = judge.describe()
        self._observer = observer
        self._problems = {problem.id: problem for problem in inputs.problems}
        self._settings = {name: open_setting(inputs.section.in_setting(name)) for name in inputs.section.settings.names}
        self._spend_limit = limit_of_run(store, inputs, limits)
        self._keeper = VerdictKeeper(StoreSink(store), observer)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._at_judge: set[int] = set()
        self._programs_at_judge: set[Future[Judgement]] = set()
        """Programs that are being judged: several samples may wait for one."""
        self._num_submitted = 0
        self._num_judged = 0
        """Programs that have been judged for these samples."""
        self._failed_at_judge: set[int] = set()
        self._may_have_ungraded = True
        """Whether the store may hold samples that have no verdict and are not at the judge."""
        self._num_producers = 0
        self._on_sampling_here = on_sampling_here
        self._engines: dict[str, Engine] = {}
        """Engines that are open now, by policy."""
        self._began = time.time() if began is None else began
        self._limits_met: dict[str, str] = {}
        """Why policies were not asked any further, where a limit of the run is spent."""

    def fill(self) -> Unfinished:
        """Sample and grade; return what is left."""
        self._observer.begin(self._store.progress(), self._spend_limit.cap())
        with (
            ExitStack() as settings,
            ProducerThreads[_Produced](self._events.put, _MAX_UNSTORED_GROUPS) as producers,
            self._engines_closed_on_error(),
        ):
            for setting in self._settings.values():
                settings.callback(setting.close)
            for policies in self._concurrent_groups():
                producers.start(self._sample_each(policies))
                self._num_producers += 1
            while True:
                self._submit_from_store()
                if not self._num_producers and not self._at_judge:
                    break
                self._handle_events(producers)
        return self._count_unfinished()

    def _concurrent_groups(self) -> list[list[str]]:
        """Return the policies that owe samples, in groups to sample at once: those of one group share a machine."""
        owing = [name for name in self._asked if self._may_be_asked(name)]
        local = [name for name in owing if not self._is_remote(name)]
        return [[name] for name in owing if self._is_remote(name)] + ([local] if local else [])

    def _is_remote(self, policy: str) -> bool:
        return self._registry.is_remote(self._asked[policy].policy)

    def _sample_each(self, policies: Sequence[str]) -> Generator[_Produced]:
        """Ask policies for what they owe, one after the other, in a producer thread."""
        is_here = not self._is_remote(policies[0])
        if is_here:
            self._on_sampling_here(True)
        for policy in policies:
            yield _Begun(policy)
            try:
                yield from self._sample(policy)
            except PolicyError as error:
                yield _Gone(policy, f"cannot be sampled: {error}")
            yield _Ended(policy)
        if is_here:
            self._on_sampling_here(False)

    def _sample(self, policy: str) -> Generator[_Produced]:
        """Ask one policy for what it owes, unless it fails again and again."""
        section = self._asked[policy].section
        row = _FailuresInARow(max(_MAX_FAILURES_IN_A_ROW, 2 * section.concurrency), len(self._problems))
        with (
            Store(self._store.path, read_only=True) as store,  # a connection belongs to the thread that opened it
            self._opened(policy) as engine,
            closing(
                sample_owed(
                    store,
                    policy,
                    engine,
                    self._problems,
                    self._settings[self._asked[policy].setting],
                    section,
                    self._spend_limit,
                    failed_before=self._began,
                )
            ) as groups,
        ):
            for group in groups:
                yield _Outcomes(policy, group)
                row.add(group)
                if row.is_too_long:
                    yield _Gone(policy, str(row))
                    return
        # The cause counts only samples that were never asked for: none if the policy finished before the limit.
        if spent := self._spend_limit.exhausted(policy):
            yield _LimitMet(policy, f"not asked, since {spent}")

    @contextmanager
    def _opened(self, policy: str) -> Generator[Engine]:
        asked = self._asked[policy]
        with closing(self._registry.open(asked.policy, asked.section.engine_options)) as engine:
            self._engines[policy] = engine
            try:
                yield engine
            finally:
                del self._engines[policy]

    @contextmanager
    def _engines_closed_on_error(self) -> Generator[None]:
        """Close all engines and sandboxes if the block ends by an exception, such as Ctrl-C, so that no thread samples
        on."""
        try:
            yield
        except BaseException:
            for setting in self._settings.values():
                setting.close()
            for engine in list(self._engines.values()):
                engine.close()
            raise

    def _handle_events(self, producers: ProducerThreads[_Produced]) -> None:
        """Wait for an event, and handle all that have come shortly after, with one write for all samples."""
        events = [self._events.get()]
        time.sleep(_GATHERING_S)
        while not self._events.empty():
            events.append(self._events.get())
        samples: list[Sample] = []
        failures: list[Failed] = []
        gone: list[_Gone] = []
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
                case _Gone():
                    gone.append(event)
                case _LimitMet(policy, message):
                    self._limits_met[policy] = message
                case _Outcomes(_, results):
                    samples += [result for result in results if isinstance(result, Sample)]
                    failures += [result for result in results if not isinstance(result, Sample)]
            producers.taken()
        self._keep_samples(samples)
        self._keep_failures(failures, gone)
        self._keep_verdicts(judged)
        self._observer.judging(
            JudgeLoad(self._num_submitted, len(self._at_judge), self._num_judged, len(self._programs_at_judge))
        )
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

    def _keep_failures(self, failures: list[Failed], gone: list[_Gone]) -> None:
        now = time.time()
        if failures:
            self._store.add_failures(((failed.slot, failed.failure) for failed in failures), now)
            self._store.add_lost_costs((failed.slot, failed.lost) for failed in failures if failed.lost.turns)
        for event in gone:  # only now, when what the policy did answer is stored
            self._store.give_up(event.policy, event.message, now)

    def _keep_verdicts(self, judged: list[_Judged]) -> None:
        judgements = [(event.sample, event.judgement.result()) for event in judged]
        failed = self._keeper.keep(
            (sample.slot, sample.completion.finish_reason, judgement, self._judge_description)
            for sample, judgement in judgements
        )
        self._failed_at_judge.update(slot.number for slot in failed)
        self._at_judge.difference_update(sample.slot.number for sample, _ in judgements)
        done = {event.judgement for event in judged} & self._programs_at_judge
        self._programs_at_judge -= done
        self._num_judged += len(done)

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
        if not future.done():  # else an equal program has been judged before
            self._programs_at_judge.add(future)
        self._num_submitted += 1
        future.add_done_callback(lambda done: self._events.put(_Judged(sample, done)))

    def _count_unfinished(self) -> Unfinished:
        """Count every slot that has no verdict under one cause."""
        owed = Counter({f"judge: {reason}": count for reason, count in self._keeper.owed.items()})
        rejected = Counter[str]()
        for failure in self._store.failures():
            (rejected if failure.is_final else owed)[str(failure)] += failure.slots
        for policy, slots in self._num_untried().items():
            if slots:
                owed[f"{policy}: {self._limits_met.get(policy, 'not asked')}"] += slots
        return Unfinished(owed, rejected)

    def _may_be_asked(self, policy: str) -> bool:
        """Return whether a policy has a slot without a sample for which asking has not failed since the run began."""
        slots = chain(self._store.owed_slots(policy), self._store.failed_slots(policy, self._began))
        return next(slots, None) is not None

    def _num_untried(self) -> dict[str, int]:
        """Count the slots of each policy that have neither a sample nor a failure."""
        progress = self._store.progress()
        untried = progress["planned"] - progress["sampled"] - progress["rejected"] - progress["failed"]
        return {str(policy): int(slots) for policy, slots in untried.items()}


class _FailuresInARow:
    """Failures of a policy since its last success."""

    def __init__(self, most: int, num_problems: int) -> None:
        self._most = most
        self._fewest_problems = min(_FEWEST_PROBLEMS, num_problems)
        self._number = 0
        self._problems: set[str] = set()
        self._last = ""

    def add(self, results: Sequence[Sampled]) -> None:
        """Count the failures of a group, or begin anew after a success."""
        for result in results:
            if isinstance(result, Sample):
                self._number = 0
                self._problems.clear()
            else:
                self._number += 1
                self._problems.add(result.slot.problem)
                self._last = f"{result.failure.cause}: {result.failure.message}"

    @property
    def is_too_long(self) -> bool:
        """Whether the policy is not to be asked any further."""
        return self._number >= self._most and len(self._problems) >= self._fewest_problems

    def __str__(self) -> str:
        return f"set aside after {self._number} failures in a row, the last: {self._last}"


def _costs(samples: Sequence[Sample]) -> dict[str, Spent]:
    """Return the cost of samples, by policy."""
    costs: defaultdict[str, Spent] = defaultdict(lambda: Spent(0, 0, 0.0))
    for sample in samples:
        costs[sample.slot.policy] += Spent(1, sample.completion.completion_tokens, sample.completion.seconds)
    return costs
