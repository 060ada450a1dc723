"""The engine for any OpenAI-compatible URL: many requests in flight, each with its own seed.

The official client does the HTTP, and it alone retries (rate limits, time-outs, lost connections, server
errors; it honours Retry-After). Whatever still goes wrong becomes an `EngineFailure` with a cause, never an
answer.
"""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

import openai

from policies.engines import EngineOptions
from policies.types import Completion, Delta, EngineFailure, FinishReason, PolicyError, Reply, Request

T = TypeVar("T")
_Put: TypeAlias = Callable[[T], None]

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}

_ERRORS = (openai.APIError, ValueError, TypeError, AttributeError)
"""What the client raises, and what reading a body raises that is not of the form that the client promises."""

_CAUSES: tuple[tuple[type[openai.APIError], str, str], ...] = (
    (openai.APITimeoutError, "timeout", "raise the time-out, or ask for fewer tokens"),
    (openai.APIConnectionError, "connection", "see that the server runs and the URL is right"),
    (openai.RateLimitError, "rate_limit", "lower the concurrency"),
    (openai.InternalServerError, "server", "see the server's log"),
    (openai.APIStatusError, "rejected", "correct the request or the model's name"),
    (openai.APIError, "malformed", "see that the URL is an OpenAI-compatible API"),
)
"""Errors of the client, most special first, with their cause and what to do."""


