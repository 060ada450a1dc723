"""Which backend answers for which policy of a registry: a relay wherever there is a URL, else an engine of ours.

Relayed are policies behind a URL and those on our vLLM servers; of pairs whose logits are mixed, each request also says
its α. Servers whose weights are switched take no request as it stands: they stay behind their engine.
"""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, runtime_checkable

from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.ensemble.serve.backends.engine_threads import EngineThreads
from alphamix.ensemble.serve.backends.in_process import InProcessPolicy
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyBackend
from alphamix.ensemble.serve.backends.policy_queue import PolicyQueue
from alphamix.ensemble.serve.backends.proxy import Proxy, Upstream, log
from alphamix.ensemble.serve.backends.replicas import LoadBalancer
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.lazy import LazyValue
from alphamix.ensemble.serve.protocol.api_errors import ApiError, load_failed, queue_timeout
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import RawRequest
from alphamix.ensemble.serve.protocol.responses import PolicyInfo
from alphamix.policies.engines import EngineOptions
from alphamix.policies.policy_file.recipes import Remote
from alphamix.policies.registry import Registry
from alphamix.policies.types import Engine, PolicyError


class PolicyCatalogue(Protocol):
    """What the server needs of a `policies.registry.Registry`."""

    @property
    def names(self) -> Sequence[str]:
        """The policies."""
        ...

    @property
    def mixtures(self) -> Mapping[str, Mapping[str, float]]:
        """The ensembles: weights over policies."""
        ...

    def alpha(self, name: str) -> float | None:
        """Give the α of a policy that is a merge."""
        ...

    def open(self, name: str, options: EngineOptions) -> Engine:
        """Open the engine of a policy."""
        ...


@runtime_checkable
class Switched(Protocol):
    """Policies that may be on one server which is switched between them."""

    @property
    def is_switched(self) -> bool:
        """Whether they are."""
        ...


class _Address(Protocol):
    url: str
    api_key: str


@runtime_checkable
class _OnServer(Protocol):
    """An engine on a server of ours."""

    server: _Address
    model: str
    extra_body: Mapping[str, Mapping[str, Any]]

    def close(self) -> None: ...


class OnDemandServer:
    """A policy on a server that is started when it is first asked; relayed from then on.

    Where the server is found dead, the next request starts another; how often that is tried is the breaker's to say.
    """

    def __init__(
        self, policy: str, open_engine: Callable[[], Engine], timeouts: Timeouts, starting: asyncio.Lock
    ) -> None:
        self._policy = policy
        self._open_engine = open_engine
        self._timeouts = timeouts
        self._starting = starting
        self._open = LazyValue(self._start)

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """As a `Proxy`."""
        proxy, _ = await self._open.get()
        try:
            return await proxy.complete(request, part)
        except ApiError as error:
            await self._drop_if_dead(proxy, error)
            raise

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """As a `Proxy`."""
        proxy, _ = await self._open.get()
        try:
            async with aclosing(proxy.stream(request, part)) as batches:
                async for events in batches:
                    yield events
        except ApiError as error:
            await self._drop_if_dead(proxy, error)
            raise

    async def describe(self) -> dict[str, Any]:
        """What the server says about the model; a server is not started for that."""
        opened = self._open.value
        return {} if opened is None else await opened.proxy.describe()

    async def close(self) -> None:
        """Close the connections and the engine; a server that others share is its registry's to stop."""
        if (opened := await self._open.take()) is not None:
            await opened.close()

    async def _start(self) -> "_Opened":
        async with self._starting:
            try:
                engine = await asyncio.to_thread(self._open_engine)
            except (PolicyError, OSError) as error:
                log.error("the policy %r could not be loaded: %s", self._policy, error)
                raise load_failed(self._policy) from error
        assert isinstance(engine, _OnServer)
        target = Upstream(engine.server.url, engine.model, engine.server.api_key, engine.extra_body)
        return _Opened(Proxy(self._policy, target, self._timeouts), engine)

    async def _drop_if_dead(self, proxy: Proxy, error: ApiError) -> None:
        if error.code != "connection" or await proxy.describe():
            return
        opened = self._open.value
        if opened is not None and opened.proxy is proxy:
            log.error("the server of policy %r is gone: the next request starts another", self._policy)
            await self._open.take()
            await asyncio.shield(opened.close())  # also if the client leaves now


