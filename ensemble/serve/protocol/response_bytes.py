"""Answers and chunks of upstreams, as bytes: each choice gets its policy and its index, and the rest is kept.

The form of an answer is checked here: every choice is present once and complete. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.protocol.api_errors import ApiError, server_error
from alphamix.ensemble.serve.protocol.raw_request import NULL, UNREADABLE, Fields, Part, encode, read_fields
from alphamix.ensemble.serve.protocol.responses import PolicyInfo

_read_choices = msgspec.json.Decoder(list[Fields]).decode
_read_usage = msgspec.json.Decoder(dict[str, Any]).decode
_read_index = msgspec.json.Decoder(int).decode


_NONE = Raw(b"[]")


class _Said(msgspec.Struct):
    """What a message or a piece of one says."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: Raw = NULL


_read_said = msgspec.json.Decoder(_Said).decode


@dataclass(slots=True)
class ResponseJson:
    """A complete answer, or one chunk of a stream, with its choices apart from the other fields."""

    fields: Fields
    choices: list[tuple[int, Fields]]
    """Choices, each with its index in the answer that the client receives."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """Token usage, or None if the server does not report it."""
        raw = self.fields.get("usage")
        try:
            return None if raw is None or raw == NULL else _read_usage(raw)
        except UNREADABLE:
            return None

    @property
    def num_bytes(self) -> int:
        """Number of bytes of what the choices say: texts, reasoning and calls of tools."""
        return sum(_num_bytes(choice) for _, choice in self.choices)

    def as_bytes(self) -> bytes:
        """Return the JSON text."""
        return encode({**self.fields, "choices": [choice for _, choice in self.choices]})


class IgnoresNError(ApiError):
    """502: a server gave one choice for each prompt where several were requested."""


class ResponseReader:
    """Reads the answer to one part, checks its form, and gives each choice its policy and its index."""

    def __init__(self, policy: PolicyInfo, part: Part, choices_per_prompt: int, num_prompts: int) -> None:
        self._policy = Raw(encode(policy._asdict()))
        self._n = part.n
        self._begun = set[int]()
        """Places of the choices that have begun, if there may be too few."""
        self._places = [part.client_index(index, choices_per_prompt) for index in range(part.n * num_prompts)]
        self._unfinished = set(self._places)

    def complete(self, data: bytes) -> ResponseJson:
        """Read an answer that is not streamed.

        Raises:
            IgnoresNError: 502, it has one choice for each prompt where several were requested.
            ApiError: 502, it is malformed, or has too few or too many choices.
        """
        body = self._body(data)
        if not all(_has_content(choice) for _, choice in body.choices):
            raise _malformed("a choice has neither a message nor a text")
        if self._n > 1 and len(body.choices) == len(self._places) // self._n:
            raise _ignores_n()
        if sorted(place for place, _ in body.choices) != self._places:
            raise _malformed(f"an answer has {len(body.choices)} choices where {len(self._places)} were requested")
        return body

    def chunk(self, data: bytes) -> ResponseJson:
        """Read a chunk of a stream.

        Raises:
            ApiError: 502, it is malformed.
        """
        body = self._body(data)
        for place, choice in body.choices:
            if self._n > 1:
                self._begun.add(place)
            if choice.get("finish_reason", NULL) != NULL:
                self._unfinished.discard(place)
        return body

    def end(self) -> None:
        """Check that the stream was complete when it ended.

        Raises:
            IgnoresNError: 502, the first choice of each prompt is complete, and no other has begun.
            ApiError: 502, a choice has no end.
        """
        firsts = set(self._places[:: self._n])
        if self._n > 1 and self._begun == firsts and not firsts & self._unfinished:
            raise _ignores_n()
        if self._unfinished:
            raise _malformed(f"a stream ended before choices {sorted(self._unfinished)} were complete")

    def _body(self, data: bytes) -> ResponseJson:
        try:
            if not data.isascii():
                data.decode()  # msgspec does not check the encoding of what it leaves raw
            fields = read_fields(data)
        except UNREADABLE:
            raise _malformed("an answer is not a JSON object") from None
        if fields.get("error", NULL) != NULL or "choices" not in fields:
            raise _malformed("an answer has an error, or no choices")
        try:
            raw = fields["choices"]
            choices = [] if raw == NULL else _read_choices(raw)
            return ResponseJson(fields, [self._marked(position, choice) for position, choice in enumerate(choices)])
        except (*UNREADABLE, IndexError):
            raise _malformed("the choices of an answer are malformed") from None

    def _marked(self, position: int, choice: Fields) -> tuple[int, Fields]:
        index = _read_index(choice["index"]) if "index" in choice else position
        if index < 0:
            raise IndexError(index)
        place = self._places[index]
        if place != index or "index" not in choice:
            choice["index"] = Raw(b"%d" % place)
        choice["policy"] = self._policy
        return place, choice


def merge_responses(bodies: Sequence[ResponseJson]) -> ResponseJson:
    """Merge the answers to several parts: all choices in order, usage summed, other fields as in the first."""
    choices = sorted((choice for body in bodies for choice in body.choices), key=lambda choice: choice[0])
    usage = Raw(encode(sum_usage([body.usage for body in bodies])))
    return ResponseJson({**bodies[0].fields, "usage": usage}, choices)


def sum_usage(usages: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Sum usage field by field; return None if one is unknown, since a partial sum would mislead."""
    total: dict[str, Any] = {}
    for usage in usages:
        if usage is None:
            return None
        for key, value in usage.items():
            total[key] = _sum(total.get(key), value)
    return total


def _sum(total: Any, value: Any) -> Any:
    if isinstance(total, dict) and isinstance(value, dict):
        return sum_usage([cast("dict[str, Any]", total), cast("dict[str, Any]", value)])
    if isinstance(total, int | float) and isinstance(value, int | float):
        return total + value
    return value if total is None else total


def _num_bytes(choice: Fields) -> int:
    raw = choice.get("delta") or choice.get("message")
    if raw is None:
        return max(0, len(bytes(choice.get("text", b""))) - len('""'))
    try:
        said = _read_said(raw)
    except UNREADABLE:
        return len(bytes(raw))
    texts = (said.content, said.reasoning_content, said.reasoning, said.refusal)
    calls = 0 if said.tool_calls in (NULL, _NONE) else len(bytes(said.tool_calls))
    return sum(len(text.encode()) for text in texts if text) + calls


def _has_content(choice: Fields) -> bool:
    message, text = bytes(choice.get("message", NULL)), bytes(choice.get("text", NULL))
    return (message.startswith(b"{") and message != b"{}") or text.startswith(b'"')


def _ignores_n() -> IgnoresNError:
    return IgnoresNError(502, "a server gives one choice whatever n is", kind="server_error", code="malformed")


def _malformed(message: str) -> ApiError:
    return server_error(502, message, "malformed")
