"""Servers that fail in every way: a run ends complete or with what it owes by cause, and going on completes it."""

import random
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alphamix.ensemble.experiment.config import load
from alphamix.ensemble.experiment.resolved import Inputs, read_inputs
from alphamix.ensemble.run.executor import Executor
from alphamix.ensemble.run.progress_events import JudgeLoad, Spent
from alphamix.ensemble.run.slots import plan_slots
from alphamix.ensemble.store import STORE_NAME, Store
from alphamix.grading.types import Judgement, Verdict
from alphamix.policies.engines.openai import failures
from alphamix.policies.engines.openai.fake_server import AnyReply, json_reply

from . import faults
from .faults import FAULTS, Fault

SAMPLES = 12


class Judge:
    """Accepts everything at once."""

    def submit(self, problem: Any, program: Any) -> "Future[Judgement]":
        future: Future[Judgement] = Future()
        future.set_result(Judgement(Verdict.AC, 3, 3, None, 0.0, 0.0, ""))
        return future

    def describe(self) -> dict[str, Any]:
        return {"version": "of the tests"}


class JudgeOfEqualPrograms(Judge):
    """Runs one program for all samples of a problem, once it has them all."""

    def __init__(self, samples_per_problem: int) -> None:
        self._samples_per_problem = samples_per_problem
        self._submitted = Counter[str]()
        self._futures: dict[str, Future[Judgement]] = {}

    def submit(self, problem: Any, program: Any) -> "Future[Judgement]":
        future = self._futures.setdefault(problem.id, Future())
        self._submitted[problem.id] += 1
        if self._submitted[problem.id] == self._samples_per_problem:
            threading.Timer(0.05, future.set_result, [Judgement(Verdict.AC, 3, 3, None, 0.0, 0.0, "")]).start()
        return future


class Monitor:
    def __init__(self) -> None:
        self.num_sampled = 0
        self.load = JudgeLoad(0, 0, 0, 0)

    def begin(self, progress: object, cap: object = None) -> None: ...
    def began(self, policy: str) -> None: ...
    def ended(self, policy: str) -> None: ...
    def sampled(self, policy: str, spent: Spent) -> None:
        self.num_sampled += spent.samples

    def graded(self, verdicts: object) -> None: ...
    def judging(self, load: JudgeLoad) -> None:
        self.load = load


class Run:
    """A run of the trial: planned once, filled as often as asked."""

    def __init__(self, trial: Path, *overrides: str) -> None:
        settings = (f"budget.samples={SAMPLES}", "sampling.choices=4", *overrides)
        self.inputs: Inputs = read_inputs(load(trial, settings))
        self.path = trial.parent / STORE_NAME
        design = self.inputs.design
        self.planned = list(plan_slots(design.policies, design.problems, self.inputs.experiment.budget.samples, 0))
        with Store(self.path) as store:
            store.plan(self.planned, {"made": "here"})

    def fill(self, judge: Any = None) -> Counter[str]:
        """Fill, check that what is owed is exactly what is missing, and return it by cause."""
        judge = judge or Judge()
        self.monitor = monitor = Monitor()
        with Store(self.path) as store:
            before = len(list(store.samples()))
            left = Executor(
                store, self.inputs.sampling, self.inputs.experiment.budget.run.amounts, judge, monitor
            ).fill()
            owed = left.owed + left.rejected
            found = list(store.samples())
            assert len(self.planned) - len(found) == owed.total()
            assert len(found) - before == monitor.num_sampled
            assert len(list(store.graded())) == len(found)
            assert {sample.slot for sample in found} <= set(self.planned)
        return owed

    def fill_in_haste(self) -> Counter[str]:
        """Fill with a deadline that late replies miss; on a busy machine others may miss it, too."""
        patient = self.inputs
        section = patient.sampling.section.model_copy(update={"deadline_s": faults.LATE_S / 2})
        self.inputs = replace(patient, sampling=replace(patient.sampling, section=section))
        owed = self.fill()
        self.inputs = patient
        return owed

    def texts(self) -> dict[int, str]:
        """Of each slot, by its seed."""
        with Store(self.path) as store:
            return {sample.slot.seed: sample.completion.text for sample in store.samples()}

    @property
    def expected(self) -> dict[int, str]:
        return {slot.seed: program(slot.policy, "", slot.seed) for slot in self.planned}


def program(model: str, prompt: str, seed: int) -> str:
    return f"{model} {seed}"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, server: Any) -> None:
    monkeypatch.setattr(failures, "_FIRST_WAIT_S", 0.01)
    server.answer = program
    server.honours_n = True


def test_equal_programs_count_once_for_the_judge(trial: Path) -> None:
    run = Run(trial)
    policies, problems = run.inputs.design.policies, run.inputs.design.problems
    assert not run.fill(JudgeOfEqualPrograms(SAMPLES * len(policies)))
    assert run.monitor.load == JudgeLoad(len(run.planned), 0, len(problems), 0)


