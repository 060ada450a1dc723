"""Data types of workspaces: limits, results and errors."""

from dataclasses import asdict, dataclass
from typing import Literal

from alphamix.grading.errors import GradingError

DIRECTORY = "/workspace"
"""Where commands start, and what a submission is taken from."""
Ended = Literal["ok", "error", "cpu_limit", "wall_limit", "memory_limit", "killed"]
"""How a call ended: with exit code 0, with another one or an exception, by a limit, or by a signal that none sent."""


class WorkspaceError(RuntimeError):
    """The sandbox failed, which says nothing about the attempt: it is owed, and never an observation for the model."""


class WorkspaceUnavailableError(GradingError):
    """This machine cannot confine a workspace: the arguments, and the message, say why and then what to do."""

    def __str__(self) -> str:
        reason, cure = self.args
        return f"commands cannot be confined on this machine ({reason}): {cure}"


class FileRefusedError(Exception):
    """A file of the workspace cannot be used as asked. The message is for the model."""


@dataclass(frozen=True, slots=True)
class WorkspaceLimits:
    """What a workspace may use at any time. Raises GradingError for a limit below 1.

    Without cgroup v2, memory is what its processes have mapped, measured up to ten times a second.
    """

    memory_bytes: int = 1 << 30
    """Memory of all its processes together."""
    disk_bytes: int = 256 << 20
    """Size of its files, which are in memory as well."""
    max_files: int = 1 << 14
    max_processes: int = 64
    """Number of its processes and threads."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may use. Raises GradingError for a limit of 0 or less."""

    cpu_s: float = 10.0
    """CPU seconds of all processes together."""
    wall_s: float = 60.0
    """Wall seconds, without those in which the program only waited for a busy machine's CPU."""
    output_chars: int = 10_000
    """Characters that are shown of standard output, and again of standard error."""

    def __post_init__(self) -> None:
        _check_positive(self)


@dataclass(frozen=True, slots=True)
class ShownText:
    """What a program wrote, as text that is safe to show (`output.show`)."""

    text: str
    dropped_bytes: int = 0
    """Number of bytes left out in the middle, where the text says so."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """Result of one call. Whatever it says is the program's own doing."""

    ended: Ended
    exit_code: int | None
    """Exit code; a negative number is a signal; None if a limit ended it."""
    stdout: ShownText
    stderr: ShownText
    cpu_s: float
    wall_s: float
    lost_variables: bool = False
    """Whether the variables of earlier calls are gone, because the session had to be ended."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file, and the size in bytes of the whole."""

    data: bytes
    size: int


def _check_positive(limits: WorkspaceLimits | CallLimits) -> None:
    for name, value in asdict(limits).items():
        if not value > 0:
            raise GradingError(f"{name} is {value}: it should be greater than 0")
