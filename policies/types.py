"""Types at the edge of a policy: requests go in, completions come out.

This module holds data, and the protocols of an engine and of a session with one. It knows nothing of problems, tests or
verdicts, and imports no engine.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, Protocol, TypedDict

from alphamix.errors import AlphamixError


class PolicyError(AlphamixError):
    """A policy cannot be read, made or reached as asked: the message says why, then what to do."""


class CheckpointNotFoundError(PolicyError):
    """A checkpoint or an adapter is not where a policy has it."""


class PromptError(PolicyError):
    """A policy cannot take this prompt, but may well take another. The message names no place on this machine."""


class FunctionCall(TypedDict):
    """The name of a function, and its arguments as the text of a JSON object, which a model may have got wrong."""

    name: str
    arguments: str


class ToolCall(TypedDict):
    """One call that a model asks for, as in the OpenAI API."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(TypedDict):
    """One turn of a chat, as in the OpenAI API. A message of the role `tool` answers the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning: NotRequired[str]
    """The assistant's thinking, where it is kept apart from the content."""
    tool_calls: NotRequired[list[ToolCall]]
    tool_call_id: NotRequired[str]


Tool = Mapping[str, Any]
"""A function that a model may call, in the OpenAI form: `{"type": "function", "function": {"name", "parameters"}}`."""


class TokenIds(tuple[int, ...]):
    """Prompt as tokens of the policy's own tokenizer, which are continued as they stand."""

    __slots__ = ()


Prompt = str | TokenIds | Sequence[Message]
"""Plain text is continued as it stands; messages go through the policy's own chat template."""

FinishReason = Literal["stop", "length", "tool_calls"]

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
    thinking: bool | None = None
    """Whether a model that can do both is to think before it answers; None leaves it to its chat template."""


def template_arguments(thinking: bool) -> dict[str, bool]:
    """Return the arguments by which chat templates switch thinking: that of Qwen, GLM and others, and of DeepSeek."""
    return {"enable_thinking": thinking, "thinking": thinking}


@dataclass(frozen=True, slots=True)
class Request:
    """Request for one completion. Equal requests in equal batches give equal completions."""

    prompt: Prompt
    seed: int
    parameters: SamplingParameters
    tools: tuple[Tool, ...] = ()
    """Functions that the model may call; they are of use only with messages."""
    continues_last_message: bool = False
    """Whether the last message, which is the assistant's, begins the answer, and the completion is the rest of it."""


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
    reasoning: str = ""
    """The model's thinking, where its server sends it apart from the text."""
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that the model asks for. If the finish reason is `length`, the last one may be cut off."""
    cached_tokens: int = 0
    """Number of prompt tokens that the server found in its prefix cache, where it tells."""

    @property
    def message(self) -> Message:
        """The answer as a message that continues the chat."""
        message: Message = {"role": "assistant", "content": self.text if self.kind == "text" else ""}
        if self.reasoning:
            message["reasoning"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = list(self.tool_calls)
        return message


@dataclass(frozen=True, slots=True)
class EngineFailure:
    """An answer that never came. It says nothing about the policy, and the request is still owed."""

    cause: str
    """One of `rate_limit`, `timeout`, `connection`, `server`, `rejected` and `malformed`. Attempts of several turns may
    also fail by `sandbox` or `setting`, which concern no engine."""
    message: str
    is_too_long: bool = False
    """Whether it was rejected because the prompt leaves no room for the answer in the model's context."""


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


class EngineSession(Protocol):
    """Live exchange with an engine: requests go in at any time, and outcomes come back as they finish.

    Requests are numbered from 0 in the order in which they are submitted, and each gets exactly one outcome. One thread
    submits and receives; `wake` and `Engine.close` may be called from any thread.
    """

    def submit(self, requests: Sequence[Request]) -> int:
        """Add requests, and return the index of the first. Returns at once.

        The sequence is read as the requests are sent: a long one may build its requests when they are accessed.
        Neighbours may be sent together, so requests that are alike should be submitted together.
        """
        ...

    def receive(self) -> Delta | None:
        """Wait for the next delta; return None if no request is left, or once `wake` was called.

        Raises:
            PolicyError: the engine cannot go on, or was closed.
        """
        ...

    def wake(self) -> None:
        """Let the call of `receive` that is waiting, or else the next one, return None if nothing has arrived."""
        ...

    def close(self) -> None:
        """Cancel all requests that have no outcome yet. Safe to call twice."""
        ...


class Engine(Protocol):
    """Engine that runs one policy. An engine inherits from this class, and gets `sample` and `stream` from it."""

    reproducible: bool
    """Whether equal batches give equal completions."""

    def open_session(self, *, stream: bool = False) -> EngineSession:
        """Begin a session. With `stream` the pieces of an answer arrive as tokens come, otherwise only its outcome."""
        ...

    def close(self) -> None:
        """Release what the engine holds. Safe to call twice, and from any thread: sampling under way ends soon."""
        ...

    def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer all requests, each as soon as it is whole, in any order."""
        with closing(self.open_session()) as session:
            session.submit(requests)
            while (delta := session.receive()) is not None:
                assert delta.outcome is not None
                yield Reply(delta.index, delta.outcome)

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        """Answer all requests, piece by piece as tokens come, in any order."""
        with closing(self.open_session(stream=True)) as session:
            session.submit(requests)
            while (delta := session.receive()) is not None:
                yield delta
