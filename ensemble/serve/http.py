"""HTTP as this server speaks it: bodies with a limit, JSON, event streams, and clients that leave.

Knows nothing of policies: work comes in as something to await, answers as objects to write.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ExceptionHandler, Receive, Scope, Send

from ensemble.serve.answers import JSON, encode
from ensemble.serve.errors import ApiError, internal, invalid, too_large

T = TypeVar("T")


async def read_limited(request: Request, limit: int) -> bytes:
    """Read a body.

    Raises:
        ApiError: 413, once more than `limit` bytes have come.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


async def unless_left(request: Request, work: Awaitable[T]) -> T:
    """Wait for the work; cancel it when the client leaves first.

    Raises:
        ClientDisconnect: the client left.
    """

    async def until_left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(until_left())
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def json_response(value: JSON, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with one object."""
    return Response(encode(value), status, headers, media_type="application/json")


class EventStream(StreamingResponse):
    """Server-sent events; calls `ended` once, however the stream ends."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes], ended: Callable[[], None], headers: Mapping[str, str]) -> None:
        super().__init__(events, headers={"cache-control": "no-cache", **headers})
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return json_response(error.as_json(), error.status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}"
    return json_response(invalid(message).as_json(), error.status_code, error.headers)


async def _nobody_there(_request: Request, _error: Exception) -> Response:
    return Response(status_code=499)  # never sent: the client has left


async def _fault(_request: Request, _error: Exception) -> Response:
    return json_response(internal().as_json(), 500)


EXCEPTION_HANDLERS: Mapping[type[Exception], ExceptionHandler] = {
    ApiError: _api_error,
    HTTPException: _http_error,
    ClientDisconnect: _nobody_there,
    Exception: _fault,  # starlette raises it again afterwards, which logs the traceback
}
"""Every error reaches the client as an OpenAI error object."""
