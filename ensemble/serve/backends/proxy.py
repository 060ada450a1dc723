"""A policy behind a URL: bodies are passed on unchanged, and answers come back as bytes. aiohttp does the HTTP.

Error messages of the upstream reach the client only if they are about the request itself, and then without addresses
and names of the upstream. The form of an answer, and which policy is asked instead, are not this module's concern.
"""

import asyncio
import io
import logging
import re
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.protocol.api_errors import (
    ApiError,
    bad_response,
    invalid,
    rate_limit,
    timed_out,
    unreachable,
)
from alphamix.ensemble.serve.protocol.raw_request import UNREADABLE, Part, RawRequest
from alphamix.policies.engines.openai.address import authorization, shown, without_user
from alphamix.policies.engines.openai.server_answers import event_data

LONGEST_ANSWER = 256 * 2**20
"""Maximum bytes of an answer that is not streamed."""
LONGEST_EVENT = 16 * 2**20
"""Maximum bytes of one event of a stream."""
_LONGEST_WRITE = 2**20
"""Maximum bytes of a body that are written at once; more would hold up the event loop."""
_LONGEST_ERROR = 64 * 2**10
_DONE = b"[DONE]"
_LONGEST_WAIT_S = 3600.0
"""Cap on the Retry-After that is forwarded."""
_END_TIMEOUT_S = 1.0
"""How long to wait for the end of a stream after its last event: only then can its connection be used again."""
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"]+")

