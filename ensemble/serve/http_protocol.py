"""HTTP/1 on one connection: uvicorn's protocol on httptools, with the bounds and the manners that it leaves out.

A request head has a size and a deadline, and the number of connections is bounded. A request to upgrade, which the
clients of the JDK send with every first request, is ignored, and its body is kept. A stream to an HTTP/1.0 client ends
with the connection, since such a client does not know chunks. Refusals have the form of the API.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid, server_error
from alphamix.ensemble.serve.protocol.responses import encode

_LINGER_S = 1.0
"""How long a refused client may go on to send: closing at once would make it lose the answer."""
_CLOSE = (b"connection", b"close")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits for the connections of clients."""

    head_bytes: int = 64 * 2**10
    """Maximum size of a request head. A chunked body may add as many bytes again, and one for each byte of body."""
    head_timeout_s: float = 30.0
    """Limit for a request head to arrive, from the connection or from the end of the last answer's pause."""
    connections: int = 8192
    """Maximum number of connections."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """One connection of a client."""

    limits = ConnectionLimits()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._overhead = 0
        """Bytes since the last head or body ended that are not body, less the bytes of body."""
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection if there are not too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            message = f"{self.limits.connections} connections are open, the limit of this server: try again later"
            self._refuse(server_error(503, message, "too_many_connections", retry_after_s=1), linger_s=0)
        else:
            self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived."""
        self._unset_keepalive_if_required()
        if self._is_refused:
            return
        self._overhead += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except _TooLargeError:
            self._refuse_head()
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _TooLargeError):
                self._refuse_head()
            else:
                self._refuse(invalid("the request is not HTTP/1: send a valid one", code="bad_request"))
        else:
            if self._overhead > self.limits.head_bytes:
                self._refuse_head()
            elif self._head_timer is None and not self._is_answering:
                self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the client asks for an upgrade: then the head is read again without that."""
        if self._overhead > self.limits.head_bytes:  # the bytes of a body may have come with the head
            num_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if num_bytes > self.limits.head_bytes:
                raise _TooLargeError
        self._overhead = 0
        self._stop_head_timer()
        if self.parser.should_upgrade():
            return
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.send = partial(_send_unframed, self.cycle)  # type: ignore[method-assign]

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._overhead -= 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._overhead = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the head again without `Upgrade`, and then what follows it."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(invalid("this server is no proxy: send POST or GET", status=405, code="bad_request"))
            return
        line = b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())
        headers = [
            b"%b: %b\r\n" % header for header in self.headers if header[0] not in (b"upgrade", b"http2-settings")
        ]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([line, *headers, b"\r\n", rest]))

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        message = f"no request head arrived within {self.limits.head_timeout_s:g} s: send it at once"
        self._refuse(invalid(message, status=408, code="request_timeout"))

    def _refuse_head(self) -> None:
        message = f"the request head is larger than {self.limits.head_bytes} bytes: send fewer or shorter headers"
        self._refuse(invalid(message, status=431, code="request_too_large"))

    def _refuse(self, error: ApiError, linger_s: float = _LINGER_S) -> None:
        """Answer with an error, unless another answer is under way, and close the connection."""
        self._is_refused = True
        self._stop_head_timer()
        if self.transport.is_closing():
            return
        if self._is_answering:
            self.transport.close()
            return
        body = encode(error.as_json())
        headers = {**error.headers, "content-type": "application/json", "content-length": str(len(body))}
        lines = [f"{name}: {value}\r\n".encode() for name, value in {**headers, "connection": "close"}.items()]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"\r\n", body]))
        if linger_s:
            self.transport.write_eof()
            self.loop.call_later(linger_s, self.transport.close)
        else:
            self.transport.close()


class _TooLargeError(Exception):
    """A head is too large."""


def protocol_with(limits: ConnectionLimits) -> type[BoundedHttpProtocol]:
    """Return the protocol with other limits, as uvicorn takes it: a class."""
    return type("BoundedHttpProtocol", (BoundedHttpProtocol,), {"limits": limits})


async def _send_unframed(cycle: Any, message: Any) -> None:
    """Send an ASGI message to a client of HTTP/1.0: a body of unknown length ends with the connection."""
    if message["type"] == "http.response.start":
        cycle.is_unframed = all(name.lower() != b"content-length" for name, _ in message["headers"])
        cycle.chunked_encoding = False if cycle.is_unframed else None
        if cycle.is_unframed and _CLOSE not in message["headers"]:
            message = {**message, "headers": [*message["headers"], _CLOSE]}
    elif cycle.is_unframed:
        cycle.expected_content_length = len(message.get("body", b""))
    await type(cycle).send(cycle, message)
