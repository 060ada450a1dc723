"""The protocol between one attempt and what drives it. An attempt is a generator that asks, runs and submits:

    def loop(task):
        reply = yield Ask(messages)          # a `Completion`
        seen = yield Run("print(6 * 7)")     # a `RunResult`
        return Submit(reply.text)

It never waits and needs no thread: while one attempt waits for its answer, others go on (`interleave`).
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from alphamix.ensemble.store import Ending
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
    """Run code in the attempt's sandbox. The loop is sent a `RunResult`."""

    code: str


@dataclass(frozen=True, slots=True)
class Submit:
    """End the attempt with what the judge is to read: an answer that contains a program."""

    text: str
    ending: Ending = "submitted"
    is_code: bool = False
    """Whether the text is the program itself."""


class Output(Protocol):
    """What a program wrote to one of its streams."""

    @property
    def text(self) -> str:
        """The text, cut in the middle if it is long, with a note that says so."""
        ...

    @property
    def dropped_bytes(self) -> int:
        """Number of bytes that were cut out."""
        ...


class RunResult(Protocol):
    """What became of the code that a sandbox ran. A failure of the sandbox itself is an exception instead."""

    @property
    def ended(self) -> Literal["ok", "error", "cpu_limit", "wall_limit", "memory_limit", "killed"]:
        """How the program ended."""
        ...

    @property
    def stdout(self) -> Output:
        """Standard output."""
        ...

    @property
    def stderr(self) -> Output:
        """Standard error."""
        ...

    @property
    def wall_s(self) -> float:
        """Wall time of the program."""
        ...

    @property
    def lost_variables(self) -> bool:
        """Whether the variables of earlier calls are gone, since their process was killed."""
        ...


Loop: TypeAlias = Generator[Ask | Run, Completion | RunResult, Submit]
