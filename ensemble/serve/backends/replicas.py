"""A policy that several servers run: a request goes to the least busy server, and to the next one if that fails.

A server that fails repeatedly is left out for a while (`circuit_breaker`). Once part of an answer has reached the
client, no other server is asked for it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions, CircuitBreaker
from alphamix.ensemble.serve.backends.proxy import Proxy
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest, turn_of_session


class LoadBalancer:
    """Backend that shares the requests for one policy between its servers."""

    def __init__(self, proxies: Sequence[Proxy], options: BreakerOptions) -> None:
        self._servers = [_Server(proxy, CircuitBreaker(options, time.monotonic)) for proxy in proxies]
        self._turn = 0

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Return the body of the first server that answers; if all fail, raise the error of the last one."""
        doubtful: list[_Server] = []
        *first, last = self._in_order(request.session)
        for server in first:
            try:
                with server.entered(doubtful):
                    return await server.proxy.complete(request, part)
            except ApiError as error:
                if not error.is_retryable:
                    raise
        with last.entered(doubtful):
            return await last.proxy.complete(request, part)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Yield the events of the first server that begins to answer; if all fail, raise the error of the last one."""
        doubtful: list[_Server] = []
        servers = self._in_order(request.session)
        for server in servers:
            has_begun = False
            try:
                with server.entered(doubtful):
                    async with aclosing(server.proxy.stream(request, part)) as batches:
                        async for events in batches:
                            has_begun = True
                            yield events
                return
            except ApiError as error:
                if has_begun or not error.is_retryable or server is servers[-1]:
                    raise

    async def describe(self) -> dict[str, Any]:
        """Return the first description that a server gives of the model."""
        descriptions = await asyncio.gather(*(server.proxy.describe() for server in self._servers))
        return next(filter(None, descriptions), {})

    async def close(self) -> None:
        """Close the connections to all servers."""
        await asyncio.gather(*(server.proxy.close() for server in self._servers))

    def _in_order(self, session: str | None) -> list["_Server"]:
        """Order the servers that are in service by their load; equal ones take turns.

        A session keeps its server, which has read its beginning, and the order of the others, as long as they serve.
        """
        self._turn += 1
        start = (self._turn if session is None else turn_of_session(session)) % len(self._servers)
        rotated = self._servers[start:] + self._servers[:start]
        passable = [server for server in rotated if server.breaker.is_passable] or rotated
        return passable if session is not None else sorted(passable, key=lambda server: server.in_flight)


class _Server:
    def __init__(self, proxy: Proxy, breaker: CircuitBreaker) -> None:
        self.proxy = proxy
        self.breaker = breaker
        self.in_flight = 0

    @contextmanager
    def entered(self, doubtful: list["_Server"]) -> Generator[None]:
        """Count a call and how it ends. Servers whose failure is `doubtful` have failed if this one answers."""
        # If every server is out of service, one is asked anyway, since its own error tells the client more.
        self.breaker.enter()
        self.in_flight += 1
        try:
            with self.breaker.recording():
                yield
        except ApiError as error:
            if error.is_doubtful:
                doubtful.append(self)
            raise
        else:
            for server in doubtful:
                server.breaker.fail()
        finally:
            self.in_flight -= 1
