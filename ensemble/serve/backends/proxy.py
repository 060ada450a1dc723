"""A policy behind a URL: bodies go out as they came, answers come back as bytes. aiohttp does the HTTP.

What the upstream says is told to the client only where it is about the request itself, and then without addresses
and names of the upstream. Whether an answer has the right form, and who is asked instead, is decided elsewhere.
"""

import asyncio
import io
import logging
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.protocol.api_errors import ApiError, broken, invalid, rate_limited, timed_out, unreachable
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import Path, RawRequest
from alphamix.policies.engines.openai.server_answers import event_data

LONGEST_ANSWER = 256 * 2**20
"""Bytes of an answer that is not streamed."""
LONGEST_EVENT = 16 * 2**20
"""Bytes of one event of a stream."""
_AT_ONCE = 2**20
"""Bytes of a body that are written in one go; more would hold up all others."""
_LONGEST_ERROR = 64 * 2**10
_DONE = b"[DONE]"
_LONGEST_WAIT_S = 3600.0
"""That a client is told, whatever the upstream says."""
_END_TIMEOUT_S = 1.0
"""For the end of a stream after its last event: a connection that has it can be used again."""
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"]+")

log = logging.getLogger("alphamix.serve")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a policy is served, and under which name."""

    url: str
    """Base of the OpenAI-compatible API."""
    model: str
    api_key: str | None = field(default=None, repr=False)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """What each request says besides, as `RawRequest.body` takes it."""


class Proxy:
    """Asks one upstream. A connection that breaks before the first byte is tried once more."""

    def __init__(self, policy: str, target: Upstream, timeouts: Timeouts) -> None:
        self._policy = policy
        self._target = target
        self._timeouts = timeouts
        self._urls: dict[str, URL] = {
            path: URL(f"{target.url.rstrip('/')}/{path}") for path in ("chat/completions", "completions", "models")
        }
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", "user-agent": "alphamix"}
        if target.api_key is not None:
            self._headers["authorization"] = f"Bearer {target.api_key}"
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Ask, and return the body of the answer.

        Raises:
            ApiError: there is none.
        """
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        response = await self._post(request.path, self._body(request, part), deadline)
        try:
            pieces = [piece async for piece in self._pieces(response, deadline, LONGEST_ANSWER)]
        finally:
            response.close()
        return b"".join(pieces)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Ask, and yield the data of the events of the answer, those at a time that came at a time.

        Raises:
            ApiError: there is no stream, or it breaks off.
        """
        deadline = asyncio.get_running_loop().time() + self._timeouts.total_s
        response = await self._post(request.path, self._body(request, part), deadline)
        try:
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
        finally:
            response.close()

    async def describe(self) -> dict[str, Any]:
        """What the upstream says about the model: its entry in `models`; empty where it says nothing."""
        try:
            async with (
                asyncio.timeout(self._timeouts.connect_s),
                self._opened().get(self._urls["models"], headers=self._headers) as response,
            ):
                listed = msgspec.json.decode(await response.read())
                return next((dict(m) for m in listed["data"] if m.get("id") == self._target.model), {})
        except (aiohttp.ClientError, OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError):
            return {}

    async def close(self) -> None:
        """Close the connections; who asks now or later has not reached it. Safe to call twice."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def _body(self, request: RawRequest, part: Part) -> bytes:
        return request.body(self._target.model, part, self._target.extra)

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise aiohttp.ClientConnectionError("the relay is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s),
            )
        return self._session

    async def _post(self, path: Path, body: bytes, deadline: float) -> aiohttp.ClientResponse:
        """Post, and wait for the head of an answer with status 200."""
        limit = min(deadline, asyncio.get_running_loop().time() + self._timeouts.first_byte_s)
        try:
            response = await self._head(path, body, limit)
        except aiohttp.ClientConnectorError as error:
            raise self._not_reached(error) from error
        except (aiohttp.ClientConnectionError, ConnectionError) as error:
            # A kept connection may be closed by the server at the moment that it is used: once more, on another.
            response = await self._head_of_last_try(path, body, limit, error)
        if response.status != 200:
            try:
                raise await self._refusal(response, deadline)
            finally:
                response.close()
        return response

    async def _head(self, path: Path, body: bytes, limit: float) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout_at(limit):
                data = body if len(body) <= _AT_ONCE else io.BytesIO(body)
                return await self._opened().post(
                    self._urls[path], data=data, headers=self._headers, allow_redirects=False
                )
        except TimeoutError as error:
            log.error("the policy %r at %s: time-out", self._policy, self._target.url)
            raise timed_out(self._policy, f"no answer in {self._timeouts.first_byte_s:g} s") from error
        except (aiohttp.ClientResponseError, aiohttp.ClientPayloadError, aiohttp.InvalidURL) as error:
            raise self._failed("malformed", repr(error)) from error

    async def _head_of_last_try(
        self, path: Path, body: bytes, limit: float, first_error: Exception
    ) -> aiohttp.ClientResponse:
        try:
            return await self._head(path, body, limit)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise self._not_reached(error) from first_error

    async def _read(self, response: aiohttp.ClientResponse, deadline: float) -> bytes:
        """Read what is there; empty at the end."""
        limit = min(deadline, asyncio.get_running_loop().time() + self._timeouts.idle_s)
        try:
            async with asyncio.timeout_at(limit):
                return await response.content.readany()
        except TimeoutError as error:
            log.error("the policy %r at %s: time-out within an answer", self._policy, self._target.url)
            raise timed_out(self._policy, "nothing more within the time-out") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failed("connection", repr(error)) from error

    async def _pieces(
        self, response: aiohttp.ClientResponse, deadline: float, most_bytes: int
    ) -> AsyncGenerator[bytes]:
        while piece := await self._read(response, deadline):
            most_bytes -= len(piece)
            if most_bytes < 0:
                raise self._failed("malformed", "an answer without end")
            yield piece

    async def _finish(self, response: aiohttp.ClientResponse) -> None:
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await response.content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError, OSError):
            return  # the answer is whole: only the connection is lost

    async def _refusal(self, response: aiohttp.ClientResponse, deadline: float) -> ApiError:
        """Turn an answer with another status into an error: told in full only where the request is to blame."""
        status = response.status
        said = b"".join([piece async for piece in self._pieces(response, deadline, _LONGEST_ERROR)])
        log.warning("the policy %r at %s answers %d: %s", self._policy, self._target.url, status, said[:1000])
        if status == 429:
            wait = response.headers.get("retry-after", "")
            return rate_limited(self._policy, min(float(wait), _LONGEST_WAIT_S) if wait.isdecimal() else 1.0)
        if status in (400, 413, 422):
            return self._told(status, said)
        if status in (401, 403, 404):
            return broken(self._policy, "rejected")
        return broken(self._policy, "server" if status >= 500 else "malformed")

    def _told(self, status: int, said: bytes) -> ApiError:
        """Pass on what is wrong with the request."""
        try:
            error = msgspec.json.decode(said)
            error = error.get("error", error)
            message, param, code = error.get("message"), error.get("param"), error.get("code")
        except (msgspec.MsgspecError, UnicodeDecodeError, AttributeError, RecursionError):
            message = param = code = None
        if not isinstance(message, str):
            return invalid(f"the policy {self._policy!r} refused this request: correct it", code="rejected")
        told = invalid(
            self._redacted(message),
            param=param if isinstance(param, str) else None,
            code=self._redacted(code) if isinstance(code, str) else "rejected",
        )
        told.status = status
        return told

    def _redacted(self, text: str) -> str:
        text = _ADDRESS.sub("…", text)
        place = urlsplit(self._target.url)
        for secret in (self._target.api_key, place.netloc, place.hostname):
            if secret:
                text = text.replace(secret, "…")
        return text.replace(self._target.model, self._policy) if len(self._target.model) > 3 else text

    def _failed(self, cause: str, told: str) -> ApiError:
        log.error("the policy %r at %s failed (%s): %s", self._policy, self._target.url, cause, told)
        return broken(self._policy, cause)

    def _not_reached(self, error: Exception) -> ApiError:
        log.error("the policy %r at %s is not reached: %r", self._policy, self._target.url, error)
        return unreachable(self._policy)
