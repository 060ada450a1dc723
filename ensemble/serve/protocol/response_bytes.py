"""Answers and chunks as bytes: each choice gets its policy and its place, all else stays what the server sent.

What a server says is checked for form here: choices that are there, each once, and each brought to its end. Pure.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import NULL, Fields, encode, read_object
from alphamix.ensemble.serve.protocol.responses import PolicyInfo

_read_choices = msgspec.json.Decoder(list[Fields]).decode
_read_usage = msgspec.json.Decoder(dict[str, Any]).decode
_read_index = msgspec.json.Decoder(int).decode


@dataclass(slots=True)
class ResponseJson:
    """An answer that is whole, or one chunk of a stream; `choices` are taken out of the fields."""

    fields: Fields
    choices: list[tuple[int, Fields]]
    """With their indices in the answer that the client gets."""

    @property
    def usage(self) -> dict[str, Any] | None:
        """What was spent, where the server tells."""
        raw = self.fields.get("usage")
        try:
            return None if raw is None or raw == NULL else _read_usage(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None

    def as_bytes(self) -> bytes:
        """Write it down."""
        return encode({**self.fields, "choices": [choice for _, choice in self.choices]})


class ResponseReader:
    """Marks the choices of one part: the policy that they come from, and their place."""

    def __init__(self, origin: PolicyInfo, part: Part, choices_per_prompt: int, num_prompts: int) -> None:
        self._policy = Raw(encode(origin.as_json()))
        self._places = [part.client_index(index, choices_per_prompt) for index in range(part.n * num_prompts)]
        self._unfinished = set(self._places)

    def complete(self, data: bytes) -> ResponseJson:
        """Read a whole answer.

        Raises:
            ApiError: 502, it lacks a choice, or has one too many.
        """
        body = self._body(data)
        if sorted(place for place, _ in body.choices) != self._places:
            raise _malformed(f"an answer has {len(body.choices)} choices where {len(self._places)} were asked for")
        if not all(_holds_an_answer(choice) for _, choice in body.choices):
            raise _malformed("a choice holds neither message nor text")
        return body

    def chunk(self, data: bytes) -> ResponseJson:
        """Read a chunk of a stream.

        Raises:
            ApiError: 502, it is none.
        """
        body = self._body(data)
        for place, choice in body.choices:
            if choice.get("finish_reason", NULL) != NULL:
                self._unfinished.discard(place)
        return body

    def end(self) -> None:
        """Note that the stream has ended.

        Raises:
            ApiError: 502, a choice is not whole.
        """
        if self._unfinished:
            raise _malformed(f"a stream ended before choices {sorted(self._unfinished)} were whole")

    def _body(self, data: bytes) -> ResponseJson:
        fields = read_object(data)
        if fields.get("error", NULL) != NULL or "choices" not in fields:
            raise _malformed("an answer holds an error, or no choices")
        try:
            raw = fields["choices"]
            choices = [] if raw == NULL else _read_choices(raw)
            return ResponseJson(fields, [self._marked(position, choice) for position, choice in enumerate(choices)])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, IndexError):
            raise _malformed("an answer's choices are not as they should be") from None

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
    """Make one answer of those of several parts: all choices in order, usage summed, all else as the first says."""
    choices = sorted((choice for body in bodies for choice in body.choices), key=lambda choice: choice[0])
    usage = Raw(encode(sum_usage([body.usage for body in bodies])))
    return ResponseJson({**bodies[0].fields, "usage": usage}, choices)


def sum_usage(usages: Iterable[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Sum what was spent, in detail; None if one does not tell: a part of the sum is no sum."""
    total: dict[str, Any] = {}
    for usage in usages:
        if usage is None:
            return None
        for key, value in usage.items():
            total[key] = _sum(total.get(key), value)
    return total


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return sum_usage([cast("dict[str, Any]", one), cast("dict[str, Any]", other)])
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one + other
    return other if one is None else one


def _holds_an_answer(choice: Fields) -> bool:
    message, text = bytes(choice.get("message", NULL)), bytes(choice.get("text", NULL))
    return (message.startswith(b"{") and message != b"{}") or text.startswith(b'"')


def _malformed(message: str) -> ApiError:
    return ApiError(502, message, kind="server_error", code="malformed")