@dataclass(slots=True)
class _Answer:
    """What one server said to one request, gathered from one body or from a stream."""

    text: str = ""
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class OpenAIEngine:
    """Samples from `model` at `url`. Messages go to `chat/completions`, plain text to `completions`.

    The requests run on an event loop in a thread of this engine. A generator that is closed early cancels
    what it still has in flight.
    """

    reproducible = False

    def __init__(self, url: str, model: str, api_key: str | None, options: EngineOptions) -> None:
        self._url = url
        self._model = model
        self._slots = asyncio.Semaphore(options.concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"openai {url}", daemon=True)
        self._thread.start()
        self._client = openai.AsyncOpenAI(
            base_url=url,
            # Given even if there is none: else the client would send this machine's OPENAI_API_KEY to any
            # URL.
            api_key=api_key or "none",
            timeout=options.timeout_s,
            max_retries=options.max_retries,
            http_client=openai.DefaultAioHttpClient(),
        )

    def probe(self) -> EngineFailure | None:
        """Ask the server for its models: None if it answers, else why it does not."""

        async def ask() -> EngineFailure | None:
            try:
                await self._client.with_options(max_retries=0).models.list()
            except _ERRORS as error:
                return self._failure(error)
            return None

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer all requests, each as soon as it is whole."""

        async def answer(index: int, request: Request, put: _Put[Reply]) -> None:
            put(Reply(index, await self._complete(request)))

        return self._run(requests, answer)

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        """Answer all requests, piece by piece as the server sends them."""

        async def answer(index: int, request: Request, put: _Put[Delta]) -> None:
            async for item in self._pieces(request):
                put(Delta(index, item) if isinstance(item, str) else Delta(index, "", item))

        return self._run(requests, answer)

    def close(self) -> None:
        """Close the connections and stop the thread. Safe to call twice."""

        async def finish() -> None:
            running = asyncio.all_tasks() - {asyncio.current_task()}
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._client.close()

        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(finish(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def _run(
        self, requests: Sequence[Request], answer: Callable[[int, Request, _Put[T]], Awaitable[None]]
    ) -> Iterator[T]:
        """Answer all requests on the loop, and hand over what comes as it comes."""
        if self._loop.is_closed():
            raise PolicyError("the engine is closed: open the policy again.")
        queue: SimpleQueue[T | None] = SimpleQueue()

        async def one(index: int, request: Request) -> None:
            async with self._slots:
                await answer(index, request, queue.put)

        async def all_of_them() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for index, request in enumerate(requests):
                        group.create_task(one(index, request))
            finally:
                queue.put(None)

        running = asyncio.run_coroutine_threadsafe(all_of_them(), self._loop)
        try:
            while (item := queue.get()) is not None:
                yield item
            running.result()
        finally:
            running.cancel()

    async def _complete(self, request: Request) -> Completion | EngineFailure:
        started = time.perf_counter()
        try:
            body: Any = await self._create(request)
            answer = _Answer()
            _add(answer, body, "message")
        except _ERRORS as error:
            return self._failure(error)
        return self._outcome(answer, started)

    async def _pieces(self, request: Request) -> AsyncIterator[str | Completion | EngineFailure]:
        """Pieces of text, and at last the outcome."""
        started = time.perf_counter()
        answer = _Answer()
        try:
            chunks: Any = await self._create(request, stream=True, stream_options={"include_usage": True})
            async with chunks:
                async for chunk in chunks:
                    piece = _add(answer, chunk, "delta")
                    if piece:
                        yield piece
        except _ERRORS as error:
            yield self._failure(error)
        else:
            yield self._outcome(answer, started)

    async def _create(self, request: Request, **more: Any) -> Any:
        parameters = request.parameters
        arguments: dict[str, Any] = {
            "model": self._model,
            "seed": request.seed,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "max_tokens": parameters.max_tokens,
            **more,
        }
        if parameters.stop:
            arguments["stop"] = list(parameters.stop)
        if isinstance(request.prompt, str):
            return await self._client.completions.create(prompt=request.prompt, **arguments)
        messages: list[Any] = list(request.prompt)
        return await self._client.chat.completions.create(messages=messages, **arguments)

    def _outcome(self, answer: _Answer, started: float) -> Completion | EngineFailure:
        reason = _FINISH_REASONS.get(answer.finish_reason or "")
        if reason is None:
            return EngineFailure(
                "malformed",
                f"{self._url} ended an answer with the finish reason {answer.finish_reason!r}: "
                "only 'stop' and 'length' are whole answers.",
            )
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            return EngineFailure(
                "malformed", f"{self._url} reports no usage: serve the model with one that counts tokens."
            )
        seconds = time.perf_counter() - started
        return Completion(answer.text, reason, answer.prompt_tokens, answer.completion_tokens, seconds)

    def _failure(self, error: Exception) -> EngineFailure:
        cause, cure = _classify(error)
        # The client says "Connection error." and leaves the reason to the error below its own.
        reason = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
        told = " ".join(str(reason or error).split()).rstrip(".") or type(error).__name__
        return EngineFailure(cause, f"{self._url}: {told}; {cure}.")


def _classify(error: Exception) -> tuple[str, str]:
    """Cause of a failure, and what to do."""
    below: BaseException | None = error
    timed_out = False
    while below is not None:
        timed_out = timed_out or isinstance(below, TimeoutError)
        below = below.__cause__
    for kind, cause, cure in _CAUSES:
        # The aiohttp backend reports a refused connection as a time-out, too.
        if isinstance(error, kind) and (timed_out or kind is not openai.APITimeoutError):
            return cause, cure
    return _CAUSES[-1][1:]


def _add(answer: _Answer, body: Any, part: str) -> str:
    """Add a body, or one chunk of a stream, to an answer; return its text.

    Raises:
        ValueError: it has not the form of one.
    """
    if not hasattr(body, "choices"):
        raise ValueError(f"a body of the type {type(body).__name__}")
    usage = body.usage
    if usage is not None:
        answer.prompt_tokens, answer.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    if not body.choices:  # the last chunk of a stream has usage alone
        return ""
    choice = body.choices[0]
    # A server may say nothing at all and yet finish: an empty answer is then an answer.
    piece = (choice.text if hasattr(choice, "text") else getattr(choice, part).content) or ""
    answer.text += piece
    answer.finish_reason = choice.finish_reason or answer.finish_reason
    return piece
