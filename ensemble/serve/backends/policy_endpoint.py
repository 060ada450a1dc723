"""A policy as it is served: a backend with a concurrency limit, a circuit breaker and metrics.

Each answer is checked for form before it goes on, so that a malformed one counts as a fault of the policy. Which
policy is asked instead is decided by `routing`.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from alphamix.ensemble.serve.backends.circuit_breaker import CircuitBreaker
from alphamix.ensemble.serve.metrics import Metrics
from alphamix.ensemble.serve.protocol.api_errors import ApiError, rate_limit, server_error
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, ResponseReader
from alphamix.ensemble.serve.protocol.responses import PolicyInfo


class PolicyBackend(Protocol):
    """What answers for one policy. `complete` and `stream` raise `ApiError` if there is no answer."""

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Return the body of the answer."""
        ...

    def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Yield the data of the events of the answer, in lists of those that arrive together; `[DONE]` is left out."""
        ...

    async def describe(self) -> dict[str, Any]:
        """Return what the server says about the model; empty if it says nothing."""
        ...

    async def close(self) -> None:
        """Release connections and engines. Safe to call twice."""
        ...


class PolicyEndpoint:
    """One policy. Safe to use from many tasks of one event loop."""

    def __init__(
        self, policy: PolicyInfo, backend: PolicyBackend, breaker: CircuitBreaker, max_in_flight: int, metrics: Metrics
    ) -> None:
        self.policy = policy
        self.breaker = breaker
        self._backend = backend
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._metrics = metrics
        metrics.watch(policy.name, lambda: self._in_flight, lambda: self.breaker.state != "closed")
        self.describe: Callable[[], Any] = backend.describe
        self.close: Callable[[], Any] = backend.close

    @property
    def is_available(self) -> bool:
        """Whether a request would be let in now."""
        return self.breaker.is_passable and self._in_flight < self._max_in_flight

    def unwatch(self) -> None:
        """Leave the metrics. Call this before the policy is closed while the server runs."""
        self._metrics.unwatch(self.policy.name)

    async def complete(self, request: RawRequest, part: Part) -> ResponseJson:
        """Answer a part of a request.

        Raises:
            ApiError: there is no answer, or it is malformed.
        """
        with self._admitted():
            data = await self._backend.complete(request, part)
            return ResponseReader(self.policy, part, request.n, request.num_prompts).complete(data)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[ResponseJson]]:
        """Answer a part of a request in chunks; the stream never ends before each choice is complete.

        Raises:
            ApiError: there is no answer, it is malformed, or it breaks off.
        """
        reader = ResponseReader(self.policy, part, request.n, request.num_prompts)
        with self._admitted():
            async with aclosing(self._backend.stream(request, part)) as events:
                async for batch in events:
                    yield [reader.chunk(data) for data in batch]
            reader.end()

    @contextmanager
    def _admitted(self) -> Generator[None]:
        name = self.policy.name
        if self._in_flight >= self._max_in_flight:
            limit = self._max_in_flight
            raise rate_limit(f"the policy {name!r} has {limit} requests under way, its limit: try again later", 1)
        if not self.breaker.enter():
            message = (
                f"the policy {name!r} has failed repeatedly and is out of service: try again later, or ask another"
            )
            raise server_error(503, message, "policy_unavailable", retry_after_s=self.breaker.retry_after_s)
        self._in_flight += 1
        outcome = "left"  # the client left, or closed the stream
        try:
            with self.breaker.recording():
                yield
            outcome = "ok"
        except ApiError as error:
            # Codes of rejected requests are chosen by the upstream: they must not become labels of a metric.
            outcome = error.code if error.is_retryable and error.code else "rejected"
            raise
        except Exception:
            outcome = "internal"
            raise
        finally:
            self._in_flight -= 1
            self._metrics.calls[name, outcome] += 1
