"""`/v1/responses` in terms of `/v1/chat/completions`: the request as a chat, and the answer or its chunks back. Pure.

Nothing is stored: a client sends the whole conversation each time, and `previous_response_id` is refused. Tools are
functions of the client. Items that only the servers of OpenAI can read, such as encrypted reasoning, are left out.
"""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias, cast

import msgspec

from alphamix.ensemble.serve.protocol.api_errors import invalid
from alphamix.ensemble.serve.protocol.raw_request import UNREADABLE

_Json: TypeAlias = dict[str, Any]

_SAME = (
    *("model", "temperature", "top_p", "stream", "tool_choice", "parallel_tool_calls", "user", "metadata", "seed"),
    *("ensemble", "top_logprobs", "service_tier", "safety_identifier", "prompt_cache_key"),
)
"""Parameters that both routes have."""
_REFUSED = ("previous_response_id", "conversation", "background", "prompt", "max_tool_calls")
_IGNORED = ("store", "include", "truncation", "stream_options", "prompt_cache_retention")
_TEXTS = {"output_text": "content", "refusal": "refusal"}
"""Kinds of the parts of a message, and the keys of the message of a chat that they come from."""
_OWN = ("input", "instructions", "max_output_tokens", "text", "tools", "reasoning")


def chat_request(raw: bytes) -> bytes:
    """Return the body of the chat that a request asks for.

    Raises:
        ApiError: 400; `param` names what is wrong, or is not supported.
    """
    try:
        body = msgspec.json.decode(raw, type=_Json)
    except msgspec.ValidationError:
        raise invalid("the body must be a JSON object: send one") from None
    except UNREADABLE as error:
        raise invalid(f"the body is not JSON: {error}; send a JSON object") from None
    given = {key: value for key, value in body.items() if value is not None}
    for key in _REFUSED:
        if given.get(key):
            message = f"the parameter {key!r} is not supported, since nothing is stored here: send the conversation"
            raise invalid(message, param=key, code="unsupported_parameter")
    chat = {key: value for key, value in given.items() if key in _SAME}
    others = given.keys() - {*_SAME, *_REFUSED, *_IGNORED, *_OWN}
    chat |= {key: given[key] for key in others}  # the policy's own parameters, which only it can refuse
    chat["messages"] = [*_instructions(given), *_messages(given.get("input"))]
    if "max_output_tokens" in given:
        chat["max_completion_tokens"] = given["max_output_tokens"]
    if "tools" in given:
        chat["tools"] = [_tool(tool, index) for index, tool in enumerate(_list(given["tools"], "tools"))]
    if isinstance(choice := given.get("tool_choice"), dict):
        chat["tool_choice"] = {"type": "function", "function": {"name": cast("_Json", choice).get("name")}}
    if effort := _object(given, "reasoning").get("effort"):
        chat["reasoning_effort"] = effort
    response_format = _object(_object(given, "text"), "format")
    if response_format.get("type") == "json_schema":
        schema = {key: value for key, value in response_format.items() if key != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif response_format:
        chat["response_format"] = response_format
    if chat.get("stream"):
        chat["stream_options"] = {"include_usage": True}
    return msgspec.json.encode(chat)


def _instructions(given: Mapping[str, Any]) -> list[_Json]:
    return [{"role": "system", "content": given["instructions"]}] if "instructions" in given else []


def _messages(items: object) -> list[_Json]:
    """Return the messages of an input: a text, or a list of messages, calls of functions and their outputs."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    messages: list[_Json] = []
    for index, item in enumerate(_list(items, "input")):
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"), index)})
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments")}
            call = {"id": item.get("call_id"), "type": "function", "function": function}
            if messages and "tool_calls" in messages[-1]:
                messages[-1]["tool_calls"].append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            content = _content(item.get("output"), index)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        elif kind != "reasoning":
            param = f"input[{index}].type"
            raise invalid(
                f"the parameter {param!r} = {kind!r} is not supported: send messages and functions", param=param
            )
    return messages


def _content(content: object, index: int) -> object:
    """Return a content with its parts as chats have them; text alone becomes a text."""
    if not isinstance(content, list):
        return content
    parts: list[_Json] = []
    for part in _list(cast("list[object]", content), f"input[{index}].content"):
        match part:
            case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
                parts.append({"type": "text", "text": text})
            case {"type": "refusal", "refusal": str(text)}:
                parts.append({"type": "text", "text": text})
            case {"type": "input_image", "image_url": str(url)}:
                parts.append({"type": "image_url", "image_url": {"url": url}})
            case _:
                param = f"input[{index}].content"
                message = f"the parameter {param!r} has a part of the type {part.get('type')!r}: send texts and images"
                raise invalid(message, param=param)
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _tool(tool: _Json, index: int) -> _Json:
    if tool.get("type") != "function":
        param = f"tools[{index}].type"
        raise invalid(f"the parameter {param!r} = {tool.get('type')!r} is not supported: send functions", param=param)
    return {"type": "function", "function": {key: value for key, value in tool.items() if key != "type"}}


def _list(value: object, param: str) -> list[_Json]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in cast("list[object]", value)):
        raise invalid(f"the parameter {param!r} is wrong: send a list of objects", param=param)
    return cast("list[_Json]", value)


def _object(given: Mapping[str, Any], name: str) -> _Json:
    value = given.get(name)
    if value is not None and not isinstance(value, dict):
        raise invalid(f"the parameter {name!r} is wrong: send an object", param=name)
    return cast("_Json", value or {})


class ResponseWriter:
    """Writes the answer to one request, from that of the chat or from its chunks."""

    def __init__(self, model: str = "") -> None:
        self._id = f"resp_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._number = 0
        self._items: list[_Json] = []
        """Items of the output so far. Those of functions are found by the index of their call."""
        self._texts: dict[str, int] = {}
        """Place of the text and of the refusal among the items, by the kind of their part."""
        self._calls: dict[int, int] = {}
        """Place of each call among the items."""
        self._finish: str | None = None
        self._usage: _Json | None = None

    def whole(self, chat: bytes) -> bytes:
        """Return the answer that is not streamed."""
        body = msgspec.json.decode(chat, type=_Json)
        self._model, self._usage = body["model"], body.get("usage")
        choice = body["choices"][0]
        message, self._finish = choice.get("message") or {}, choice.get("finish_reason")
        for kind, key in _TEXTS.items():
            if text := message.get(key):
                self._items.append(_message(kind, text, choice.get("policy")))
        for call in message.get("tool_calls") or []:
            self._items.append(_function_call(call.get("id"), call["function"]["name"], call["function"]["arguments"]))
        extra = {"ensemble": body["ensemble"]} if "ensemble" in body else {}
        return msgspec.json.encode({**self._response(self._status()), **extra})

    def opening(self) -> bytes:
        """Return the events that begin a stream."""
        response = self._response("in_progress")
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def chunk(self, chat: bytes) -> bytes:
        """Return the events for a chunk of the chat."""
        body = msgspec.json.decode(chat, type=_Json)
        if (error := body.get("error")) is not None:
            told = {"code": error.get("code") or "server_error", "message": error.get("message")}
            return self._event("response.failed", response={**self._response("failed"), "error": told})
        self._model, self._usage = body["model"], body.get("usage") or self._usage
        events = b""
        for choice in body["choices"]:
            delta = choice.get("delta") or {}
            for kind, key in _TEXTS.items():
                if text := delta.get(key):
                    events += self._text(kind, text, choice.get("policy"))
            for call in delta.get("tool_calls") or []:
                events += self._call(call)
            self._finish = choice.get("finish_reason") or self._finish
        return events

    def closing(self) -> bytes:
        """Return the events that end a stream."""
        events = b"".join(self._item_end(place, item) for place, item in enumerate(self._items))
        status = self._status()
        return events + self._event(f"response.{status}", response=self._response(status))

    def _text(self, kind: str, text: str, policy: object) -> bytes:
        events = b""
        if kind not in self._texts:
            place = self._texts[kind] = len(self._items)
            item = _message(kind, "", policy)
            self._items.append(item)
            added = {**item, "status": "in_progress", "content": []}
            events += self._event("response.output_item.added", output_index=place, item=added)
            events += self._part_event("response.content_part.added", place, part=item["content"][0])
        place = self._texts[kind]
        self._items[place]["content"][0][_field(kind)] += text
        return events + self._part_event(f"response.{kind}.delta", place, delta=text, **_extra(kind, "logprobs"))

    def _call(self, call: _Json) -> bytes:
        function, index, events = call.get("function") or {}, call.get("index", 0), b""
        if index not in self._calls:
            place = self._calls[index] = len(self._items)
            item = _function_call(call.get("id"), function.get("name"), "")
            self._items.append(item)
            added = {**item, "status": "in_progress"}
            events += self._event("response.output_item.added", output_index=place, item=added)
        place = self._calls[index]
        if piece := function.get("arguments"):
            item = self._items[place]
            item["arguments"] += piece
            kind = "response.function_call_arguments.delta"
            events += self._event(kind, output_index=place, item_id=item["id"], delta=piece)
        return events

    def _item_end(self, place: int, item: _Json) -> bytes:
        if item["type"] == "message":
            part = item["content"][0]
            kind, field = part["type"], _field(part["type"])
            told = {field: part[field], **_extra(kind, "logprobs")}
            events = self._part_event(f"response.{kind}.done", place, **told)
            events += self._part_event("response.content_part.done", place, part=part)
        else:
            told = {"item_id": item["id"], "name": item["name"], "arguments": item["arguments"]}
            events = self._event("response.function_call_arguments.done", output_index=place, **told)
        return events + self._event("response.output_item.done", output_index=place, item=item)

    def _part_event(self, kind: str, place: int, **fields: Any) -> bytes:
        return self._event(kind, output_index=place, item_id=self._items[place]["id"], content_index=0, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        data = msgspec.json.encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    def _status(self) -> str:
        return "incomplete" if self._finish in ("length", "content_filter") else "completed"

    def _response(self, status: str) -> _Json:
        reason = "max_output_tokens" if self._finish == "length" else self._finish
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": None,
            "metadata": {},
            "model": self._model,
            "output": self._items if status != "in_progress" else [],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "store": False,
            "usage": _usage(self._usage) if status != "in_progress" else None,
        }


def _message(kind: str, text: str, policy: object) -> _Json:
    part = {"type": kind, _field(kind): text, **_extra(kind, "annotations")}
    item = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant", "status": "completed"}
    return {**item, "content": [part], "policy": policy}


def _field(kind: str) -> str:
    """Return the name of the text in a part of a message."""
    return "refusal" if kind == "refusal" else "text"


def _extra(kind: str, name: str) -> dict[str, list[object]]:
    """Return the empty list that texts have, and refusals do not."""
    return {} if kind == "refusal" else {name: []}


def _function_call(call_id: object, name: object, arguments: str) -> _Json:
    item = {"id": f"fc_{uuid.uuid4().hex}", "type": "function_call", "status": "completed"}
    return {**item, "call_id": call_id, "name": name, "arguments": arguments}


def _usage(usage: _Json | None) -> _Json | None:
    if usage is None:
        return None
    read, written = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": thought},
        "total_tokens": read + written,
    }


def event_chunks(events: bytes) -> Iterator[bytes]:
    """Yield the data of the server-sent events of a chat, without comments and `[DONE]`."""
    for event in events.split(b"\n\n"):
        if event.startswith(b"data: ") and event != b"data: [DONE]":
            yield event.removeprefix(b"data: ")


def is_done(events: bytes) -> bool:
    """Whether a chat has come to its end."""
    return events.endswith(b"data: [DONE]\n\n")
