"""Drives many attempts at once over one session with an engine, in one thread and without waiting for any of them.

An attempt is always in one of three places: its request is at the engine, its call is running, or it is being advanced
by this module. Whatever comes back first is handled first, so a slow call holds up no other attempt. Attempts are
opened as the engine can take more requests, so millions of slots take no memory.
"""

import hashlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from queue import SimpleQueue
from typing import Any

from alphamix.ensemble.settings.loop import Ask, LimitReachedError, LoopError, Submit
from alphamix.ensemble.settings.setting import Attempt, Failed, Sampled, Setting
from alphamix.ensemble.store import AttemptUsage, Ending, Sample, Slot, Transcript
from alphamix.grading.types import Problem
from alphamix.grading.workspace import CallResult, FilePart, FileRefusedError
from alphamix.policies.types import Completion, EngineFailure, EngineSession, Message, Request, SamplingParameters

_REFILL = 3 / 4
"""Share of the requests below which more attempts are opened: several at once, since neighbours share requests."""

MOST_OPEN = 4096
"""Maximum number of attempts that are open at once, wherever they are."""


@dataclass(eq=False, slots=True)
class _Open:
    """An attempt that is under way."""

    slot: Slot
    attempt: Attempt
    usage: AttemptUsage = field(default_factory=AttemptUsage)
    ask: Ask | None = None
    """What the model was asked last."""
    is_answered: bool = False
    """Whether it has answered that."""
    last: Completion = field(default_factory=lambda: Completion("", "stop", 0, 0, 0.0))
    """The last answer."""
    num_prompt_messages: int = 0
    """Number of messages with which the model was asked first."""
    ended_chats: tuple[Message, ...] = ()
    """Messages that the model was asked with no longer, where a loop began a new chat."""
    has_reached_limit: bool = False

    @property
    def chat(self) -> tuple[Message, ...]:
        """The messages of the last request, and the answer to it if there is one."""
        if self.ask is None:
            return ()
        if not self.is_answered:
            return tuple(self.ask.messages)
        if not self.ask.continues_last_message:
            return *self.ask.messages, self.last.message
        *before, begun = self.ask.messages
        return *before, {**self.last.message, "content": begun["content"] + self.last.message["content"]}

    def is_continued_by(self, messages: Sequence[Message]) -> bool:
        """Return whether messages go on with the present chat; its last answer may have been changed or continued."""
        place = len(self.chat) - 1
        return (
            len(messages) > place
            and messages[place]["role"] == "assistant"
            and tuple(messages[:place]) == self.chat[:place]
        )


def interleave(
    session: EngineSession,
    setting: Setting,
    slots: Iterable[Slot],
    problems: Mapping[str, Problem],
    parameters: SamplingParameters,
    *,
    most_requests: int,
) -> Generator[Sampled]:
    """Make an attempt for each slot, and yield the outcomes in the order in which they come.

    Args:
        session: with no request in it.
        setting: makes the attempts.
        slots: all of one policy.
        problems: by id.
        parameters: of every request. `max_tokens` is the limit of a whole attempt: each turn gets what is left of it.
        most_requests: number of requests to have at the engine; no more attempts are opened beyond it.
    """
    driver = _Driver(session, setting, slots, problems, parameters, most_requests)
    try:
        yield from driver.outcomes()
    finally:
        driver.close()


