"""A policy that several servers run: a request goes to the one with the least under way, and to the next if it fails.

A server that fails again and again is left out for a while, as a policy is (`breaker`). Nothing that has reached the
client is asked for twice.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, contextmanager
from typing import Any

from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions, CircuitBreaker
from alphamix.ensemble.serve.backends.proxy import Proxy
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import RawRequest


class LoadBalancer:
    """Shares the requests for one policy between its servers."""

    def __init__(self, proxies: Sequence[Proxy], options: BreakerOptions) -> None:
        self._servers = [_Server(proxy, CircuitBreaker(options, time.monotonic)) for proxy in proxies]
        self._turn = 0

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """As a `Proxy`; raises what the last server said, if all fail."""
        *first, last = self._in_turn()
        for server in first:
            try:
                with server.asked():
                    return await server.proxy.complete(request, part)
            except ApiError as error:
                if not error.is_retryable:
                    raise
        with last.asked():
            return await last.proxy.complete(request, part)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """As a `Proxy`; the next server is asked only while nothing has come."""
        servers = self._in_turn()
        for server in servers:
            has_begun = False
            try:
                with server.asked():
                    async with aclosing(server.proxy.stream(request, part)) as batches:
                        async for events in batches:
                            has_begun = True
                            yield events
                return
            except ApiError as error:
                if has_begun or not error.is_retryable or server is servers[-1]:
                    raise

    async def describe(self) -> dict[str, Any]:
        """What the first server that says anything says about the model."""
        told = await asyncio.gather(*(server.proxy.describe() for server in self._servers))
        return next((one for one in told if one), {})

    async def close(self) -> None:
        """Close the connections to all servers."""
        await asyncio.gather(*(server.proxy.close() for server in self._servers))

    def _in_turn(self) -> list["_Server"]:
        """Order the servers that may be asked: least under way first, in turn where that is equal."""
        self._turn += 1
        start = self._turn % len(self._servers)
        turned = self._servers[start:] + self._servers[:start]
        passable = [server for server in turned if server.breaker.is_passable]
        return sorted(passable or turned, key=lambda server: server.in_flight)


class _Server:
    def __init__(self, proxy: Proxy, breaker: CircuitBreaker) -> None:
        self.proxy = proxy
        self.breaker = breaker
        self.in_flight = 0

    @contextmanager
    def asked(self) -> Generator[None]:
        """Count a request, and how it ends."""
        self.breaker.enter()
        self.in_flight += 1
        try:
            yield
        except ApiError as error:
            if error.is_server_error:
                self.breaker.fail()
            else:
                self.breaker.succeed()
            raise
        except BaseException:  # the client left
            self.breaker.abandon()
            raise
        else:
            self.breaker.succeed()
        finally:
            self.in_flight -= 1