class _Opened(NamedTuple):
    proxy: Proxy
    engine: _OnServer

    async def close(self) -> None:
        await self.proxy.close()
        await asyncio.to_thread(self.engine.close)


class QueuedBackend:
    """A policy on a server that serves one policy at a time; it asks when the turn is its own.

    Raises 429 where others have their turns for longer than `patience_s`.
    """

    def __init__(self, policy: str, backend: PolicyBackend, turns: PolicyQueue, patience_s: float) -> None:
        self._policy = policy
        self._backend = backend
        self._turns = turns
        self._patience_s = patience_s
        self.describe = backend.describe
        self.close = backend.close

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """As the backend."""
        async with self._turn():
            return await self._backend.complete(request, part)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """As the backend."""
        async with self._turn(), aclosing(self._backend.stream(request, part)) as batches:
            async for events in batches:
                yield events

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._patience_s):
                    await held.enter_async_context(self._turns.of(self._policy))
            except TimeoutError:
                raise queue_timeout(self._policy, self._patience_s) from None
            yield


class OnItsOwn(InProcessPolicy):
    """A policy whose engine can be closed while others go on."""

    def __init__(self, origin: PolicyInfo, upstreams: EngineThreads, timeouts: Timeouts) -> None:
        super().__init__(origin, upstreams, timeouts)
        self._own = upstreams

    async def close(self) -> None:
        """Close the engine when what is under way has ended."""
        await self._own.close()


class BackendFactory:
    """Makes the backends of all policies. Nothing is opened before it is asked."""

    def __init__(
        self,
        served: PolicyCatalogue,
        options: EngineOptions,
        timeouts: Timeouts,
        breaker: BreakerOptions,
        turns: PolicyQueue,
    ) -> None:
        self._turns = turns
        self._loading = threading.Lock()  # loaders must not run side by side
        self._served = served
        # Engines that ask servers keep the same time-outs as relays do.
        self._options = replace(
            options,
            first_byte_timeout_s=timeouts.first_byte_s,
            idle_timeout_s=timeouts.idle_s,
            deadline_s=timeouts.total_s,
        )
        self._timeouts = timeouts
        self._breaker = breaker
        self._starting = asyncio.Lock()  # as with engines in this process, one opens at a time
        self._upstreams = EngineThreads(served.names, self._open)

    def of(self, origin: PolicyInfo) -> PolicyBackend:
        """Make the backend of a policy."""
        name, served = origin.name, self._served
        if isinstance(served, Registry):
            if (remote := served.remote(name)) is not None:
                proxies = [Proxy(name, target, self._timeouts) for target in _targets(remote)]
                return proxies[0] if len(proxies) == 1 else LoadBalancer(proxies, self._breaker)
            if _is_proxied(served):
                return OnDemandServer(name, lambda: self._open(name), self._timeouts, self._starting)
        return self._in_turn(name, InProcessPolicy(origin, self._upstreams, self._timeouts))

    def at_alpha(self, origin: PolicyInfo) -> PolicyBackend:
        """Make the backend of a policy that is not listed, to be closed by itself."""
        name, served = origin.name, self._served
        if isinstance(served, Registry) and _is_proxied(served):
            return OnDemandServer(name, lambda: self._open(name), self._timeouts, self._starting)
        return self._in_turn(name, OnItsOwn(origin, EngineThreads([name], self._open), self._timeouts))

    def _in_turn(self, name: str, backend: PolicyBackend) -> PolicyBackend:
        is_switched = isinstance(self._served, Switched) and self._served.is_switched
        return QueuedBackend(name, backend, self._turns, self._timeouts.first_byte_s) if is_switched else backend

    async def close(self) -> None:
        """Close the engines in this process when what is under way has ended."""
        await self._upstreams.close()

    def _open(self, policy: str) -> Engine:
        with self._loading:
            return self._served.open(policy, self._options)


def _is_proxied(registry: Registry) -> bool:
    """Whether the servers that our engine starts take requests as they stand: not if their weights are switched."""
    return registry.engine.name == "vllm" and registry.engine.serve != "switch"


def _targets(remote: Remote) -> list[Upstream]:
    key = os.environ.get(remote.api_key_env) if remote.api_key_env else None
    return [Upstream(url, remote.model, key) for url in ([remote.url] if isinstance(remote.url, str) else remote.url)]
