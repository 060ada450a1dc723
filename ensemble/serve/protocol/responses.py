"""Objects of the OpenAI API that clients receive, made from the completions and deltas of an engine. Pure.

Beyond the API, each choice names the policy that it came from: `"policy": {"name", "alpha"}`. Alpha is null if the
policy is not a merge.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from alphamix.ensemble.serve.protocol.raw_request import Path
from alphamix.policies.types import Completion, Delta

JSON = dict[str, Any]


class PolicyInfo(NamedTuple):
    """The policy that a choice came from."""

    name: str
    alpha: float | None


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What differs between the answers of the two completion routes."""

    kind: str
    chunk_kind: str
    id_prefix: str
    opening: JSON | None
    """Content of the first chunk of each choice, if there is one before the text."""
    full: Callable[[str], JSON]
    """Return the fields of a choice that hold its full text."""
    piece: Callable[[str], JSON]
    """Return the fields of a choice that hold a piece of its text."""


FORMATS: Mapping[Path, ResponseFormat] = {
    "chat/completions": ResponseFormat(
        kind="chat.completion",
        chunk_kind="chat.completion.chunk",
        id_prefix="chatcmpl-",
        opening={"delta": {"role": "assistant", "content": ""}},
        full=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
        piece=lambda text: {"delta": {"content": text} if text else {}},
    ),
    "completions": ResponseFormat(
        kind="text_completion",
        chunk_kind="text_completion",
        id_prefix="cmpl-",
        opening=None,
        full=lambda text: {"text": text},
        piece=lambda text: {"text": text},
    ),
}


@dataclass(frozen=True, slots=True)
class ResponseBuilder:
    """Builds the answer of one policy to one request, complete or in chunks."""

    format: ResponseFormat
    id: str
    created: int
    """Unix seconds."""
    model: str
    policy: PolicyInfo
    num_choices: int
    """Number of choices for all prompts."""
    choices_per_prompt: int

    def completion(self, completions: Sequence[Completion]) -> JSON:
        """Return an answer that is not streamed."""
        choices = [
            self._choice(index, self.format.full(completion.text), completion.finish_reason)
            for index, completion in enumerate(completions)
        ]
        return {**self._head(self.format.kind), "choices": choices, "usage": self._usage(completions)}

    def opening_chunk(self, index: int) -> JSON | None:
        """Return the chunk that opens a choice, if the format has one."""
        return self.format.opening and self._chunk(index, self.format.opening, None)

    def chunk(self, delta: Delta) -> JSON | None:
        """Return the chunk of one delta, or None if the delta is empty."""
        reason = delta.outcome.finish_reason if isinstance(delta.outcome, Completion) else None
        if not delta.text and reason is None:
            return None
        return self._chunk(delta.index, self.format.piece(delta.text), reason)

    def usage_chunk(self, completions: Sequence[Completion]) -> JSON:
        """Return the chunk that ends a stream whose client asked for its usage."""
        return {**self._head(self.format.chunk_kind), "choices": [], "usage": self._usage(completions)}

    def _usage(self, completions: Sequence[Completion]) -> JSON:
        # The choices of a prompt share it, so its tokens count once.
        prompts = sum(completion.prompt_tokens for completion in completions[:: self.choices_per_prompt])
        written = sum(completion.completion_tokens for completion in completions)
        return {"prompt_tokens": prompts, "completion_tokens": written, "total_tokens": prompts + written}

    def _chunk(self, index: int, content: JSON, finish_reason: str | None) -> JSON:
        choices = [self._choice(index, content, finish_reason)]
        return {**self._head(self.format.chunk_kind), "choices": choices, "usage": None}

    def _choice(self, index: int, content: JSON, finish_reason: str | None) -> JSON:
        end = {"logprobs": None, "finish_reason": finish_reason, "policy": self.policy._asdict()}
        return {"index": index, **content, **end}

    def _head(self, kind: str) -> JSON:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def model_object(name: str, created: int, extension: JSON) -> JSON:
    """Return one entry of `/v1/models`."""
    return {"id": name, "object": "model", "created": created, "owned_by": "alphamix", **extension}


def encode(value: JSON) -> bytes:
    """Write JSON in ASCII, so that no text a model writes can break a body or an event."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
