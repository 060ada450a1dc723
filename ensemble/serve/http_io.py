"""HTTP input and output: ids, bodies with a limit, JSON, event streams, clients that disconnect, a server that stops.

Plain ASGI on the path of every request. Knows nothing of policies: answers come in as bytes.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Self

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send

from alphamix.ensemble.serve.protocol.api_errors import ApiError, internal, invalid, stopping
from alphamix.ensemble.serve.protocol.request_record import RequestRecord
from alphamix.ensemble.serve.protocol.responses import JSON, encode

_JSON = "application/json"
REQUEST_ID = "alphamix.request_id"
"""Key of the scope of a request with its id."""
_LONGEST_REQUEST_ID = 128
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models")
"""Paths for clients, which the answer to an unknown one lists."""


class RequestIdMiddleware:
    """Gives each request the id that the client has sent, or a new one, and tells it with the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        given = Headers(scope=scope).get("x-request-id", "")
        is_usable = given.isascii() and given.isprintable() and 0 < len(given) <= _LONGEST_REQUEST_ID
        scope[REQUEST_ID] = given if is_usable else os.urandom(16).hex()
        header = (b"x-request-id", scope[REQUEST_ID].encode())

        def tell(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], header]}
            return send(message)

        await self._app(scope, receive, tell)


async def read_limited(request: Request, limit: int, timeout_s: float) -> bytes:
    """Read the body of a request.

    Raises:
        ApiError: 413, it has more than `limit` bytes; 408, it takes longer than the time-out.
        ClientDisconnect: the client disconnected.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    message = f"the request body is larger than {limit} bytes: send smaller requests"
                    raise invalid(message, status=413, code="request_too_large")
            return bytes(body)
    except TimeoutError:
        message = f"the request body did not arrive within {timeout_s:g} s: send it at once"
        raise invalid(message, status=408, code="request_timeout") from None


class CancelOnDisconnect:
    """Context that cancels the work inside when the client disconnects, and then raises `ClientDisconnect`."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_disconnected = False

    async def __aenter__(self) -> Self:
        self._working = asyncio.current_task()
        self._waiting = asyncio.create_task(self._wait())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.cancel()
        if self._is_disconnected and kind is asyncio.CancelledError and self._working is not None:
            self._working.uncancel()  # the task goes on, to count the request
            raise ClientDisconnect from None

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._is_disconnected = True
        if self._working is not None:
            self._working.cancel()


async def send_body(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send an answer that is already encoded as JSON."""
    await send(_head(status, {"content-type": _JSON, "content-length": str(len(body)), **headers}))
    await send({"type": "http.response.body", "body": body})


async def send_events(
    send: Send,
    receive: Receive,
    events: AsyncGenerator[bytes],
    headers: Mapping[str, str],
    patience_s: float,
    record: RequestRecord,
    failure: Callable[[bytes], bytes],
) -> None:
    """Send server-sent events until they end. A client that accepts none for `patience_s` counts as gone.

    If the server stops first, the record says so, and the last event, which `failure` makes of an error object.

    Raises:
        ClientDisconnect: the client disconnected.
    """
    await send(_head(200, {"content-type": "text/event-stream", "cache-control": "no-cache", **headers}))
    try:
        async with CancelOnDisconnect(receive), aclosing(events):
            async for data in events:
                if data:
                    async with asyncio.timeout(patience_s):
                        await send({"type": "http.response.body", "body": data, "more_body": True})
    except TimeoutError:
        raise ClientDisconnect from None
    except asyncio.CancelledError:
        end_cancellation()
        record.error = stopping().code
        await send({"type": "http.response.body", "body": failure(encode(stopping().as_json()))})
        return
    await send({"type": "http.response.body", "body": b""})


def end_cancellation() -> None:
    """Let the current task go on after its cancellation, to tell the client of it."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()


def sse_event(data: bytes) -> bytes:
    """Return a server-sent event."""
    return b"data: " + data + b"\n\n"


def json_response(value: JSON, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with one JSON object."""
    return Response(encode(value), status, headers, media_type=_JSON)


def _head(status: int, headers: Mapping[str, str]) -> dict[str, object]:
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return json_response(error.as_json(), error.status, error.headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    allowed = (error.headers or {}).get("Allow", "")
    if error.status_code == 405 and request.method == "OPTIONS":
        return Response(status_code=204, headers={"allow": f"{allowed}, OPTIONS"})
    path = request.url.path
    if error.status_code == 404:
        message = f"this server has no {path[:200]}: it has {', '.join(ENDPOINTS)}"
        return json_response(invalid(message, code="unknown_endpoint").as_json(), 404)
    message = f"{error.detail}: {request.method} {path[:200]}; send {allowed}"
    return json_response(invalid(message).as_json(), error.status_code, error.headers)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return json_response(internal().as_json(), 500)


EXCEPTION_HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    ApiError: _api_error,
    HTTPException: _http_error,
    Exception: _internal_error,  # starlette raises it again afterwards, which logs the traceback
}
"""Handlers that turn every error into an OpenAI error object."""