class _Driver:
    """State of `interleave`; its private methods say what becomes of one attempt."""

    def __init__(
        self,
        session: EngineSession,
        setting: Setting,
        slots: Iterable[Slot],
        problems: Mapping[str, Problem],
        parameters: SamplingParameters,
        most_requests: int,
    ) -> None:
        self._session = session
        self._setting = setting
        self._slots = iter(slots)
        self._are_all_opened = False
        self._problems = problems
        self._parameters = parameters
        self._most_requests = most_requests
        self._open: set[_Open] = set()
        self._asked: dict[int, _Open] = {}
        """Attempts whose requests are at the engine, by index."""
        self._to_ask: list[tuple[_Open, Request]] = []
        """Requests that are submitted together next."""
        self._num_running = 0
        self._ran: SimpleQueue[tuple[_Open, Future[Any]]] = SimpleQueue()
        self._done: deque[Sampled] = deque()

    def outcomes(self) -> Iterator[Sampled]:
        """Yield the outcomes of all attempts."""
        while not self._are_all_opened or self._open:
            self._open_more()
            while not self._ran.empty():
                self._take_result()
            self._submit()
            if self._asked:
                self._take_answer()
            elif self._num_running:
                self._take_result()
            while self._done:
                yield self._done.popleft()

    def close(self) -> None:
        """End all attempts, and what they run."""
        for opened in list(self._open):
            self._end(opened)

    def _open_more(self) -> None:
        num_requests = len(self._asked) + len(self._to_ask)
        room = min(self._most_requests - num_requests, MOST_OPEN - len(self._open))
        if self._are_all_opened or room <= 0 or num_requests > _REFILL * self._most_requests:
            return
        num_opened = 0
        for slot in islice(self._slots, room):
            num_opened += 1
            opened = _Open(slot, self._setting.begin(self._problems[slot.problem]))
            self._open.add(opened)
            self._advance(opened, None)
        self._are_all_opened = num_opened < room

    def _submit(self) -> None:
        if self._to_ask:
            first = self._session.submit([request for _, request in self._to_ask])
            self._asked.update((index, opened) for index, (opened, _) in enumerate(self._to_ask, first))
            self._to_ask = []

    def _take_answer(self) -> None:
        """Wait until an answer or, by `wake`, a result is there."""
        delta = self._session.receive()
        if delta is None or delta.outcome is None:
            return
        opened, outcome = self._asked.pop(delta.index), delta.outcome
        if isinstance(outcome, Completion):
            previous_tokens = opened.last.prompt_tokens + opened.last.completion_tokens
            opened.usage = opened.usage.with_answer(outcome, previous_tokens)
            opened.last, opened.is_answered = outcome, True
            self._advance(opened, outcome)
        elif outcome.is_too_long and opened.usage.turns:
            self._refuse(opened, "out_of_tokens")
        else:
            self._fail(opened, outcome)

    def _take_result(self) -> None:
        """Wait until a call has ended."""
        opened, future = self._ran.get()
        self._num_running -= 1
        try:
            result = future.result()
        except FileRefusedError as refused:
            self._advance(opened, refused)
            return
        except (Exception, CancelledError) as error:  # the sandbox failed, which says nothing about the model
            self._fail(opened, EngineFailure("sandbox", f"the sandbox failed ({error!r}): see whether it works here."))
            return
        match result:
            case CallResult():
                characters = len(result.stdout.text) + len(result.stderr.text)
                opened.usage = opened.usage.with_call(characters, result.wall_s)
            case FilePart():
                opened.usage = opened.usage.with_characters(len(result.data))
            case _:
                pass
        self._advance(opened, result)

    def _advance(self, opened: _Open, sent: Any = None) -> None:
        """Let a loop go on until it needs something again. An exception is raised where it waits."""
        loop = opened.attempt.loop
        try:
            step: Any = loop.throw(sent) if isinstance(sent, Exception) else loop.send(sent)
            if not isinstance(step, Ask | Future):
                wrong = TypeError(f"{step!r} was yielded, which is neither Ask nor a future")
                step = loop.throw(wrong)  # raised where it was yielded, which tells the place
                if not isinstance(step, Ask | Future):
                    raise wrong
        except StopIteration as stopped:
            self._finish(opened, stopped.value)
        except LimitReachedError as reached:
            self._finish(opened, Submit(opened.last.text, reached.ending))
        except Exception as error:  # a loop that breaks must not end the others
            said = str(error) if isinstance(error, LoopError) else f"the setting's loop raised {error!r}"
            self._fail(opened, EngineFailure("setting", f"{said}: mend it."))
        else:
            self._ask(opened, step) if isinstance(step, Ask) else self._wait(opened, step)

    def _ask(self, opened: _Open, ask: Ask) -> None:
        turns, left = opened.usage.turns, self._parameters.max_tokens - opened.usage.completion_tokens
        if turns == opened.attempt.max_turns or left <= 0:
            self._refuse(opened, "out_of_tokens" if left <= 0 else "out_of_turns")
            return
        if opened.ask is None:
            opened.num_prompt_messages = len(ask.messages)
        elif not opened.is_continued_by(ask.messages):
            opened.ended_chats += opened.chat
        opened.ask, opened.is_answered = ask, False
        parameters = self._parameters
        if ask.stop or left != parameters.max_tokens:
            parameters = replace(parameters, max_tokens=left, stop=(*parameters.stop, *ask.stop))
        seed = seed_of_turn(opened.slot.seed, turns)
        request = Request(ask.messages, seed, parameters, ask.tools, ask.continues_last_message)
        self._to_ask.append((opened, request))

    def _refuse(self, opened: _Open, ending: Ending) -> None:
        """Tell a loop that it cannot ask any further. If it asks nevertheless, the attempt ends."""
        if opened.has_reached_limit:
            self._finish(opened, Submit("", ending))
            return
        opened.has_reached_limit = True
        self._advance(opened, LimitReachedError(ending))

    def _wait(self, opened: _Open, call: Future[Any]) -> None:
        self._num_running += 1
        call.add_done_callback(lambda done: self._has_run(opened, done))

    def _has_run(self, opened: _Open, future: Future[Any]) -> None:
        """Pass a result on, from any thread."""
        self._ran.put((opened, future))
        self._session.wake()

    def _finish(self, opened: _Open, submitted: Submit) -> None:
        usage, last = opened.usage, opened.last
        is_last = submitted.text == last.text and not submitted.is_code
        completion = Completion(
            submitted.text,
            "length" if submitted.ending == "out_of_tokens" else "stop",
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.seconds,
            last.kind if is_last else "text",
            reasoning=last.reasoning if is_last else "",
            cached_tokens=usage.cached_tokens,
        )
        prompt = opened.attempt.prompt
        messages = opened.ended_chats + opened.chat or prompt.messages
        num_prompt_messages = opened.num_prompt_messages or len(prompt.messages)
        transcript = Transcript(prompt.id, messages, num_prompt_messages, submitted.ending, usage)
        self._done.append(
            Sample(opened.slot, completion, time.time(), is_code=submitted.is_code, transcript=transcript)
        )
        self._end(opened)

    def _fail(self, opened: _Open, failure: EngineFailure) -> None:
        self._done.append(Failed(opened.slot, failure, opened.usage))
        self._end(opened)

    def _end(self, opened: _Open) -> None:
        self._open.discard(opened)
        with suppress(Exception):  # a loop that breaks at its end must not end the others
            opened.attempt.loop.close()
        if opened.attempt.sandbox is not None:
            opened.attempt.sandbox.close()


def seed_of_turn(seed: int, turn: int) -> int:
    """Return the seed of a turn, below 2³¹. The first turn has the seed of the slot; the others are hashed."""
    if turn == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/turn {turn}".encode()).digest()[:4]) >> 1
