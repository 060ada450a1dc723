"""A policy as it is served: a backend with a concurrency limit, a circuit breaker and metrics.

Each answer is checked for form before it goes on, so that a malformed one counts as a fault of the policy. Which
policy is asked instead is decided by `routing`.
"""

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, contextmanager
from time import perf_counter
from typing import Any, NoReturn, Protocol

from alphamix.ensemble.serve.backends.circuit_breaker import CircuitBreaker
from alphamix.ensemble.serve.metrics import Metrics
from alphamix.ensemble.serve.protocol.api_errors import ApiError, rate_limit, server_error
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest
from alphamix.ensemble.serve.protocol.request_record import PolicyFailure
from alphamix.ensemble.serve.protocol.response_bytes import IgnoresNError, ResponseJson, ResponseReader
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
        self.in_flight = 0
        """Number of calls under way."""
        self._metrics = metrics
        self.ignores_n = False
        """Whether its server was found to give one choice whatever `n` is."""
        metrics.watch(policy.name, lambda: self.in_flight, lambda: self.breaker.state != "closed")
        self.describe: Callable[[], Any] = backend.describe
        self.close: Callable[[], Any] = backend.close

    @property
    def is_available(self) -> bool:
        """Whether a request would be let in now."""
        return self.breaker.is_passable and self.in_flight < self._max_in_flight

    @property
    def health(self) -> str:
        """State in a word or two, for people."""
        if self.breaker.state == "closed":
            return "in service"
        return "pausing" if self.breaker.is_resting else "out of service"

    def unwatch(self) -> None:
        """Leave the metrics. Call this before the policy is closed while the server runs."""
        self._metrics.unwatch(self.policy.name)

    async def complete(self, request: RawRequest, part: Part) -> ResponseJson:
        """Answer a part of a request.

        Raises:
            IgnoresNError: its server gives one choice for each prompt, whatever `n` is.
            ApiError: there is no answer, or it is malformed.
        """
        started = perf_counter()
        with self._admitted(request):
            data = await self._backend.complete(request, part)
            body = ResponseReader(self.policy, part, request.n, request.num_prompts).complete(data)
        usage = body.usage
        num_bytes = request.num_bytes + body.num_bytes if usage is None else 0
        self._answered(request, usage, len(body.choices), started, num_bytes)
        return body

    async def stream(self, request: RawRequest, part: Part) -> AsyncGenerator[list[ResponseJson]]:
        """Answer a part of a request in chunks; the stream never ends before each choice is complete.

        Raises:
            IgnoresNError: the server gave the first choice of each prompt, and no other.
            ApiError: there is no answer, it is malformed, or it breaks off.
        """
        started, usage = perf_counter(), None
        counts_bytes, is_broken_off = request.record.asks_usage, False
        num_bytes = request.num_bytes if counts_bytes else 0
        reader = ResponseReader(self.policy, part, request.n, request.num_prompts)
        try:
            with self._admitted(request):
                async with aclosing(self._backend.stream(request, part)) as events:
                    async for batch in events:
                        bodies = [reader.chunk(data) for data in batch]
                        for body in bodies:
                            usage = body.usage or usage
                            if counts_bytes:
                                num_bytes += body.num_bytes
                        is_broken_off = True
                        yield bodies
                try:
                    reader.end()
                except IgnoresNError:
                    is_broken_off = False
                    self._answered(request, usage, request.num_prompts, started, num_bytes)
                    raise
            is_broken_off = False
            self._answered(request, usage, part.n * request.num_prompts, started, num_bytes)
        finally:
            if is_broken_off:
                request.record.add_broken_off(self.policy.name, num_bytes)

    def _answered(
        self, request: RawRequest, usage: dict[str, Any] | None, choices: int, started: float, num_bytes: int
    ) -> None:
        request.record.add(self.policy.name, usage, choices, perf_counter() - started, num_bytes)

    @contextmanager
    def _admitted(self, request: RawRequest) -> Generator[None]:
        name = self.policy.name
        if self.in_flight >= self._max_in_flight:
            limit = self._max_in_flight
            error = rate_limit(f"the policy {name!r} has {limit} requests under way, its limit: try again later", 1)
            self._fail(request, error)
        if not self.breaker.enter():
            retry_after_s = self.breaker.retry_after_s
            if self.breaker.is_resting:
                message = f"the policy {name!r} asked for a pause: try again later, or ask another"
                self._fail(request, rate_limit(message, retry_after_s))
            message = (
                f"the policy {name!r} has failed repeatedly and is out of service: try again later, or ask another"
            )
            self._fail(request, server_error(503, message, "policy_unavailable", retry_after_s=retry_after_s))
        self.in_flight += 1
        outcome = "left"  # the client left, or closed the stream
        try:
            with self.breaker.recording():
                yield
            outcome = "ok"
        except IgnoresNError:
            outcome, self.ignores_n = "ignores_n", True
            raise
        except ApiError as error:
            # Codes of rejected requests are chosen by the upstream: they must not become labels of a metric.
            outcome = error.code if error.is_retryable and error.code else "rejected"
            request.record.failures.append(PolicyFailure(name, outcome))
            raise
        except Exception:
            outcome = "internal"
            raise
        finally:
            self.in_flight -= 1
            self._metrics.calls[name, outcome] += 1

    def _fail(self, request: RawRequest, error: ApiError) -> NoReturn:
        """Refuse a call before it is made."""
        request.record.failures.append(PolicyFailure(self.policy.name, error.code or ""))
        raise error
