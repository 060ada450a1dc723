"""The OpenAI-compatible door: any client talks to a policy, or to an ensemble of them, as to one model.

Routes: `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/health`, `/ready`, `/metrics`, `/version`. An
ensemble answers n choices by splitting n over its policies as its mixture's weights say, and moves on with every
request; one choice sticks to its conversation where `user` or the header `x-alphamix-session` names one. A `seed`
fixes what a policy draws, not whose turn it is: for answers that can be repeated, ask a policy by its own name.

With `ensemble` in its body, a request is answered by the best of a budget (`best_of`). Where the
family allows it, a member of a sweep answers at any α (`alphas`).
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import metadata

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions, CircuitBreaker
from alphamix.ensemble.serve.backends.factory import BackendFactory, PolicyCatalogue
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyBackend, PolicyEndpoint
from alphamix.ensemble.serve.backends.policy_queue import PolicyQueue
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfLimits, BestOfRequest, read_best_of
from alphamix.ensemble.serve.best_of.service import BestOfService
from alphamix.ensemble.serve.http_io import (
    EXCEPTION_HANDLERS,
    ApiKeyMiddleware,
    CancelOnDisconnect,
    json_response,
    read_limited,
    send_body,
    send_events,
)
from alphamix.ensemble.serve.metrics import CONTENT_TYPE, Metrics
from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid
from alphamix.ensemble.serve.protocol.raw_request import Path, RawRequest, read_request
from alphamix.ensemble.serve.protocol.responses import JSON, PolicyInfo, encode, model_object
from alphamix.ensemble.serve.routing.alpha_on_request import AlphaLimits, AlphaPolicyCache, SweepCatalogue
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher
from alphamix.policies.engines import EngineOptions

_LONGEST_REQUEST_ID = 128
_TOLD = ("max_model_len", "fingerprint")
_DESCRIPTION_LIFE_S = 60.0
"""How long what an upstream says about its model is believed."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What clients may ask for."""

    choices: int = 128
    """n, for all prompts of a request."""
    body_bytes: int = 8 * 2**20
    in_flight: int = 1024
    """Requests to one policy, at once."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve."""

    limits: RequestLimits = field(default_factory=RequestLimits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    breaker: BreakerOptions = field(default_factory=BreakerOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    best_of: BestOfLimits = field(default_factory=BestOfLimits)
    alphas: AlphaLimits = field(default_factory=AlphaLimits)
    judge_workers: int = 1
    """Programs that are judged at once; 0 refuses best-of."""
    keys: tuple[str, ...] = field(default=(), repr=False)
    """API keys of clients; without any, all are served."""


def create_app(served: PolicyCatalogue, options: ServeOptions | None = None) -> ASGIApp:
    """Make the application. Engines are opened when first needed and closed at shutdown."""
    options = options or ServeOptions()
    gateway = Gateway(served, options)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await gateway.close()

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", Completions(gateway, "chat/completions"), methods=["POST"]),
            Route("/v1/completions", Completions(gateway, "completions"), methods=["POST"]),
            Route("/health", gateway.health, methods=["GET"]),
            Route("/ready", gateway.ready, methods=["GET"]),
            Route("/metrics", gateway.metrics_text, methods=["GET"]),
            Route("/version", gateway.version, methods=["GET"]),
            Route("/v1/models", gateway.models, methods=["GET"]),
            Route("/v1/models/{model:path}", gateway.model, methods=["GET"]),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    return ApiKeyMiddleware(app, options.keys)


class Gateway:
    """Joins policies, their ensembles and what is known of them."""

    def __init__(self, served: PolicyCatalogue, options: ServeOptions) -> None:
        self.options = options
        self.metrics = Metrics()
        self._turns = PolicyQueue(options.alphas.patience_s, time.monotonic)
        self._backends = BackendFactory(served, options.engine, options.timeouts, options.breaker, self._turns)
        origins = [PolicyInfo(name, served.alpha(name)) for name in served.names]
        self.policies = {origin.name: self._served(origin, self._backends.of(origin)) for origin in origins}
        self.dispatcher = Dispatcher(self.policies, served.mixtures)
        sweeps = served if isinstance(served, SweepCatalogue) else None
        self.alphas = AlphaPolicyCache(sweeps, self.dispatcher.weights, self.policies, self._opened, options.alphas)
        self.judging = AsyncJudge(options.judge_workers, self.metrics.verdicts)
        self.best_of_service = BestOfService(
            self.dispatcher, self.judging, self.metrics, options.best_of, options.timeouts.total_s
        )
        self._created = int(time.time())
        self._described: tuple[float, Mapping[str, JSON]] = (-_DESCRIPTION_LIFE_S, {})

    async def health(self, _: HttpRequest) -> Response:
        """Say that the server runs; no engine is touched."""
        return json_response({"status": "ok"})

    async def ready(self, _: HttpRequest) -> Response:
        """Say whether any policy would take a request, and which are out of service."""
        out = [name for name, policy in self.policies.items() if not policy.is_available]
        is_ready = len(out) < len(self.policies)
        return json_response({"ready": is_ready, "out_of_service": out}, 200 if is_ready else 503)

    async def metrics_text(self, _: HttpRequest) -> Response:
        """Give the metrics."""
        return Response(self.metrics.as_text(), media_type=CONTENT_TYPE)

    async def version(self, _: HttpRequest) -> Response:
        """Give the version, in the form that vLLM gives its own."""
        return json_response({"version": metadata.version("alphamix")})

    async def models(self, _: HttpRequest) -> Response:
        """List each policy and each ensemble."""
        told = await self._told()
        return json_response({"object": "list", "data": [self._model(name, told) for name in self.dispatcher.weights]})

    async def model(self, http: HttpRequest) -> Response:
        """Show one policy or ensemble."""
        name, origin = self.alphas.find(http.path_params["model"])
        if origin is not None:
            return json_response(model_object(name, self._created, {"alpha": origin.alpha}))
        return json_response(self._model(name, await self._told()))

    async def close(self) -> None:
        """Close connections, and engines when what is under way has ended."""
        backends = [*self.policies.values(), self._backends, self.judging, self.alphas]
        await asyncio.gather(*(backend.close() for backend in backends))

    def _served(self, origin: PolicyInfo, backend: PolicyBackend) -> PolicyEndpoint:
        breaker = CircuitBreaker(self.options.breaker, time.monotonic)
        return PolicyEndpoint(origin, backend, breaker, self.options.limits.in_flight, self.metrics)

    def _opened(self, origin: PolicyInfo) -> PolicyEndpoint:
        return self._served(origin, self._backends.at_alpha(origin))

    async def _told(self) -> Mapping[str, JSON]:
        """What upstreams say about the models behind the policies: context length and fingerprint."""
        read_at, told = self._described
        if time.monotonic() - read_at > _DESCRIPTION_LIFE_S or not told:
            policies = [policy for name, policy in self.policies.items() if name in self.dispatcher.weights]
            answers = await asyncio.gather(*(policy.describe() for policy in policies))
            told = {
                policy.origin.name: {key: answer[key] for key in _TOLD if answer.get(key) is not None}
                for policy, answer in zip(policies, answers, strict=True)
            }
            self._described = time.monotonic(), told
        return told

    def _model(self, name: str, told: Mapping[str, JSON]) -> JSON:
        weights = self.dispatcher.weights[name]
        if weights == {name: 1.0}:
            return model_object(name, self._created, {"alpha": self.policies[name].origin.alpha, **told[name]})
        lengths = [told[policy].get("max_model_len") for policy, weight in weights.items() if weight]
        shortest = min((length for length in lengths if isinstance(length, int)), default=None)
        known = {} if shortest is None or None in lengths else {"max_model_len": shortest}
        return model_object(name, self._created, {"mixture": {**weights}, **known})


class Completions:
    """One of the two completion routes, as plain ASGI: each request passes here."""

    def __init__(self, gateway: Gateway, path: Path) -> None:
        self._gateway = gateway
        self._path: Path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = time.perf_counter()
        headers = Headers(scope=scope)
        echoed = _echoed(headers)
        model, status = "", 200
        try:
            request, best_of = await self._read(receive)
            with self._gateway.alphas.resolved(request) as request:
                model = request.model
                if best_of is not None:
                    await self._best_of(request, best_of, receive, send, echoed)
                else:
                    await self._relay(request, headers.get("x-alphamix-session") or request.user, receive, send, echoed)
        except ApiError as error:
            status = error.status
            await send_body(send, status, encode(error.as_json()), {**error.headers, **echoed})
        except ClientDisconnect:
            status = 499
        except BaseException:
            status = 500
            raise
        finally:
            self._gateway.metrics.answered(model, status, time.perf_counter() - started)

    async def _read(self, receive: Receive) -> tuple[RawRequest, BestOfRequest | None]:
        options = self._gateway.options
        limits = options.limits
        request = read_request(self._path, await read_limited(receive, limits.body_bytes, options.timeouts.idle_s))
        if request.num_choices > limits.choices:
            message = (
                f"n = {request.n} for {request.num_prompts} prompt(s) is more than the {limits.choices} choices "
                "that one request may ask for; send several requests"
            )
            raise invalid(message, param="n")
        return read_best_of(request, options.best_of)

    async def _relay(
        self, request: RawRequest, session: str | None, receive: Receive, send: Send, echoed: Mapping[str, str]
    ) -> None:
        gateway = self._gateway
        parts = gateway.dispatcher.plan(request, session)
        if not request.stream:
            async with CancelOnDisconnect(receive):
                body, named = await gateway.dispatcher.complete(request, parts)
            await send_body(send, 200, body, {**named, **echoed})
            return
        # Headers wait for the first chunk, so that a policy that fails before it is told by the status.
        async with CancelOnDisconnect(receive):
            events, named = await gateway.dispatcher.start_stream(request, parts)
        await send_events(send, receive, events, {**named, **echoed}, gateway.options.timeouts.idle_s)

    async def _best_of(
        self, request: RawRequest, best_of: BestOfRequest, receive: Receive, send: Send, echoed: Mapping[str, str]
    ) -> None:
        best_of_service = self._gateway.best_of_service
        if not request.stream:
            async with CancelOnDisconnect(receive):
                body, named = await best_of_service.complete(request, best_of)
            await send_body(send, 200, body, {**named, **echoed})
            return
        async with CancelOnDisconnect(receive):
            events = await best_of_service.start_stream(request, best_of)
        await send_events(send, receive, events, echoed, self._gateway.options.timeouts.idle_s)


def _echoed(headers: Headers) -> dict[str, str]:
    given = headers.get("x-request-id", "")
    return {"x-request-id": given} if given.isprintable() and 0 < len(given) <= _LONGEST_REQUEST_ID else {}
