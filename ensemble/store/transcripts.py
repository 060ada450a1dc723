"""How a sample came about: the messages of all its turns, how the attempt ended, and what each part of it cost."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from alphamix.policies.types import Completion, Message

Ending = Literal["submitted", "gave_up", "out_of_turns", "out_of_tokens", "nothing_submitted"]
"""How an attempt ended. The verdict does not depend on it: what was submitted, if anything, is judged."""


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    """What an attempt cost, summed over its turns."""

    turns: int = 0
    """Number of answers of the model."""
    calls: int = 0
    """Number of programs and commands that were run for it."""
    prompt_tokens: int = 0
    """Tokens that the model read, those of earlier turns again in each turn."""
    new_prompt_tokens: int = 0
    """Tokens that it read for the first time: each prompt less the prompt and the answer before it."""
    cached_tokens: int = 0
    """Prompt tokens that the server found in its prefix cache, where it tells."""
    completion_tokens: int = 0
    tool_characters: int = 0
    """Length of what calls returned to the model, which no server counts apart."""
    model_seconds: float = 0.0
    """Time of the engine, from each request until its answer was complete."""
    tool_seconds: float = 0.0
    """Time of the calls. Waiting between turns, which depends on other attempts, counts in neither."""

    @property
    def seconds(self) -> float:
        """Time of the model and of the calls."""
        return self.model_seconds + self.tool_seconds

    def with_answer(self, completion: Completion, previous_tokens: int) -> "AttemptUsage":
        """Add an answer; `previous_tokens` are those of the prompt and the answer before it."""
        return replace(
            self,
            turns=self.turns + 1,
            prompt_tokens=self.prompt_tokens + completion.prompt_tokens,
            new_prompt_tokens=self.new_prompt_tokens + max(0, completion.prompt_tokens - previous_tokens),
            cached_tokens=self.cached_tokens + completion.cached_tokens,
            completion_tokens=self.completion_tokens + completion.completion_tokens,
            model_seconds=self.model_seconds + completion.seconds,
        )

    def with_call(self, characters: int, seconds: float) -> "AttemptUsage":
        """Add a program or command that was run, and returned so many characters."""
        more = self.with_characters(characters)
        return replace(more, calls=self.calls + 1, tool_seconds=self.tool_seconds + seconds)

    def with_characters(self, characters: int) -> "AttemptUsage":
        """Add what was returned without running anything."""
        return replace(self, tool_characters=self.tool_characters + characters)


@dataclass(frozen=True, slots=True)
class Transcript:
    """The whole course of an attempt."""

    prompt: str
    """Id of the prompt that began it."""
    messages: tuple[Message, ...]
    """All messages in the OpenAI form: the first `num_prompt_messages` are the prompt."""
    num_prompt_messages: int
    ending: Ending
    usage: AttemptUsage

    @property
    def prompt_messages(self) -> tuple[Message, ...]:
        """The messages that began the attempt."""
        return self.messages[: self.num_prompt_messages]

    @property
    def turns(self) -> tuple[Message, ...]:
        """The messages after the prompt."""
        return self.messages[self.num_prompt_messages :]

    @property
    def prompt_hash(self) -> str:
        """SHA-256 of the messages that began the attempt."""
        return hashlib.sha256(as_json(self.prompt_messages).encode()).hexdigest()

    def is_plain(self, text: str) -> bool:
        """Return whether there is nothing but the prompt and one answer that consists of a text."""
        return self.turns == ({"role": "assistant", "content": text},)


def as_json(messages: Sequence[Message]) -> str:
    """Return messages as JSON, in which half a surrogate pair survives."""
    return json.dumps(messages, separators=(",", ":"))