def at_random(chosen: list[Fault], share: float) -> Callable[[int], Fault | None]:
    rng, lock = random.Random(0), threading.Lock()

    def fault(number: int) -> Fault | None:
        with lock:
            return rng.choice(chosen) if rng.random() < share else None

    return fault


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("honours_n", [True, False], ids=["n", "one by one"])
def test_a_fault_now_and_then_loses_nothing(kind: str, honours_n: bool, trial: Path, server: Any) -> None:
    server.honours_n = honours_n
    server.fault = at_random([FAULTS[kind]], 0.3)
    run = Run(trial)
    owed = run.fill_in_haste() if kind == "late" else run.fill()
    server.fault = lambda number: None
    assert not owed or not run.fill()
    texts = run.texts()
    assert texts.keys() == run.expected.keys()
    blank = {seed for seed, text in texts.items() if text == ""}
    assert bool(blank) == (kind == "empty")  # an empty text that has finished is an answer
    assert {s: t for s, t in texts.items() if s not in blank} == {
        s: t for s, t in run.expected.items() if s not in blank
    }


def test_all_faults_at_once_lose_nothing(trial: Path, server: Any) -> None:
    server.fault = at_random([FAULTS[kind] for kind in FAULTS if kind != "empty"], 0.4)
    run = Run(trial)
    for _ in range(10):
        if not (owed := run.fill_in_haste()):
            break
        assert all(cause.startswith(("even: ", "odd: ")) for cause in owed)
    else:
        server.fault = lambda number: None
        assert not run.fill()
    assert run.texts() == run.expected


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("429", "rate_limit"),
        ("500", "server"),
        ("503", "server"),
        ("reset", "connection"),
        ("half-closed", "connection"),
        ("truncated", "malformed"),
        ("error inside", "malformed"),
        ("none", "malformed"),
        ("late", "timeout"),
    ],
)
@pytest.mark.slow
def test_a_server_that_only_fails_is_asked_a_bounded_number_of_times(
    kind: str, cause: str, trial: Path, server: Any
) -> None:
    server.fault = lambda number: FAULTS[kind]
    run = Run(trial)
    owed = run.fill_in_haste() if kind == "late" else run.fill()
    assert owed.total() == len(run.planned)
    assert all(f"{cause}: " in one for one in owed), owed
    assert len(server.seeds) <= 6 * len(run.planned)
    server.fault = lambda number: None
    assert not run.fill()
    assert run.texts() == run.expected


def test_a_policy_that_only_fails_does_not_hold_up_the_others(trial: Path, server: Any) -> None:
    server.answer = lambda model, prompt, seed: 400 if model == "even" else program(model, prompt, seed)
    run = Run(trial, "sampling.concurrency=8", "budget.samples=60")
    owed = run.fill()
    assert owed.total() == 180
    assert {cause.split(":")[0] for cause in owed} == {"even"}
    assert any("set aside after 1" in cause for cause in owed)
    assert Counter(model for model, _, _ in server.seeds)["even"] < 2 * 180 / 4  # a group, then one of it alone


def test_a_stuck_call_holds_up_neither_other_samples_nor_another_policy(trial: Path, server: Any) -> None:
    released = threading.Event()

    def stuck(body: faults.Body) -> AnyReply:
        released.wait(60)
        return json_reply(body)

    server.fault = lambda number: stuck if number == 0 else None
    run = Run(trial)
    filling = threading.Thread(target=lambda: run.fill(), daemon=True)
    filling.start()
    while filling.is_alive():
        with suppress(Exception), Store(run.path, read_only=True) as store:  # not there yet
            if store.progress()["graded"].sum() == len(run.planned) - 4:
                break
    assert filling.is_alive()
    released.set()
    filling.join(60)
    assert run.texts() == run.expected


def test_policies_behind_urls_are_sampled_at_the_same_time(trial: Path, server: Any) -> None:
    together = threading.Barrier(2)  # passes only if both policies are asked at once

    def answer(model: str, prompt: str, seed: int) -> str:
        if model not in met:
            met.add(model)
            together.wait(60)
        return program(model, prompt, seed)

    met: set[str] = set()
    server.answer = answer
    assert not Run(trial, "sampling.concurrency=1").fill()


def test_the_judge_is_told_while_this_machine_samples(
    trial: Path, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bool] = []
    judge: Any = Judge()
    remote, here = (Run(folder) for folder in _copies(trial))
    with Store(remote.path) as store:
        Executor(store, remote.inputs.sampling, {}, judge, Monitor(), on_sampling_here=told.append).fill()
    assert told == []
    monkeypatch.setattr(type(here.inputs.sampling.registry), "is_remote", lambda *_: False)
    with Store(here.path) as store:
        Executor(store, here.inputs.sampling, {}, judge, Monitor(), on_sampling_here=told.append).fill()
        assert store.progress()["sampled"].sum() == len(here.planned)
    assert told == [True, False]


def _copies(trial: Path) -> list[Path]:
    for name in ("first", "second"):
        shutil.copytree(trial.parent, trial.parent.parent / f"{trial.parent.name}-{name}")
    return [trial.parent.parent / f"{trial.parent.name}-{name}" / trial.name for name in ("first", "second")]
