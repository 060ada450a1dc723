"""Messages between the trusted side and the first process of a workspace, over a stream: JSON, then bytes.

Both sides trust each other, and no program in the workspace can reach the stream.
"""

import _socket
import json
import struct
import sys
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

HEAD = struct.Struct("!II")
"""Sizes of the JSON and of the bytes after it."""
_ANCILLARY_BYTES = _socket.CMSG_SPACE(4)


class Packet(NamedTuple):
    """One order or one answer."""

    fields: dict[str, Any]
    body: bytes
    descriptors: list[int]


def pack(fields: dict[str, Any], body: bytes = b"") -> bytes:
    """Return a message as it is sent."""
    text = json.dumps(fields).encode()
    return HEAD.pack(len(text), len(body)) + text + body


def send(channel: "_socket.socket", data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send a packed message, whose first byte carries the descriptors. Raises OSError if the other side is gone."""
    carried = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    sent = channel.sendmsg([data], carried, _socket.MSG_NOSIGNAL)
    if sent < len(data):
        channel.sendall(memoryview(data)[sent:], _socket.MSG_NOSIGNAL)


def receive(channel: "_socket.socket") -> Packet | None:
    """Wait for a message; None if the other side is gone."""
    head, ancillary, _, _ = channel.recvmsg(HEAD.size, _ANCILLARY_BYTES, _socket.MSG_CMSG_CLOEXEC | _socket.MSG_WAITALL)
    if len(head) < HEAD.size:
        return None
    sizes = HEAD.unpack(head)
    text, body = (channel.recv(size, _socket.MSG_WAITALL) if size else b"" for size in sizes)
    if (len(text), len(body)) != sizes:
        return None
    return Packet(json.loads(text), body, descriptors_in(ancillary))


def descriptors_in(ancillary: Sequence[tuple[int, int, bytes]]) -> list[int]:
    """Return the descriptors that came with a message."""
    data = b"".join(carried for _, _, carried in ancillary)
    return [int.from_bytes(data[at : at + 4], sys.byteorder) for at in range(0, len(data), 4)]
