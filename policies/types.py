"""Types at the edge of a policy: requests go in, completions come out.

This module holds data and one protocol. It knows nothing of problems, tests or verdicts, and
imports no engine.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

from alphamix.errors import AlphamixError


class PolicyError(AlphamixError):
    """A policy cannot be read, made or reached as asked: the message says why, then what to do."""


class CheckpointNotFoundError(PolicyError):
    """A checkpoint or an adapter is not where a policy has it."""


class PromptError(PolicyError):
    """A policy cannot take this prompt, but may well take another. The message names no place on this machine."""


class Message(TypedDict):
    """One turn of a chat, as in the OpenAI API."""

    role: Literal["system", "user", "assistant"]
    content: str


class TokenIds(tuple[int, ...]):
    """Prompt as tokens of the policy's own tokenizer, which are continued as they stand."""

    __slots__ = ()


Prompt = str | TokenIds | Sequence[Message]
"""Plain text is continued as it stands; messages go through the policy's own chat template."""

FinishReason = Literal["stop", "length"]

AnswerKind = Literal["text", "reasoning", "refusal", "empty"]
"""What an answer consists of: text; only the model's reasoning, or only its refusal, where a server sends these apart
from the text; or nothing that can be read."""


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """Parameters of sampling: temperature first, then top-p, until a stop string or `max_tokens`."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    """Request for one completion. Equal requests in equal batches give equal completions."""

    prompt: Prompt
    seed: int
    parameters: SamplingParameters


@dataclass(frozen=True, slots=True)
class Completion:
    """One finished answer of a policy.

    Example:
        >>> alphamix.Completion("4", "stop", prompt_tokens=12, completion_tokens=1, seconds=0.1).text
        '4'
    """

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    """Wall time from the request until the answer was complete."""
    kind: AnswerKind = "text"
    """What `text` is."""


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """An answer that never came. It says nothing about the policy, and the request is still owed."""

    cause: str
    """One of `rate_limit`, `timeout`, `connection`, `server`, `rejected` and `malformed`."""
    message: str


@dataclass(frozen=True, slots=True)
class Reply:
    """Outcome of `requests[index]`."""

    index: int
    outcome: Completion | EngineFailure


@dataclass(frozen=True, slots=True)
class Delta:
    """Piece of the answer to `requests[index]`. The last one carries the outcome, and may have no text."""

    index: int
    text: str
    outcome: Completion | EngineFailure | None = None


class Engine(Protocol):
    """Engine that runs one policy. Replies and deltas arrive in any order; every request gets exactly one outcome."""

    reproducible: bool
    """Whether equal batches give equal completions."""

    def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer all requests, each as soon as it is whole."""
        ...

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        """Answer all requests, piece by piece as tokens come."""
        ...

    def close(self) -> None:
        """Release what the engine holds. Safe to call twice, and from any thread: sampling under way ends soon."""
        ...
