"""The protocol between one attempt and what drives it. An attempt is a generator that asks, calls and submits:

    def loop(messages, workspace):
        reply = yield Ask(messages)                          # a `Completion`
        seen = yield workspace.run("python3 a.py < in.txt")  # a future, for whose result it waits
        return Submit(reply.text)

It needs no thread: while one attempt waits for its answer or its call, others go on (`interleave`).
"""

from collections.abc import Generator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from alphamix.ensemble.store import Ending
from alphamix.policies.types import Message, Tool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model. The loop is sent a `Completion`, or `LimitReachedError` is raised where it waits."""

    messages: Sequence[Message]
    tools: tuple[Tool, ...] = ()
    stop: tuple[str, ...] = ()
    """Stop strings beside those of the experiment."""
    continues_last_message: bool = False
    """Whether the answer continues the last message, which is the assistant's."""


@dataclass(frozen=True, slots=True)
class Submit:
    """End the attempt with what the judge is to read: an answer that contains a program."""

    text: str
    ending: Ending = "submitted"
    is_code: bool = False
    """Whether the text is the program itself."""


class LimitReachedError(Exception):
    """The attempt may not do what it wanted, but may still submit. If nothing catches this, it has the ending."""

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"a limit of the attempt is reached ({ending})")
        self.ending: Ending = ending


class LoopError(Exception):
    """A loop that the user wrote is at fault. The message says which, and where."""


Steps: TypeAlias = Generator[Ask | Future[Any], Any, T]
"""A part of a loop that returns a `T`. Other loops use it by `yield from`."""
Loop: TypeAlias = Steps[Submit]
