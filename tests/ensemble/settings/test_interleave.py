"""Thousands of attempts take turns over one session, and none waits for the call of another."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from alphamix.ensemble.settings.interleave import MOST_OPEN, interleave, seed_of_turn
from alphamix.ensemble.settings.loop import Ask, LimitReachedError, Loop, Submit
from alphamix.ensemble.settings.prompts import OpeningPrompt
from alphamix.ensemble.settings.reasoning import Reasoning
from alphamix.ensemble.settings.setting import Attempt, Failed, Sampled
from alphamix.ensemble.store import AttemptUsage, Sample, Slot
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallResult, ShownText
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.types import Completion, EngineFailure, Message, Request, SamplingParameters

PROBLEM = Problem.model_validate({"id": "p", "statement": "Do it.", "tests": [{"input": "", "output": ""}]})
PARAMETERS = SamplingParameters(max_tokens=100)


def slots(count: int) -> list[Slot]:
    return [Slot(number, "low", "p", number, 10 * number) for number in range(count)]


def shown(text: str = "") -> CallResult:
    return CallResult("ok", 0, ShownText(text), ShownText(""), cpu_s=0.1, wall_s=0.25)


@dataclass
class Sandbox:
    """Runs code by a function, which gives a result, a future or an exception."""

    answer: Callable[[str], Any] = lambda code: shown(code)
    closed: int = 0

    def run(self, code: str) -> Future[CallResult]:
        given = self.answer(code)
        if isinstance(given, Future):
            return given
        future: Future[CallResult] = Future()
        if isinstance(given, BaseException):
            future.set_exception(given)
        else:
            future.set_result(given)
        return future

    def close(self) -> None:
        self.closed += 1


Run = Callable[[str], Future[CallResult]]


@dataclass
class Looping:
    """A setting that is one generator function, which is given what runs code."""

    loop: Callable[[Run], Loop]
    sandbox: Callable[[], Sandbox] = Sandbox
    sandboxes: list[Sandbox] = field(default_factory=list)
    is_one_turn: bool = False
    max_turns: int | None = None

    def begin(self, problem: Problem) -> Attempt:
        self.sandboxes.append(self.sandbox())
        prompt = OpeningPrompt("test", ({"role": "user", "content": problem.statement},))
        return Attempt(prompt, self.loop(self.sandboxes[-1].run), self.sandboxes[-1], self.max_turns)


def user(content: str) -> Message:
    return {"role": "user", "content": content}


def three_turns(run: Run) -> Loop:
    messages = [user("Do it.")]
    for turn in range(3):
        reply = yield Ask(tuple(messages))
        seen = yield run(f"{turn}: {reply.text}")
        messages += [reply.message, user(seen.stdout.text)]
    reply = yield Ask(tuple(messages))
    return Submit(reply.text)


def numbered(request: Request) -> Completion | EngineFailure:
    """Say the seed; a prompt has a token for each message, an answer two."""
    return Completion(f"s{request.seed}", "stop", len(request.prompt), 2, 0.5, cached_tokens=1)


def outcomes(
    setting: Any,
    count: int,
    answer: Callable[[Request], Completion | EngineFailure] = numbered,
    parameters: SamplingParameters = PARAMETERS,
    most_requests: int = 64,
) -> list[Sampled]:
    with closing(ScriptedEngine(answer).open_session()) as session:
        return list(interleave(session, setting, slots(count), {"p": PROBLEM}, parameters, most_requests=most_requests))


def only(found: list[Sampled]) -> Sample:
    (sample,) = found
    assert isinstance(sample, Sample)
    return sample


def test_one_turn_is_the_completion_itself() -> None:
    found = outcomes(Reasoning("{statement}"), 500)
    samples = {one.slot.number: one for one in found if isinstance(one, Sample)}
    assert sorted(samples) == list(range(500))
    for number, sample in samples.items():
        assert sample.completion == replace(numbered(Request([user("Do it.")], 10 * number, PARAMETERS)), tool_calls=())
        assert sample.transcript is not None
        assert sample.transcript.messages == (user("Do it."), {"role": "assistant", "content": f"s{10 * number}"})
        assert (sample.transcript.prompt, sample.transcript.ending) == ("own", "submitted")


def test_turns_calls_and_costs_are_summed() -> None:
    sample = only(outcomes(Looping(three_turns), 1))
    seeds = [seed_of_turn(0, turn) for turn in range(4)]
    assert seeds[0] == 0
    assert len(set(seeds)) == 4
    transcript = sample.transcript
    assert transcript is not None
    assert [message["content"] for message in transcript.turns] == [
        text for turn, seed in enumerate(seeds) for text in (f"s{seed}", f"{turn}: s{seed}")
    ][:-1]
    usage = transcript.usage
    assert (usage.turns, usage.calls) == (4, 3)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (1 + 3 + 5 + 7, 8, 4)
    assert usage.new_prompt_tokens == 1 + 0 + 0 + 0  # an answer of two tokens is one message, and so is its result
    assert usage.tool_characters == sum(len(f"{turn}: s{seed}") for turn, seed in enumerate(seeds[:3]))
    assert (usage.model_seconds, usage.tool_seconds) == (2.0, 0.75)
    assert sample.completion.seconds == 2.75
    assert (sample.completion.text, sample.completion.completion_tokens) == (f"s{seeds[3]}", 8)


def test_each_turn_gets_what_is_left_of_the_tokens() -> None:
    asked: list[int] = []

    def answer(request: Request) -> Completion:
        asked.append(request.parameters.max_tokens)
        return Completion("more", "stop", 1, 3, 0.0)

    sample = only(outcomes(Looping(three_turns), 1, answer, replace(PARAMETERS, max_tokens=6)))
    assert asked == [6, 3]
    assert (sample.completion.finish_reason, sample.completion.text) == ("length", "more")
    assert sample.transcript is not None
    assert sample.transcript.ending == "out_of_tokens"


def test_a_full_context_is_out_of_tokens_but_a_first_prompt_that_is_too_long_is_owed() -> None:
    def answer(request: Request) -> Completion | EngineFailure:
        if len(request.prompt) > limit:
            return EngineFailure("rejected", "the context is full", is_too_long=True)
        return numbered(request)

    limit = 3
    sample = only(outcomes(Looping(three_turns), 1, answer))
    assert sample.transcript is not None
    assert (sample.transcript.ending, sample.transcript.usage.turns) == ("out_of_tokens", 2)
    limit = 0
    (failed,) = outcomes(Looping(three_turns), 1, answer)
    assert isinstance(failed, Failed)
    assert (failed.slot.number, failed.failure.cause, failed.lost) == (0, "rejected", AttemptUsage())


def test_a_loop_that_has_reached_a_limit_may_still_call_and_submit_but_not_ask() -> None:
    def loop(run: Run) -> Loop:
        try:
            while True:
                yield Ask((user("Do it."),))
        except LimitReachedError as reached:
            seen = yield run(reached.ending)
        if asks_again:
            yield Ask((user("Once more."),))
        return Submit(seen.stdout.text)

    asks_again = False
    assert only(outcomes(Looping(loop), 1)).completion.text == "out_of_tokens"
    assert only(outcomes(Looping(loop, max_turns=3), 1)).completion.text == "out_of_turns"
    asks_again = True
    sample = only(outcomes(Looping(loop, max_turns=3), 1))
    assert sample.transcript is not None
    assert (sample.completion.text, sample.transcript.ending) == ("", "out_of_turns")
    assert sample.transcript.usage.turns == 3


def test_every_turn_is_kept_whatever_a_loop_sends() -> None:
    def loop(run: Run) -> Loop:
        first = yield Ask((user("a"), user("b")))
        second = yield Ask((user("a"), user("b"), {"role": "assistant", "content": "thought cut"}, user("c")))
        yield Ask((user("new"),))
        last = yield Ask((user("new"), {"role": "assistant", "content": "begun "}), continues_last_message=True)
        return Submit(first.text + second.text + last.text)

    texts = iter(["1", "2", "3", "4"])
    sample = only(outcomes(Looping(loop), 1, lambda _: Completion(next(texts), "stop", 1, 1, 0.0)))
    assert sample.transcript is not None
    contents = [message["content"] for message in sample.transcript.messages]
    assert contents == ["a", "b", "thought cut", "c", "2", "new", "begun 4"]
    assert sample.transcript.num_prompt_messages == 2
    assert sample.completion.text == "124"


def test_results_for_which_the_context_has_no_room_are_kept() -> None:
    def answer(request: Request) -> Completion | EngineFailure:
        full = EngineFailure("rejected", "the context is full", is_too_long=True)
        return full if len(request.prompt) > 1 else numbered(request)

    sample = only(outcomes(Looping(three_turns), 1, answer))
    assert sample.transcript is not None
    assert [message["content"] for message in sample.transcript.messages] == ["Do it.", "s0", "0: s0"]


def test_a_slow_call_holds_up_nobody() -> None:
    slow: Future[CallResult] = Future()
    setting = Looping(three_turns, lambda: Sandbox(lambda code: slow if code == "0: s70" else shown(code)))
    with closing(ScriptedEngine(numbered).open_session()) as session:
        found = interleave(session, setting, slots(50), {"p": PROBLEM}, PARAMETERS, most_requests=4)
        first = [next(found) for _ in range(49)]
        assert 7 not in {one.slot.number for one in first if isinstance(one, Sample)}
        threading.Timer(0.05, slow.set_result, [shown("late")]).start()
        last = only(list(found))
    assert last.slot.number == 7
    assert last.transcript is not None
    assert last.transcript.turns[1]["content"] == "late"


def test_thousands_are_open_at_once_and_no_more_than_allowed() -> None:
    waiting: list[Future[CallResult]] = []
    before = threading.active_count()

    def hold(_: str) -> Future[CallResult]:
        waiting.append(Future())
        if len(waiting) == MOST_OPEN:
            for future in waiting:
                future.set_result(shown("go"))
            waiting.clear()
        return waiting[-1] if waiting else done

    done: Future[CallResult] = Future()
    done.set_result(shown("go"))

    def one_call(run: Run) -> Loop:
        reply = yield Ask((user("Do it."),))
        yield run("wait")
        return Submit(reply.text)

    found = outcomes(Looping(one_call, lambda: Sandbox(hold)), 2 * MOST_OPEN)
    assert len(found) == 2 * MOST_OPEN
    assert threading.active_count() == before


def test_a_failure_of_ours_leaves_the_slot_owed_and_the_others_alone() -> None:
    def loop(run: Run) -> Loop:
        reply = yield Ask((user("Do it."),))
        try:
            if reply.text == "s10":
                raise KeyError("bug")
            if reply.text == "s30":
                yield "no step"  # type: ignore[misc]
            yield run(reply.text)
            return Submit(reply.text)
        finally:
            ended.append(reply.text)
            if reply.text == "s20":
                raise ValueError("another bug")

    def answer(request: Request) -> Completion | EngineFailure:
        return EngineFailure("server", "down") if request.seed == 0 else numbered(request)

    ended: list[str] = []
    setting = Looping(loop, lambda: Sandbox(lambda code: OSError("gone") if code == "s20" else shown()))
    found = outcomes(setting, 5, answer)
    failed = [one for one in found if isinstance(one, Failed)]
    assert {one.slot.number: one.failure.cause for one in failed} == {
        0: "server",
        1: "setting",
        2: "sandbox",
        3: "setting",
    }
    assert {one.slot.number: one.lost.completion_tokens for one in failed} == {0: 0, 1: 2, 2: 2, 3: 2}
    assert "TypeError(\"'no step' was yielded, which is neither Ask nor a future\")" in failed[-1].failure.message
    assert sorted(ended) == ["s10", "s20", "s30", "s40"]
    assert len(found) == 5
    assert all(sandbox.closed for sandbox in setting.sandboxes)


def test_leaving_early_ends_every_attempt() -> None:
    ended: list[bool] = []

    def loop(run: Run) -> Loop:
        try:
            while True:
                yield Ask((user("Do it."),))
        finally:
            ended.append(True)

    setting = Looping(loop)
    with closing(ScriptedEngine(numbered).open_session()) as session:
        endless = SamplingParameters(max_tokens=10**9)
        found = interleave(session, setting, slots(20), {"p": PROBLEM}, endless, most_requests=8)
        stopped = Looping(three_turns)
        stopping = interleave(session, stopped, slots(20), {"p": PROBLEM}, PARAMETERS, most_requests=8)
        next(stopping)
        stopping.close()
        found.close()  # a generator that was never begun has opened nothing
    assert not setting.sandboxes
    assert all(sandbox.closed for sandbox in stopped.sandboxes)


def test_attempts_are_opened_as_the_engine_can_take_them() -> None:
    taken = 0

    def endless() -> Iterator[Slot]:
        nonlocal taken
        while True:
            yield Slot(taken, "low", "p", taken, taken)
            taken += 1

    with closing(ScriptedEngine(numbered).open_session()) as session:
        found = interleave(session, Reasoning(), endless(), {"p": PROBLEM}, PARAMETERS, most_requests=16)
        for _ in range(100):
            next(found)
        found.close()
    assert taken <= 100 + 16


def test_turns_have_seeds_that_fit_servers() -> None:
    seeds = {seed_of_turn(seed, turn) for seed in range(50) for turn in range(1, 50)}
    assert len(seeds) == 50 * 49
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize(
    ("finish_reason", "text", "ending"),
    [("stop", "print(1)", "submitted"), ("length", "print(", "out_of_tokens"), ("stop", " \n", "nothing_submitted")],
)
def test_how_an_answer_ended_is_known(finish_reason: Any, text: str, ending: str) -> None:
    sample = only(outcomes(Reasoning(), 1, lambda _: Completion(text, finish_reason, 1, 1, 0.0)))
    assert sample.transcript is not None
    assert sample.transcript.ending == ending
    assert sample.completion.finish_reason == finish_reason
