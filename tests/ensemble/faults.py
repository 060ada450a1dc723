"""What servers do wrong, for the test server: each fault spoils one reply in its own way."""

import json
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from alphamix.policies.engines.openai.fake_server import JSON, AnyReply, FakeReply, RawReply, error, json_reply

LATE_S = 2.0
"""How late a late reply is."""

Body: TypeAlias = dict[str, Any]
Fault: TypeAlias = Callable[[Body], AnyReply]
"""Returns what is sent in place of a whole body."""


def half_of(body: Body) -> tuple[bytes, int]:
    """Return the first half of a body, and the length of the whole."""
    content = json.dumps(body).encode()
    return content[: len(content) // 2], len(content)


def half_closed(body: Body) -> AnyReply:
    """Send half of the body and then no more, though the connection still listens."""
    half, length = half_of(body)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n\r\n"
    return RawReply(head.encode() + half, end="half-close")


def fewer(body: Body) -> AnyReply:
    choices = body["choices"]
    return json_reply(body | {"choices": choices[: max(1, len(choices) // 2)]})


def identical(body: Body) -> AnyReply:
    first = body["choices"][0]
    return json_reply(body | {"choices": [first | {"index": i} for i in range(len(body["choices"]))]})


def empty(body: Body) -> AnyReply:
    blank = {"role": "assistant", "content": ""}
    return json_reply(body | {"choices": [choice | {"message": blank} for choice in body["choices"]]})


def late(body: Body) -> AnyReply:
    time.sleep(LATE_S)
    return json_reply(body)


FAULTS: dict[str, Fault] = {
    "429": lambda body: error(429),
    "429 with Retry-After": lambda body: error(429, **{"Retry-After": "0.05"}),
    "500": lambda body: error(500),
    "503": lambda body: error(503),
    "reset": lambda body: RawReply(end="reset"),
    "half-closed": half_closed,
    "truncated": lambda body: FakeReply(half_of(body)[0]),
    "error inside": lambda body: json_reply({"error": {"message": "the worker is gone", "code": 502}}),
    "fewer": fewer,
    "none": lambda body: json_reply(body | {"choices": []}),
    "identical": identical,
    "empty": empty,
    "late": late,
}
