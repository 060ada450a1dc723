"""The OpenAI-compatible door: any client talks to a policy, or to an ensemble of them, as to one model.

Routes: `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/health`. An ensemble answers n choices by
splitting n over its policies as its mixture's weights say, and moves on with every request. A `seed` fixes
what a policy draws, not whose turn it is: for answers that can be repeated, ask a policy by its own name.

Not here: keys, metrics, failover (an engine that fails fails the request), best-of, tools, log-probabilities.
"""

import secrets
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ensemble.serve.answers import (
    DONE,
    JSON,
    Answer,
    ChatDialect,
    CompletionDialect,
    Dialect,
    Origin,
    event,
    model_object,
)
from ensemble.serve.bodies import Body, ChatBody, CompletionBody, read_body
from ensemble.serve.errors import ApiError, invalid, unknown_model
from ensemble.serve.http import EXCEPTION_HANDLERS, EventStream, json_response, read_limited, unless_left
from ensemble.serve.route import seed_of_choice, split_choices
from ensemble.serve.upstream import Assigned, Call, Upstreams, collect
from policies.engines import EngineOptions
from policies.registry import Registry
from policies.types import Completion, Engine, Request


class Served(Protocol):
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


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for."""

    choices: int = 128
    """n, for each of its prompts."""
    body_bytes: int = 8 * 2**20


def serve(registry_path: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve the policies and mixtures of a policies file until interrupted.

    Raises:
        PolicyError: the file, or a policy in it, is not as it should be.
    """
    with Registry.load(registry_path) as registry:
        registry.check()
        # Streams that are still open are cut a few seconds after Ctrl-C.
        uvicorn.run(create_app(registry), host=host, port=port, log_level="info", timeout_graceful_shutdown=5)


def create_app(registry: Served, options: EngineOptions | None = None, limits: Limits | None = None) -> Starlette:
    """Make the application. Engines are opened when first needed and closed at shutdown."""
    gateway = Gateway(registry, options or EngineOptions(), limits or Limits())

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        yield
        await gateway.upstreams.close()

    return Starlette(
        routes=[
            Route("/health", gateway.health, methods=["GET"]),
            Route("/v1/models", gateway.models, methods=["GET"]),
            Route("/v1/models/{model:path}", gateway.model, methods=["GET"]),
            Route("/v1/chat/completions", gateway.chat_completions, methods=["POST"]),
            Route("/v1/completions", gateway.completions, methods=["POST"]),
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )


class Gateway:
    """Joins bodies, routes, upstreams and answers; holds whose turn it is."""

    def __init__(self, registry: Served, options: EngineOptions, limits: Limits) -> None:
        self.upstreams = Upstreams(registry.names, lambda name: registry.open(name, options))
        self._origins = {name: Origin(name, registry.alpha(name)) for name in registry.names}
        self._weights: dict[str, Mapping[str, float]] = {name: {name: 1.0} for name in registry.names}
        self._weights.update(registry.mixtures)
        self._turns = Counter[str]()
        self._limits = limits
        self._created = int(time.time())

    async def health(self, _: HttpRequest) -> Response:
        """Say that the server runs; no engine is touched."""
        return json_response({"status": "ok"})

    async def models(self, _: HttpRequest) -> Response:
        """List each policy and each mixture."""
        return json_response({"object": "list", "data": [self._model(name) for name in self._weights]})

    async def model(self, http: HttpRequest) -> Response:
        """Show one policy or mixture."""
        return json_response(self._model(http.path_params["model"]))

    async def chat_completions(self, http: HttpRequest) -> Response:
        """Answer a chat."""
        return await self._answer(http, ChatBody, ChatDialect())

    async def completions(self, http: HttpRequest) -> Response:
        """Continue texts."""
        return await self._answer(http, CompletionBody, CompletionDialect())

    async def _answer(self, http: HttpRequest, kind: type[Body], dialect: Dialect) -> Response:
        body = read_body(kind, await read_limited(http, self._limits.body_bytes))
        choices = self._assign(body)
        answer = Answer(
            dialect=dialect,
            id=dialect.id_prefix + uuid.uuid4().hex,
            created=int(time.time()),
            model=body.model,
            origins=[self._origins[policy] for policy, _ in choices],
            choices_per_prompt=body.n,
        )
        headers = _origin_headers(answer.origins)
        call = self.upstreams.start(choices)
        try:
            if not body.stream:
                completions = await unless_left(http, collect(call, len(choices)))
                return json_response(answer.whole(completions), headers=headers)
            # Headers wait for the first token, so that an engine that fails before it is told by the status.
            await unless_left(http, call.begin())
        except BaseException:
            call.leave()
            raise
        events = _events(answer, call, include_usage=body.stream_options.include_usage)
        return EventStream(events, ended=call.leave, headers=headers)

    def _assign(self, body: Body) -> list[Assigned]:
        weights = self._weights_of(body.model)
        prompts = body.prompts()
        if body.n * len(prompts) > self._limits.choices:
            message = (
                f"n = {body.n} for {len(prompts)} prompt(s) is more than the {self._limits.choices} choices "
                "that one request may ask for; send several requests"
            )
            raise invalid(message, param="n")
        seed = secrets.randbits(63) if body.seed is None else body.seed
        parameters = body.parameters()
        choices: list[Assigned] = []
        for prompt in prompts:
            for policy in split_choices(weights, body.n, self._turns[body.model]):
                request = Request(prompt, seed_of_choice(seed, len(choices)), parameters)
                choices.append(Assigned(policy, request))
            self._turns[body.model] += 1
        return choices

    def _weights_of(self, model: str) -> Mapping[str, float]:
        if model not in self._weights:
            raise unknown_model(model, self._weights)
        return self._weights[model]

    def _model(self, name: str) -> JSON:
        weights = self._weights_of(name)
        extension: JSON = (
            {"mixture": {**weights}} if name not in self._origins else {"alpha": self._origins[name].alpha}
        )
        return model_object(name, self._created, extension)


async def _events(answer: Answer, call: Call, *, include_usage: bool) -> AsyncIterator[bytes]:
    opened: set[int] = set()
    whole: dict[int, Completion] = {}
    try:
        async for delta in call:
            opening = answer.opening_chunk(delta.index)
            if opening is not None and delta.index not in opened:
                opened.add(delta.index)
                yield event(opening)
            if isinstance(delta.outcome, Completion):
                whole[delta.index] = delta.outcome
            if (chunk := answer.chunk(delta)) is not None:
                yield event(chunk)
    except ApiError as error:  # the status is sent already: clients look for an error event
        yield event(error.as_json())
        return
    if include_usage:
        yield event(answer.usage_chunk([whole[index] for index in sorted(whole)]))
    yield DONE


def _origin_headers(origins: Sequence[Origin]) -> dict[str, str]:
    """Name the policy where one alone answers."""
    if len(set(origins)) > 1:
        return {}
    name, alpha = origins[0]
    headers = {"x-alphamix-policy": quote(name, safe="@+/ ")}
    return headers if alpha is None else {**headers, "x-alphamix-alpha": str(alpha)}
