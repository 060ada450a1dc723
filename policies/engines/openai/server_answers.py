"""Answers of the completions APIs, both whole bodies and chunks of streams, parsed into one form.

Only the form is checked here. The engine decides whether an answer is whole, and what to do if it is not.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from alphamix.policies.types import AnswerKind


@dataclass(slots=True)
class ServerAnswer:
    """Answer of a server to one request, gathered from one body or from a stream."""

    texts: dict[int, str] = field(default_factory=dict)
    """Text by index of the choice."""
    finish_reasons: dict[int, Any] = field(default_factory=dict)
    prompt_tokens: Any = None
    completion_tokens: Any = None
    system_fingerprint: Any = None
    token_counts: dict[int, int] = field(default_factory=dict)
    """Completion tokens by index of the choice, where the server lists them (vLLM's `return_token_ids`)."""
    beside: dict[int, dict[AnswerKind, str]] = field(default_factory=dict)
    """What a choice has beside its text, by kind: its reasoning and its refusal, where a server sends these apart."""

    def answer(self, index: int) -> tuple[str, AnswerKind]:
        """Return what a choice says, and of which kind that is: its text, or without one its refusal or reasoning."""
        text, beside = self.texts.get(index, ""), self.beside.get(index, {})
        if text.strip():
            return text, "text"
        for kind in ("refusal", "reasoning"):
            if beside.get(kind, "").strip():
                return beside[kind], kind
        return text, "empty"


_BESIDE: dict[str, AnswerKind] = {"reasoning_content": "reasoning", "reasoning": "reasoning", "refusal": "refusal"}
"""Keys of a message under which servers send what is not its text, with its kind."""


def is_count(value: object) -> bool:
    """Return whether a server's count of tokens is a valid number."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def event_data(line: bytes) -> bytes:
    """Return the data of one line of server-sent events; empty for other fields and for comments, which keep a
    connection alive."""
    return line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""


def add_body(answer: ServerAnswer, body: Any, part: str) -> str:
    """Add a body, or one chunk of a stream, to an answer; return the text of its first choice.

    Args:
        answer: what has arrived so far.
        body: parsed JSON.
        part: key under which a choice of a chat holds its text: `message`, or `delta` in a stream.

    Raises:
        ValueError, TypeError, AttributeError, LookupError: the body does not have the form of an answer.
    """
    if not isinstance(body, dict):
        raise ValueError(f"a body of the type {type(body).__name__}")
    if body.get("error"):
        raise ValueError(f"an error inside an answer: {json.dumps(body['error'])}")
    if "choices" not in body:
        raise ValueError("a body without choices")
    usage = body.get("usage")
    if usage:
        answer.prompt_tokens, answer.completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    answer.system_fingerprint = body.get("system_fingerprint") or answer.system_fingerprint
    first = ""
    for position, choice in enumerate(body["choices"] or ()):  # the last chunk of a stream has only the usage
        index: Any = choice.get("index", position)
        if not isinstance(index, int):
            raise ValueError(f"a choice of the index {index!r}")
        if part == "message" and index in answer.texts:
            raise ValueError(f"two choices of the index {index}")
        # A model may finish without any text: an empty answer is an answer.
        message: dict[str, Any] = choice.get(part) or {}
        piece = (choice["text"] if "text" in choice else message.get("content")) or ""
        piece.encode()  # raises for half a surrogate pair, which JSON can escape but which is not text
        answer.texts[index] = answer.texts.get(index, "") + piece
        _add_beside(answer.beside.setdefault(index, {}), message)
        answer.finish_reasons[index] = choice.get("finish_reason") or answer.finish_reasons.get(index)
        listed: Any = choice.get("token_ids")
        if isinstance(listed, list):
            answer.token_counts[index] = answer.token_counts.get(index, 0) + len(listed)
        first += piece if index == 0 else ""
    return first


def _add_beside(beside: dict[AnswerKind, str], message: Mapping[str, Any]) -> None:
    """Add what a message, or a piece of one, has beside its text. Of several keys of one kind the first one counts."""
    seen = set[AnswerKind]()
    for key, kind in _BESIDE.items():
        piece = message.get(key)
        if isinstance(piece, str) and piece and kind not in seen:
            piece.encode()
            beside[kind] = beside.get(kind, "") + piece
            seen.add(kind)
