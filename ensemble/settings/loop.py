"""The protocol between one attempt and what drives it. An attempt is a generator that asks, calls and submits:

    def loop(messages, workspace):
        reply = yield Ask(messages)                          # a `Completion`
        seen = yield workspace.run("python3 a.py < in.txt")  # a future, for whose result it waits
        return Submit(reply.text)

It needs no thread: while one attempt waits for its answer or its call, others go on (`interleave`).
"""

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast

from alphamix.ensemble.store import Ending
from alphamix.policies.types import Message, Tool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """What an agent yields to ask the model; it is sent a `Completion`.

    LimitReachedError is raised where it waits if no turn or no token is left. The messages are copied, so an agent may
    go on with its own list.

    Raises:
        TypeError: The messages are not messages in the OpenAI form, with text as their content.

    Example:
        >>> alphamix.Ask([{"role": "user", "content": "Given n, print n."}]).tools
        ()
    """

    messages: Sequence[Message]
    tools: tuple[Tool, ...] = ()
    stop: tuple[str, ...] = ()
    """Stop strings beside those of the experiment."""
    continues_last_message: bool = False
    """Whether the answer continues the last message, which is the assistant's."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "messages", tuple(_copied(message) for message in self.messages))


def _copied(message: Any) -> Message:
    has_texts = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))
    if not has_texts:
        raise TypeError(f'{message!r} is no message: ask with a list of {{"role": "user", "content": "…"}}')
    return cast(Message, dict(message))


@dataclass(frozen=True, slots=True)
class Submit:
    """End the attempt with what the judge is to read: an answer that contains a program."""

    text: str
    ending: Ending = "submitted"
    is_code: bool = False
    """Whether the text is the program itself."""


class LimitReachedError(Exception):
    """An agent may not ask or call any further. It may still submit; otherwise its attempt has this ending.

    Example:
        >>> alphamix.LimitReachedError("out_of_turns").ending
        'out_of_turns'
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(f"a limit of the attempt is reached ({ending})")
        self.ending: Ending = ending


class LoopError(Exception):
    """A loop that the user wrote is at fault. The message says which, and where."""


Steps: TypeAlias = Generator[Ask | Future[Any], Any, T]
"""A part of a loop that returns a `T`. Other loops use it by `yield from`."""
Loop: TypeAlias = Steps[Submit]