log = logging.getLogger("alphamix.serve")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Address of a policy: where it is served, and under which name."""

    url: str
    """Base of the OpenAI-compatible API."""
    model: str
    api_key: str | None = field(default=None, repr=False)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Objects that are added to each request, as in `RawRequest.body`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    """Headers that are added to each request."""


class Proxy:
    """Backend that asks one upstream. A request whose connection breaks before the first byte is sent once more."""

    def __init__(self, policy: str, upstream: Upstream, timeouts: Timeouts) -> None:
        self._policy = policy
        self._upstream = upstream
        self._timeouts = timeouts
        base = URL(without_user(upstream.url))
        self._urls = {
            path: base.with_path(f"{base.raw_path.rstrip('/')}/{path}", encoded=True, keep_query=True)
            for path in ("chat/completions", "completions", "models")
        }
        self._shown_url = shown(upstream.url)
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "alphamix"}
        if (user := authorization(upstream.url, upstream.api_key)) is not None:
            self._headers["authorization"] = user
        self._headers.update(upstream.headers)
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Return the body of the answer."""
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        with closing(await self._post(request, part, deadline)) as response:
            return await self._read_all(response, deadline, LONGEST_ANSWER)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Yield the data of the events of the answer; events that came together are yielded together."""
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        with closing(await self._post(request, part, deadline)) as response:
            if response.content_type != "text/event-stream":
                raise self._failed("malformed", f"a stream of the type {response.content_type!r}")
            rest = b""
            while piece := await self._read(response, deadline):
                *lines, rest = (rest + piece).split(b"\n")
                if len(rest) > LONGEST_EVENT:
                    raise self._failed("malformed", f"an event of more than {LONGEST_EVENT} bytes")
                events = [data for line in lines if (data := event_data(line))]
                is_done = _DONE in events
                if is_done:
                    del events[events.index(_DONE) :]
                if events:
                    yield events
                if is_done:
                    await self._finish(response)
                    return

    async def describe(self) -> dict[str, Any]:
        """Return the entry of the model in the upstream's `/models`; empty if there is none."""
        try:
            async with (
                asyncio.timeout(self._timeouts.connect_s),
                self._opened().get(self._urls["models"], headers=self._headers) as response,
            ):
                listed = msgspec.json.decode(await response.read())
                return next((dict(m) for m in listed["data"] if m.get("id") == self._upstream.model), {})
        except (aiohttp.ClientError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return {}

    async def close(self) -> None:
        """Close the connections; requests now and later fail as unreachable. Safe to call twice."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise aiohttp.ClientConnectionError("the proxy is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s),
            )
        return self._session

    async def _post(self, request: RawRequest, part: Part, deadline: float) -> aiohttp.ClientResponse:
        """Send the request and return the response once its headers have come, with status 200."""
        body = request.body(self._upstream.model, part, self._upstream.extra)
        limit = min(deadline, asyncio.get_running_loop().time() + self._timeouts.first_byte_s)
        try:
            response = await self._head(request, body, limit)
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from error
        except (aiohttp.ClientConnectionError, ConnectionError) as first_error:
            # The server may close a kept connection at the moment that it is used, so try once more on another.
            try:
                response = await self._head(request, body, limit)
            except (aiohttp.ClientError, ConnectionError) as error:
                raise self._unreachable(error) from first_error
        if response.status != 200:
            with closing(response):
                raise await self._refusal(response, deadline)
        return response

    async def _head(self, request: RawRequest, body: bytes, limit: float) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout_at(limit):
                data = body if len(body) <= _LONGEST_WRITE else io.BytesIO(body)
                headers = {**self._headers, **request.record.headers}
                url = self._urls[request.path]
                return await self._opened().post(url, data=data, headers=headers, allow_redirects=False)
        except TimeoutError as error:
            log.error("the policy %r at %s timed out", self._policy, self._shown_url)
            raise timed_out(self._policy, f"no answer in {self._timeouts.first_byte_s:g} s") from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError, aiohttp.InvalidURL) as error:
            raise self._failed("malformed", repr(error)) from error

    async def _read(self, response: aiohttp.ClientResponse, deadline: float) -> bytes:
        """Return the bytes that have arrived; empty at the end."""
        limit = min(deadline, asyncio.get_running_loop().time() + self._timeouts.idle_s)
        try:
            async with asyncio.timeout_at(limit):
                return await response.content.readany()
        except TimeoutError as error:
            log.error("the policy %r at %s timed out within an answer", self._policy, self._shown_url)
            raise timed_out(self._policy, "nothing more within the time-out") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed("connection", repr(error)) from error

    async def _read_all(self, response: aiohttp.ClientResponse, deadline: float, limit: int) -> bytes:
        pieces: list[bytes] = []
        while piece := await self._read(response, deadline):
            limit -= len(piece)
            if limit < 0:
                raise self._failed("malformed", "the answer is too long")
            pieces.append(piece)
        return b"".join(pieces)

    async def _finish(self, response: aiohttp.ClientResponse) -> None:
        # The answer is complete: if its end does not come, only the connection cannot be used again.
        with suppress(TimeoutError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await response.content.readany():
                    pass

    async def _refusal(self, response: aiohttp.ClientResponse, deadline: float) -> ApiError:
        """Turn an answer with another status into an error; its text is passed on only if the request is at fault."""
        status = response.status
        text = await self._read_all(response, deadline, _LONGEST_ERROR)
        log.warning("the policy %r at %s answers %d: %s", self._policy, self._shown_url, status, text[:1000])
        rest_s = retry_after_s(response.headers.get("retry-after", ""), time.time())
        if status == 429:
            message = f"the policy {self._policy!r} is at its limit: try again later"
            error = rate_limit(message, 1.0 if rest_s is None else min(rest_s, _LONGEST_WAIT_S))
            error.rest_s = rest_s
            return error
        if status in (400, 413, 422):
            return self._rejection(status, text)
        if status in (401, 403, 404):
            return bad_response(self._policy, "rejected")
        error = bad_response(self._policy, "server" if status >= 500 else "malformed")
        if status == 503 and rest_s is not None:
            error.rest_s, error.retry_after_s = rest_s, min(rest_s, _LONGEST_WAIT_S)
        return error

    def _rejection(self, status: int, text: bytes) -> ApiError:
        """Pass on what the upstream says is wrong with the request."""
        try:
            error = msgspec.json.decode(text)
            error = error.get("error", error)
            message, param, code = error.get("message"), error.get("param"), error.get("code")
        except (*UNREADABLE, AttributeError):
            message = param = code = None
        if not isinstance(message, str):
            return invalid(f"the policy {self._policy!r} refused this request: correct it", code="rejected")
        return invalid(
            self._redacted(message),
            status=status,
            param=param if isinstance(param, str) else None,
            code=self._redacted(code) if isinstance(code, str) else "rejected",
        )

    def _redacted(self, text: str) -> str:
        text = _ADDRESS.sub("…", text)
        address = urlsplit(self._upstream.url)
        for secret in (self._upstream.api_key, address.netloc, address.hostname):
            if secret:
                text = text.replace(secret, "…")
        # A very short name may well be part of an ordinary word.
        return text.replace(self._upstream.model, self._policy) if len(self._upstream.model) > 3 else text

    def _failed(self, cause: str, details: str) -> ApiError:
        log.error("the policy %r at %s failed (%s): %s", self._policy, self._shown_url, cause, details)
        return bad_response(self._policy, cause)

    def _unreachable(self, error: Exception) -> ApiError:
        log.error("the policy %r at %s is unreachable: %r", self._policy, self._shown_url, error)
        return unreachable(self._policy)


def retry_after_s(header: str, now: float) -> float | None:
    """Return the seconds that a header `Retry-After` asks to wait, given as such or as a date; None if it does not."""
    if header.isascii() and header.isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except (ValueError, TypeError):
        return None
