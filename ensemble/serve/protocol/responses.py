"""What clients get: the objects of the OpenAI API, made from completions and deltas. Pure, no I/O.

Beyond the API, each choice says which policy it came from: `"policy": {"name", "alpha"}`. Alpha is null where
the policy is no merge.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

from alphamix.policies.types import Completion, Delta

JSON = dict[str, Any]


class PolicyInfo(NamedTuple):
    """The policy that a choice came from."""

    name: str
    alpha: float | None

    def as_json(self) -> JSON:
        """Give the extension field of a choice."""
        return {"name": self.name, "alpha": self.alpha}


class Dialect(Protocol):
    """What differs between the two completion routes."""

    kind: str
    chunk_kind: str
    id_prefix: str
    opening: ClassVar[JSON | None]
    """What the first chunk of each choice holds, where there is one before the text."""

    def complete(self, text: str) -> JSON:
        """Give the text of a choice that is finished."""
        ...

    def piece(self, text: str) -> JSON:
        """Give a piece of the text of a choice."""
        ...


class ChatDialect:
    """`/v1/chat/completions`."""

    kind = "chat.completion"
    chunk_kind = "chat.completion.chunk"
    id_prefix = "chatcmpl-"
    opening: ClassVar[JSON | None] = {"delta": {"role": "assistant", "content": ""}}

    def complete(self, text: str) -> JSON:
        """Give the assistant's message."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def piece(self, text: str) -> JSON:
        """Give what is added to the message."""
        return {"delta": {"content": text} if text else {}}


class CompletionDialect:
    """`/v1/completions`, where pieces and wholes look alike."""

    kind = "text_completion"
    chunk_kind = "text_completion"
    id_prefix = "cmpl-"
    opening: ClassVar[JSON | None] = None

    def complete(self, text: str) -> JSON:
        """Give the continuation."""
        return {"text": text}

    def piece(self, text: str) -> JSON:
        """Give what is added to the continuation."""
        return {"text": text}


@dataclass(frozen=True, slots=True)
class ClientResponse:
    """One answer to one client request: who answers which choice, and how it is written down."""

    dialect: Dialect
    id: str
    created: int
    """Unix seconds."""
    model: str
    origins: Sequence[PolicyInfo]
    """One per choice."""
    choices_per_prompt: int

    def complete(self, completions: Sequence[Completion]) -> JSON:
        """Give the object of an answer that is not streamed."""
        choices = [
            self._choice(index, self.dialect.complete(completion.text), completion.finish_reason)
            for index, completion in enumerate(completions)
        ]
        return {**self._head(self.dialect.kind), "choices": choices, "usage": self.usage(completions)}

    def opening_chunk(self, index: int) -> JSON | None:
        """Give the chunk that opens a choice, where the dialect has one."""
        return self.dialect.opening and self._chunk(index, self.dialect.opening, None)

    def chunk(self, delta: Delta) -> JSON | None:
        """Give the chunk of one delta; None where it says nothing."""
        reason = delta.outcome.finish_reason if isinstance(delta.outcome, Completion) else None
        if not delta.text and reason is None:
            return None
        return self._chunk(delta.index, self.dialect.piece(delta.text), reason)

    def usage_chunk(self, completions: Sequence[Completion]) -> JSON:
        """Give the chunk that ends a stream whose client asked for its usage."""
        return {**self._head(self.dialect.chunk_kind), "choices": [], "usage": self.usage(completions)}

    def usage(self, completions: Sequence[Completion]) -> JSON:
        """Sum the tokens of all calls: a prompt counts once for each policy that read it, not per choice."""
        prompt_tokens = {
            (origin.name, index // self.choices_per_prompt): completion.prompt_tokens
            for index, (origin, completion) in enumerate(zip(self.origins, completions, strict=True))
        }
        prompts = sum(prompt_tokens.values())
        written = sum(completion.completion_tokens for completion in completions)
        return {"prompt_tokens": prompts, "completion_tokens": written, "total_tokens": prompts + written}

    def _chunk(self, index: int, content: JSON, finish_reason: str | None) -> JSON:
        return {
            **self._head(self.dialect.chunk_kind),
            "choices": [self._choice(index, content, finish_reason)],
            "usage": None,
        }

    def _choice(self, index: int, content: JSON, finish_reason: str | None) -> JSON:
        return {
            "index": index,
            **content,
            "logprobs": None,
            "finish_reason": finish_reason,
            "policy": self.origins[index].as_json(),
        }

    def _head(self, kind: str) -> JSON:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def model_object(name: str, created: int, extension: JSON) -> JSON:
    """Give one entry of `/v1/models`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "alphamix", **extension}


def encode(value: JSON) -> bytes:
    """Write JSON in ASCII, so that no text a model writes can break a body or an event."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
