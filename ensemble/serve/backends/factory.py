"""Chooses the backend of each policy: a proxy for a policy on a server, else an engine driven from this process.

Policies behind a URL and those on vLLM servers that we start are proxied; for pairs whose logits are mixed, each
request also states its α. Servers whose weights are switched do not take requests unchanged: their engine drives them.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.ensemble.serve.backends.engine_thread import EngineThread, load_engine
from alphamix.ensemble.serve.backends.in_process import InProcessPolicy
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyBackend
from alphamix.ensemble.serve.backends.policy_queue import PolicyQueue
from alphamix.ensemble.serve.backends.proxy import Proxy, Upstream, log
from alphamix.ensemble.serve.backends.replicas import LoadBalancer
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.lazy import LazyValue
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest
from alphamix.ensemble.serve.protocol.responses import PolicyInfo
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.registry import Credentials, Registry
from alphamix.policies.types import Engine


class PolicyCatalogue(Protocol):
    """What the server reads of a `policies.registry.Registry`."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the policies."""
        ...

    @property
    def mixtures(self) -> Mapping[str, Mapping[str, float]]:
        """The ensembles: weights by policy."""
        ...

    @property
    def is_switched(self) -> bool:
        """Whether the policies share one server that is switched between them."""
        ...

    @property
    def open_sweeps(self) -> Mapping[str, tuple[float, ...]]:
        """Sweeps that `at` can extend, with the α of their listed members."""
        ...

    def alpha(self, name: str) -> float | None:
        """Return the α of a policy that is a merge."""
        ...

    def at(self, sweep: str, alpha: float) -> str:
        """Return the name of the member of a sweep at any α."""
        ...

    def is_made(self, name: str) -> bool:
        """Return whether a checkpoint is written to disk for a policy."""
        ...

    def open(self, name: str, options: EngineOptions) -> Engine:
        """Open the engine of a policy."""
        ...


class _Address(Protocol):
    url: str
    api_key: str


@runtime_checkable
class _OnServer(Protocol):
    """An engine on a server that we start."""

    server: _Address
    model: str
    extra_body: Mapping[str, Mapping[str, Any]]

    def close(self) -> None: ...


class OnDemandServer:
    """Backend that starts its server for the first request, and proxies requests to it.

    If the server is found dead, the next request starts another; the circuit breaker limits how often that is tried.
    """

    def __init__(
        self, policy: str, open_engine: Callable[[], Engine], timeouts: Timeouts, starting: asyncio.Lock
    ) -> None:
        self._policy = policy
        self._open_engine = open_engine
        self._timeouts = timeouts
        self._starting = starting
        self._server = LazyValue(self._start)

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """As in `Proxy`."""
        async with self._opened() as proxy:
            return await proxy.complete(request, part)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """As in `Proxy`."""
        async with self._opened() as proxy, aclosing(proxy.stream(request, part)) as batches:
            async for events in batches:
                yield events

    async def describe(self) -> dict[str, Any]:
        """Return what the server says about the model; a server is not started only for that."""
        opened = self._server.value
        return {} if opened is None else await opened.proxy.describe()

    async def close(self) -> None:
        """Close the connections and the engine; a server that several policies share is stopped by its registry."""
        if (opened := await self._server.take()) is not None:
            await opened.close()

    @asynccontextmanager
    async def _opened(self) -> AsyncGenerator[Proxy]:
        opened = await self._server.get()
        try:
            yield opened.proxy
        except ApiError as error:
            if error.code == "connection" and not await opened.proxy.describe() and self._server.value is opened:
                log.error("the server of policy %r is gone: the next request starts another", self._policy)
                await self._server.take()
                await asyncio.shield(opened.close())  # even if the client leaves now
            raise

    async def _start(self) -> "_Opened":
        async with self._starting:
            engine = await asyncio.to_thread(load_engine, self._policy, self._open_engine)
        assert isinstance(engine, _OnServer)
        target = Upstream(engine.server.url, engine.model, engine.server.api_key, engine.extra_body)
        return _Opened(Proxy(self._policy, target, self._timeouts), engine)


class _Opened(NamedTuple):
    proxy: Proxy
    engine: _OnServer

    async def close(self) -> None:
        await self.proxy.close()
        await asyncio.to_thread(self.engine.close)


class BackendFactory:
    """Creates the backends of policies. The first request for a policy opens its backend."""

    def __init__(
        self,
        catalogue: PolicyCatalogue,
        options: EngineOptions,
        timeouts: Timeouts,
        breaker: BreakerOptions,
        queue: PolicyQueue,
    ) -> None:
        self._catalogue = catalogue
        # Engines that ask servers keep the same time-outs as proxies do.
        self._options = replace(
            options,
            first_byte_timeout_s=timeouts.first_byte_s,
            idle_timeout_s=timeouts.idle_s,
            deadline_s=timeouts.total_s,
        )
        self._timeouts = timeouts
        self._breaker = breaker
        self._queue = queue
        # Engines open one at a time: they may share files, and loaders change settings of the whole process.
        self._loading = threading.Lock()
        self._starting = asyncio.Lock()

    def create(self, policy: PolicyInfo) -> PolicyBackend:
        """Create the backend of a policy."""
        name, catalogue = policy.name, self._catalogue
        open_engine = partial(self._open, name)
        if isinstance(catalogue, Registry):
            if (remote := catalogue.remote(name)) is not None:
                key, headers = Credentials.of(name, remote)
                urls = [remote.url] if isinstance(remote.url, str) else remote.url
                upstreams = [Upstream(url, remote.model, key, headers=headers) for url in urls]
                proxies = [Proxy(name, upstream, self._timeouts) for upstream in upstreams]
                return proxies[0] if len(proxies) == 1 else LoadBalancer(proxies, self._breaker)
            # Servers that our engine starts take requests unchanged, unless their weights are switched.
            if catalogue.engine.name == "vllm" and catalogue.engine.serve != "switch":
                return OnDemandServer(name, open_engine, self._timeouts, self._starting)
        turn = partial(self._queue.turn, name) if catalogue.is_switched else nullcontext
        return InProcessPolicy(policy, EngineThread(name, open_engine), self._timeouts, turn)

    def _open(self, policy: str) -> Engine:
        with self._loading:
            return self._catalogue.open(policy, self._options)
