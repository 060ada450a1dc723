"""Answers of the completions APIs, both whole bodies and chunks of streams, parsed into one form.

Only the form is checked here. The engine decides whether an answer is whole, and what to do if it is not.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alphamix.policies.types import AnswerKind, Message, ToolCall


@dataclass(slots=True)
class _Call:
    """A tool call as far as it has arrived. `index` is its place in a stream, which a whole body does not tell."""

    index: Any
    id: str = ""
    name: str = ""
    arguments: str = ""


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
    cached_tokens: Any = None
    """Prompt tokens that were found in the server's prefix cache."""
    calls: dict[int, list[_Call]] = field(default_factory=dict)
    """Tool calls by index of the choice."""
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

    def tool_calls(self, index: int) -> tuple[ToolCall, ...]:
        """Return the tool calls of a choice. Servers leave out empty arguments, and sometimes ids, in a stream."""
        return tuple(
            {
                "id": call.id or f"call_{place}",
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments or "{}"},
            }
            for place, call in enumerate(self.calls.get(index, ()))
        )


_BESIDE: dict[str, AnswerKind] = {"reasoning_content": "reasoning", "reasoning": "reasoning", "refusal": "refusal"}
"""Keys of a message under which servers send what is not its text, with its kind."""


def message_for_server(message: Message) -> Mapping[str, Any]:
    """Return a message with its reasoning, if any, under both of the names that servers know."""
    return {**message, "reasoning_content": message["reasoning"]} if "reasoning" in message else message


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
        answer.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
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
        if message.get("tool_calls"):
            _add_calls(answer.calls.setdefault(index, []), message["tool_calls"])
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


def _add_calls(calls: list[_Call], pieces: Sequence[Any]) -> None:
    """Add tool calls, or pieces of some. Arguments are appended to the call of their index.

    A new id begins a new call even at the index of another one: some servers number all calls 0.
    """
    for piece in pieces:
        index, identity, function = piece.get("index"), piece.get("id") or "", piece.get("function") or {}
        call = next((call for call in reversed(calls) if index is not None and call.index == index), None)
        if call is None or (identity and call.id and identity != call.id):
            call = _Call(index)
            calls.append(call)
        call.id = call.id or identity
        call.name = call.name or function.get("name") or ""
        arguments: Any = function.get("arguments") or ""
        # A few servers send the object itself where the API has its text.
        call.arguments += arguments if isinstance(arguments, str) else json.dumps(arguments)
        f"{call.id}{call.name}{call.arguments}".encode()
