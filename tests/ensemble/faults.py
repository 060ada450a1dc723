"""What servers do wrong, for the test server: each fault spoils one reply in its own way."""

import json
import socket
import struct
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, TypeAlias

LATE_S = 2.0
"""How late a late reply is."""

Fault: TypeAlias = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]
"""Answers a request in place of the whole reply that is given."""


def send(handler: BaseHTTPRequestHandler, content: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(content)


def send_json(handler: BaseHTTPRequestHandler, body: object, status: int = 200, **headers: str) -> None:
    send(handler, json.dumps(body).encode(), status, **headers)


def status(code: int, **headers: str) -> Fault:
    def fault(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
        send_json(handler, {"error": {"message": "no"}}, code, **headers)

    return fault


def reset(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def half_closed(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    """Half of the body, and then no more is sent, though the connection still listens."""
    content = json.dumps(reply).encode()
    handler.close_connection = True
    send(handler, content[: len(content) // 2], **{"Content-Length": str(len(content))})
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_WR)


def truncated(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    content = json.dumps(reply).encode()
    send(handler, content[: len(content) // 2])


def error_inside(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    send_json(handler, {"error": {"message": "the worker is gone", "code": 502}})


def fewer(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    choices = reply["choices"]
    send_json(handler, reply | {"choices": choices[: max(1, len(choices) // 2)]})


def none(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    send_json(handler, reply | {"choices": []})


def identical(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    first = reply["choices"][0]
    send_json(handler, reply | {"choices": [first | {"index": i} for i in range(len(reply["choices"]))]})


def empty(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    blank = {"role": "assistant", "content": ""}
    send_json(handler, reply | {"choices": [choice | {"message": blank} for choice in reply["choices"]]})


def late(handler: BaseHTTPRequestHandler, reply: dict[str, Any]) -> None:
    time.sleep(LATE_S)
    send_json(handler, reply)


FAULTS: dict[str, Fault] = {
    "429": status(429),
    "429 with Retry-After": status(429, **{"Retry-After": "0.05"}),
    "500": status(500),
    "503": status(503),
    "reset": reset,
    "half-closed": half_closed,
    "truncated": truncated,
    "error inside": error_inside,
    "fewer": fewer,
    "none": none,
    "identical": identical,
    "empty": empty,
    "late": late,
}
