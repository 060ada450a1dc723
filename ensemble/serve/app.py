"""The OpenAI-compatible application: a client talks to a policy, or to an ensemble of policies, as to one model.

Routes: `/`, `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/responses`, `/health`, `/ready`, `/metrics`,
`/version`. An ensemble answers n choices by splitting n over its policies by the weights of its mixture, and rotates
with every request; a single choice stays with one policy for a conversation that `user` or the header
`x-alphamix-session` names.
A `seed` fixes what a policy draws, not which policy answers: for reproducible answers, ask a policy by its own name.

A request with `ensemble` in its body is answered with the best of a budget of draws (`best_of`). Members of a sweep are
available at any α if the family allows it (`routing.alpha_on_request`).
"""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from alphamix.ensemble.errors import EnsembleError
from alphamix.ensemble.outcomes.request_log import read_log
from alphamix.ensemble.serve.access import ACCOUNT, AccessMiddleware
from alphamix.ensemble.serve.accounts import AccountBook, ClientKey, KeyAccount, RequestLog, tokens_by_key
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions, CircuitBreaker
from alphamix.ensemble.serve.backends.factory import BackendFactory, PolicyCatalogue
from alphamix.ensemble.serve.backends.policy_endpoint import PolicyEndpoint
from alphamix.ensemble.serve.backends.policy_queue import PolicyQueue
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfLimits, BestOfRequest, read_best_of
from alphamix.ensemble.serve.best_of.service import BestOfService
from alphamix.ensemble.serve.best_of.tool_draws import AsyncWorkspaces
from alphamix.ensemble.serve.http_io import (
    EXCEPTION_HANDLERS,
    REQUEST_ID,
    CancelOnDisconnect,
    RequestIdMiddleware,
    end_cancellation,
    json_response,
    read_limited,
    send_body,
    send_events,
    sse_event,
)
from alphamix.ensemble.serve.metrics import CONTENT_TYPE, Metrics
from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid, stopping
from alphamix.ensemble.serve.protocol.raw_request import Path as ApiPath
from alphamix.ensemble.serve.protocol.raw_request import RawRequest, read_request
from alphamix.ensemble.serve.protocol.request_record import RequestRecord
from alphamix.ensemble.serve.protocol.responses import JSON, PolicyInfo, encode, model_object
from alphamix.ensemble.serve.protocol.responses_api import ResponseWriter, chat_request, event_chunks, is_done
from alphamix.ensemble.serve.routing.alpha_on_request import AlphaLimits, AlphaPolicyCache
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher
from alphamix.ensemble.serve.status_page import status_page
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import PolicyError

log = logging.getLogger("alphamix.serve")

