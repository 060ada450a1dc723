"""The protocol between one attempt and what drives it. An attempt is a generator that asks, runs and submits:

    def loop(task):
        reply = yield Ask(messages)          # a `Completion`
        seen = yield Run("print(6 * 7)")     # a `CallResult`
        return Submit(reply.text)

It never waits and needs no thread: while one attempt waits for its answer, others go on (`interleave`).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from alphamix.ensemble.store import Ending
from alphamix.grading.workspace import CallResult
from alphamix.policies.types import Completion, Message, Tool


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model. The loop is sent a `Completion`; it is not asked again once the attempt has no tokens left."""

    messages: Sequence[Message]
    tools: tuple[Tool, ...] = ()
    stop: tuple[str, ...] = ()
    """Stop strings beside those of the experiment."""
    continues_last_message: bool = False
    """Whether the answer continues the last message, which is the assistant's."""


@dataclass(frozen=True, slots=True)
class Run:
    """Run code in the attempt's sandbox. The loop is sent a `CallResult`."""

    code: str


@dataclass(frozen=True, slots=True)
class Submit:
    """End the attempt with what the judge is to read: an answer that contains a program."""

    text: str
    ending: Ending = "submitted"
    is_code: bool = False
    """Whether the text is the program itself."""


Loop: TypeAlias = Generator[Ask | Run, Completion | CallResult, Submit]
