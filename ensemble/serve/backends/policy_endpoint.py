"""A policy as it is served: its backend, how many may ask it at once, and whether it is out of service.

Each answer is checked for form before anyone sees it, so that garbage counts as a fault of the policy. Whom to ask
instead is `dispatch`'s to decide.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

from alphamix.ensemble.serve.backends.circuit_breaker import CircuitBreaker
from alphamix.ensemble.serve.metrics import Metrics
from alphamix.ensemble.serve.protocol.api_errors import ApiError, at_capacity, out_of_service
from alphamix.ensemble.serve.protocol.parts import Part
from alphamix.ensemble.serve.protocol.raw_request import RawRequest
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson, ResponseReader
from alphamix.ensemble.serve.protocol.responses import PolicyInfo


class PolicyBackend(Protocol):
    """What answers for one policy. Both ways of asking raise `ApiError` where there is no answer."""

    async def complete(self, request: RawRequest, part: Part) -> bytes:
        """Return the body of the answer."""
        ...

    def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[bytes]]:
        """Yield the data of the events of the answer, without the last `[DONE]`."""
        ...

    async def describe(self) -> dict[str, Any]:
        """What its server says about the model, empty where it says nothing."""
        ...

    async def close(self) -> None:
        """Free what it holds. Safe to call twice."""
        ...


class PolicyEndpoint:
    """One policy. Safe to ask from many tasks of one event loop."""

    def __init__(
        self, origin: PolicyInfo, backend: PolicyBackend, breaker: CircuitBreaker, max_in_flight: int, metrics: Metrics
    ) -> None:
        self.origin = origin
        self.breaker = breaker
        self._backend = backend
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._metrics = metrics
        self._outcomes = metrics.outcomes_of(origin.name)
        metrics.watch(origin.name, lambda: self._in_flight, lambda: self.breaker.state != "closed")
        self.describe: Callable[[], Any] = backend.describe
        self.close: Callable[[], Any] = backend.close

    @property
    def is_available(self) -> bool:
        """Whether a request would be let in now."""
        return self.breaker.is_passable and self._in_flight < self._max_in_flight

    def unwatch(self) -> None:
        """Leave the metrics: whoever closes it before the others says so first."""
        self._metrics.unwatch(self.origin.name)

    async def complete(self, request: RawRequest, part: Part) -> ResponseJson:
        """Answer a part of a request.

        Raises:
            ApiError: it cannot.
        """
        with self._admitted():
            data = await self._backend.complete(request, part)
            return ResponseReader(self.origin, part, request.n, request.num_prompts).complete(data)

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[ResponseJson]]:
        """Answer a part of a request, chunk by chunk; never ends before each choice is whole.

        Raises:
            ApiError: it cannot, or breaks off.
        """
        marking = ResponseReader(self.origin, part, request.n, request.num_prompts)
        with self._admitted():
            async with aclosing(self._backend.stream(request, part)) as events:
                async for batch in events:
                    yield [marking.chunk(data) for data in batch]
            marking.end()

    @contextmanager
    def _admitted(self) -> Generator[None]:
        name = self.origin.name
        if self._in_flight >= self._max_in_flight:
            raise at_capacity(name, self._max_in_flight)
        if not self.breaker.enter():
            raise out_of_service(name, self.breaker.retry_after_s)
        self._in_flight += 1
        try:
            yield
        except ApiError as error:
            if error.is_server_error:
                self.breaker.fail()
            else:
                self.breaker.succeed()
            # What is wrong with a request is told in words of the upstream: no label of a metric.
            self._outcomes[error.code if error.is_retryable and error.code else "rejected"] += 1
            raise
        except Exception:
            self.breaker.fail()
            self._outcomes["internal"] += 1
            raise
        except BaseException:  # the client left, or the stream was closed
            self.breaker.abandon()
            self._outcomes["left"] += 1
            raise
        else:
            self.breaker.succeed()
            self._outcomes["ok"] += 1
        finally:
            self._in_flight -= 1