_FORWARDED_KEYS = ("max_model_len", "fingerprint")
_DESCRIPTION_LIFE_S = 60.0
"""How long the description that an upstream gives of its model is kept."""
_PATIENCE_S = 1.0
"""How long the list of models waits for upstreams."""


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits for the requests of clients."""

    choices: int = 128
    """Maximum number of choices for all prompts of a request."""
    body_bytes: int = 8 * 2**20
    in_flight: int = 1024
    """Maximum number of concurrent requests per policy."""


class Tracer(Protocol):
    """What the server reads of a `tracing.SpanTracer`."""

    def begin(self, record: RequestRecord, headers: Mapping[str, str]) -> Any:
        """Begin a request, and add to the headers that go upstream with it."""
        ...

    def end(self, span: Any, record: RequestRecord) -> None:
        """End a request."""
        ...


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options of the server."""

    limits: RequestLimits = field(default_factory=RequestLimits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    breaker: BreakerOptions = field(default_factory=BreakerOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    best_of: BestOfLimits = field(default_factory=BestOfLimits)
    alphas: AlphaLimits = field(default_factory=AlphaLimits)
    judge_workers: int = 1
    """Number of programs that are judged in parallel; 0 refuses best-of requests."""
    keys: tuple[ClientKey, ...] = ()
    """Keys, one of which each client must send; if there are none, every client is served."""
    hosts: tuple[str, ...] = ()
    """Names of this server, beside addresses and `localhost`, that clients without a key may use."""
    origins: tuple[str, ...] = ()
    """Origins of web pages that may use this server; `*` for all."""
    tracer: Tracer | None = None
    """What traces requests."""
    request_log: Path | None = None
    """File to which a line is added for each request."""


class Gateway:
    """State of the server: policies, ensembles, the best-of service and metrics."""

    def __init__(self, catalogue: PolicyCatalogue, options: ServeOptions, previous: "Gateway | None" = None) -> None:
        """Begin with the counts and the spending of the `previous` gateway, else with the spending of the log."""
        self.options = options
        self.metrics = previous.metrics if previous is not None else Metrics()
        self._log = None if options.request_log is None else RequestLog(options.request_log)
        if previous is not None:
            self._accounts = previous._accounts
        else:
            spent = {} if options.request_log is None else tokens_by_key(read_log(options.request_log))
            self._accounts = AccountBook(spent)
        self.accounts = [self._accounts.open(key) for key in options.keys]
        self.asks_usage = self._log is not None or any(key.tokens is not None for key in options.keys)
        queue = PolicyQueue(options.alphas.patience_s, options.timeouts.first_byte_s, time.monotonic)
        self._backends = BackendFactory(catalogue, options.engine, options.timeouts, options.breaker, queue)
        policies = [PolicyInfo(name, catalogue.alpha(name)) for name in catalogue.names]
        self.endpoints = {policy.name: self._create_endpoint(policy) for policy in policies}
        self.dispatcher = Dispatcher(self.endpoints, catalogue.mixtures)
        self.alphas = AlphaPolicyCache(
            catalogue, self.dispatcher.weights, self.endpoints, self._create_endpoint, options.alphas
        )
        self._judge = AsyncJudge(options.judge_workers, self.metrics.verdicts)
        self._workspaces = AsyncWorkspaces(self._judge.at_once)
        self.best_of = BestOfService(
            self.dispatcher, self._judge, self._workspaces, self.metrics, options.best_of, options.timeouts.total_s
        )
        self._created = int(time.time())
        self._descriptions: dict[str, JSON] = {}
        self._describing: dict[str, asyncio.Task[None]] = {}
        self._described_at = -_DESCRIPTION_LIFE_S

    async def health(self, _: Request) -> Response:
        """Report that the server runs; no engine is asked."""
        return json_response({"status": "ok"})

    async def ready(self, _: Request) -> Response:
        """Report whether any policy would take a request, and which are out of service."""
        out = [name for name, endpoint in self.endpoints.items() if not endpoint.is_available]
        is_ready = len(out) < len(self.endpoints)
        return json_response({"ready": is_ready, "out_of_service": out}, 200 if is_ready else 503)

    async def metrics_text(self, _: Request) -> Response:
        """Return the metrics in the text format of Prometheus."""
        return Response(self.metrics.as_text(), media_type=CONTENT_TYPE)

    async def version(self, _: Request) -> Response:
        """Return the version, in the same form as vLLM does."""
        return json_response({"version": metadata.version("alphamix")})

    async def page(self, _: Request) -> Response:
        """Return the page for people."""
        page = status_page(self.dispatcher.weights, self.endpoints, self.accounts, self.metrics)
        return HTMLResponse(page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"})

    async def models(self, _: Request) -> Response:
        """List every policy and every ensemble."""
        descriptions = await self._describe()
        data = [self._model(name, descriptions) for name in self.dispatcher.weights]
        return json_response({"object": "list", "data": data})

    async def model(self, http: Request) -> Response:
        """Return one policy or ensemble."""
        name, policy = self.alphas.find(http.path_params["model"])
        if policy is not None:
            return json_response(model_object(name, self._created, {"alpha": policy.alpha}))
        return json_response(self._model(name, await self._describe()))

    async def close(self) -> None:
        """Close connections, and engines once the requests under way have ended."""
        for task in self._describing.values():
            task.cancel()
        closing = [*self.endpoints.values(), self._judge, self._workspaces, self.alphas]
        await asyncio.gather(*(resource.close() for resource in closing))
        if self._log is not None:
            self._log.close()

    def answered(self, record: RequestRecord, account: KeyAccount | None) -> None:
        """Count and log a request whose answer has been sent."""
        if account is not None:
            account.tokens += record.tokens
        self.metrics.answered(record)
        if self._log is not None:
            self._log.write(record)

    def _create_endpoint(self, policy: PolicyInfo) -> PolicyEndpoint:
        breaker = CircuitBreaker(self.options.breaker, time.monotonic)
        backend = self._backends.create(policy)
        return PolicyEndpoint(policy, backend, breaker, self.options.limits.in_flight, self.metrics)

    async def _describe(self) -> Mapping[str, JSON]:
        """Return what upstreams say about the models behind the listed policies: context length and fingerprint.

        An upstream that is slow to answer is left out until it has.
        """
        if time.monotonic() - self._described_at >= _DESCRIPTION_LIFE_S:
            self._described_at = time.monotonic()
            for name in self.endpoints.keys() & self.dispatcher.weights.keys() - self._describing.keys():
                self._describing[name] = asyncio.create_task(self._describe_one(name))
        if self._describing:
            await asyncio.wait(self._describing.values(), timeout=_PATIENCE_S)
        return self._descriptions

    async def _describe_one(self, name: str) -> None:
        try:
            answer = await self.endpoints[name].describe()
            self._descriptions[name] = {key: answer[key] for key in _FORWARDED_KEYS if answer.get(key) is not None}
        finally:
            del self._describing[name]

    def _model(self, name: str, descriptions: Mapping[str, JSON]) -> JSON:
        weights = self.dispatcher.weights[name]
        if weights == {name: 1.0}:
            alpha = self.endpoints[name].policy.alpha
            return model_object(name, self._created, {"alpha": alpha, **descriptions.get(name, {})})
        # An ensemble accepts what its policy with the shortest context does; an unknown length may be the shortest.
        lengths = [descriptions.get(policy, {}).get("max_model_len") for policy, weight in weights.items() if weight]
        shortest = min((length for length in lengths if isinstance(length, int)), default=None)
        known = {} if shortest is None or None in lengths else {"max_model_len": shortest}
        return model_object(name, self._created, {"mixture": {**weights}, **known})


Stream: TypeAlias = tuple[AsyncGenerator[bytes], Callable[[bytes], bytes]]
"""Events, and what makes of an error object the event that ends them."""


class CompletionRoute:
    """One of the two completion routes, as plain ASGI, since starlette's own layers cost time on every request."""

    def __init__(self, gateway: Gateway, path: ApiPath) -> None:
        self._gateway = gateway
        self._path: ApiPath = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        http = Request(scope, receive)
        gateway, account = self._gateway, scope.get(ACCOUNT)
        record = RequestRecord(scope[REQUEST_ID], path=self._path, asks_usage=gateway.asks_usage)
        record.headers["x-request-id"] = record.id
        tracer = gateway.options.tracer
        span = None if tracer is None else tracer.begin(record, http.headers)
        try:
            if account is not None:
                record.key = account.key.name
            request, best_of = await self._read(http, record)
            with gateway.alphas.resolved(request) as request:
                record.model = request.model
                if account is not None:
                    account.admit(request.model)
                await self._answer(http, send, request, best_of)
        except ApiError as error:
            await self._fail(send, record, error)
        except ClientDisconnect:
            record.status = 499
        except asyncio.CancelledError:  # the server stops
            end_cancellation()
            await self._fail(send, record, stopping())
        except BaseException:
            record.status = 500
            raise
        finally:
            gateway.answered(record, account)
            if tracer is not None:
                tracer.end(span, record)

    async def _read(self, http: Request, record: RequestRecord) -> tuple[RawRequest, BestOfRequest | None]:
        options = self._gateway.options
        limits = options.limits
        raw = self._body(await read_limited(http, limits.body_bytes, options.timeouts.idle_s))
        request = read_request(self._path, raw, record, http.headers.get("x-alphamix-session"))
        if request.num_choices > limits.choices:
            message = (
                f"n = {request.n} for {request.num_prompts} prompt(s) exceeds the limit of {limits.choices} choices "
                "per request: send several requests"
            )
            raise invalid(message, param="n")
        return read_best_of(request, options.best_of)

    async def _answer(self, http: Request, send: Send, request: RawRequest, best_of: BestOfRequest | None) -> None:
        if best_of is None:
            dispatcher = self._gateway.dispatcher
            parts = dispatcher.plan(request)
            complete = partial(dispatcher.complete, request, parts)
            start_stream = partial(dispatcher.start_stream, request, parts)
        else:
            complete = partial(self._gateway.best_of.complete, request, best_of)
            start_stream = partial(self._gateway.best_of.start_stream, request, best_of)
        record = request.record
        if not request.stream:
            async with CancelOnDisconnect(http.receive):
                body, headers = await complete()
            await send_body(send, 200, self._whole(body), headers)
            return
        # The headers wait for the first chunk, so that a failure before it is reported by the status.
        async with CancelOnDisconnect(http.receive):
            events, headers = await start_stream()
        record.first_token_s = record.seconds
        patience_s = self._gateway.options.timeouts.idle_s
        events, failure = self._stream(events, record.model)
        await send_events(send, http.receive, events, headers, patience_s, record, failure)

    def _body(self, raw: bytes) -> bytes:
        """Return the body of the completion that a body asks for."""
        return raw

    def _whole(self, body: bytes) -> bytes:
        """Return the answer that an answer becomes."""
        return body

    def _stream(self, events: AsyncGenerator[bytes], model: str) -> Stream:
        """Return the events that events become, and what makes an event of an error object."""
        return events, sse_event

    async def _fail(self, send: Send, record: RequestRecord, error: ApiError) -> None:
        record.status, record.error = error.status, error.code or error.kind
        await send_body(send, error.status, encode(error.as_json()), error.headers)


class ResponsesRoute(CompletionRoute):
    """The route `/v1/responses`, over chats."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway, "chat/completions")

    def _body(self, raw: bytes) -> bytes:
        return chat_request(raw)

    def _whole(self, body: bytes) -> bytes:
        return ResponseWriter().whole(body)

    def _stream(self, events: AsyncGenerator[bytes], model: str) -> Stream:
        writer = ResponseWriter(model)
        return _written(events, writer), writer.chunk


async def _written(events: AsyncGenerator[bytes], writer: ResponseWriter) -> AsyncGenerator[bytes]:
    yield writer.opening()
    async with aclosing(events):
        async for batch in events:
            yield b"".join(map(writer.chunk, event_chunks(batch)))
            if is_done(batch):
                yield writer.closing()


Load = Callable[[], tuple[PolicyCatalogue, ServeOptions]]


def create_app(catalogue: PolicyCatalogue, options: ServeOptions | None = None, load: Load | None = None) -> ASGIApp:
    """Create the application. Engines are opened when they are first needed and closed at shutdown.

    On SIGHUP, the policies and options that `load` returns take the place of the present ones.
    """
    return ReloadableApp(Gateway(catalogue, options or ServeOptions()), load)


class ReloadableApp:
    """The application of the present gateway. Requests under way end on the gateway that they began with."""

    def __init__(self, gateway: Gateway, load: Load | None) -> None:
        self._load = load
        self._present = _Generation(gateway)
        self._reloading: asyncio.Task[None] | None = None
        self._lifespan = Router(lifespan=self._running)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or start and stop."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        generation = self._present
        generation.under_way += 1
        try:
            await generation.app(scope, receive, send)
        finally:
            generation.under_way -= 1
            if not generation.under_way and generation is not self._present:
                generation.ended.set()

    @asynccontextmanager
    async def _running(self, _: object) -> AsyncGenerator[None]:
        if self._load is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._start_reload)
        yield
        if self._reloading is not None:
            self._reloading.cancel()
            await asyncio.gather(self._reloading, return_exceptions=True)
        await self._present.gateway.close()

    def _start_reload(self) -> None:
        if self._reloading is not None and not self._reloading.done():
            log.warning("a reload is under way: send SIGHUP again once its last request has ended")
            return
        self._reloading = asyncio.create_task(self._reload())

    async def _reload(self) -> None:
        assert self._load is not None
        try:
            catalogue, options = await asyncio.to_thread(self._load)
        except (PolicyError, EnsembleError) as error:
            log.error("nothing is reloaded: %s", error)
            return
        past, self._present = self._present, _Generation(Gateway(catalogue, options, self._present.gateway))
        log.warning("the configuration is reloaded")
        try:
            if past.under_way:
                await past.ended.wait()
        finally:
            await past.gateway.close()


class _Generation:
    """A gateway, its application, and the number of requests that are under way on it."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.app = _guarded_app(gateway)
        self.under_way = 0
        self.ended = asyncio.Event()


def _guarded_app(gateway: Gateway) -> ASGIApp:
    options = gateway.options
    app = Starlette(
        routes=[
            Route("/v1/chat/completions", CompletionRoute(gateway, "chat/completions"), methods=["POST"]),
            Route("/v1/completions", CompletionRoute(gateway, "completions"), methods=["POST"]),
            Route("/v1/responses", ResponsesRoute(gateway), methods=["POST"]),
            Route("/health", gateway.health, methods=["GET"]),
            Route("/ready", gateway.ready, methods=["GET"]),
            Route("/metrics", gateway.metrics_text, methods=["GET"]),
            Route("/version", gateway.version, methods=["GET"]),
            Route("/v1/models", gateway.models, methods=["GET"]),
            Route("/v1/models/{model:path}", gateway.model, methods=["GET"]),
            Route("/", gateway.page, methods=["GET"]),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    guarded = AccessMiddleware(app, gateway.accounts, options.hosts, options.origins)
    if not options.origins:
        return RequestIdMiddleware(guarded)
    exposed = ["x-request-id", "x-alphamix-policy", "x-alphamix-policies", "x-alphamix-alpha", "retry-after"]
    with_pages = CORSMiddleware(
        guarded, options.origins, allow_methods=["*"], allow_headers=["*"], expose_headers=exposed, max_age=3600
    )
    return RequestIdMiddleware(with_pages)
