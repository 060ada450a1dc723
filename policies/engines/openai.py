"""The engine for any OpenAI-compatible URL: many requests in flight, each with its own seed.

The official client does the HTTP; what is asked again, and when, is decided here and in `failures`, and nowhere
else. Whatever still goes wrong becomes an `EngineFailure` with a cause, never an answer. `inspect` and `describe`
are for `policies.check`: they return what the server says as it is, so that a fault of it can be named.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import aclosing
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit

import openai

from policies.engines import EngineOptions
from policies.engines.answers import ServerAnswer, add_body, event_data, is_count
from policies.engines.failures import ERRORS, classify, wait_before_retry
from policies.types import Completion, Delta, EngineFailure, FinishReason, PolicyError, Reply, Request

T = TypeVar("T")
_Put: TypeAlias = Callable[[T], None]

_FINISH_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}

_CONNECT_TIMEOUT_S = 10.0
"""Longest wait for a connection: a host that swallows packets is known long before the first byte is due."""

_LONGEST_TOLD = 400
"""Characters of an error that are passed on: proxies send whole pages."""


class OpenAIEngine:
    """Samples from `model` at `url`. Messages go to `chat/completions`, plain text to `completions`.

    The requests run on an event loop in a thread of this engine. A generator that is closed early cancels
    what it still has in flight. A request holds its place among those in flight while it waits to be repeated, so a
    server that is at its limit is asked less. A stream is not repeated once a piece of it was handed out.
    """

    reproducible = False

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None,
        options: EngineOptions,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> None:
        """`extra_body` goes into every request: fields that are no part of the OpenAI API."""
        self._url = url
        self._model = model
        self._extra_body = dict(extra_body or {})
        self._options = options
        self._slots = asyncio.Semaphore(options.concurrency)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"openai {url}", daemon=True)
        self._thread.start()
        self._client = openai.AsyncOpenAI(
            base_url=url,
            # Given even if there is none: else the client would send this machine's OPENAI_API_KEY to any
            # URL.
            api_key=api_key or "none",
            timeout=openai.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(),
        )

    def describe(self) -> dict[str, Any] | EngineFailure:
        """What the server says about the model: its entry in `models`, empty if not listed, and vLLM's `version`."""

        async def ask() -> dict[str, Any] | EngineFailure:
            try:
                async with asyncio.timeout(self._options.first_byte_timeout_s):
                    listed = await self._get("models")
                    about = next((dict(m) for m in listed["data"] if m.get("id") == self._model), {})
                    try:
                        version = await self._get(_root(self._url) + "/version")
                    except ERRORS:  # only vLLM has it
                        return about
                    return about | {"version": version.get("version")}
            except ERRORS as error:
                return self._failure(error)

        return self._begin(ask).result()

    def inspect(self, requests: Sequence[Request], n: int = 1) -> Iterator[tuple[int, ServerAnswer | EngineFailure]]:
        """Ask for `n` choices of each request; what the server says, whatever it is, with the request's index."""

        async def answer(index: int, request: Request, put: _Put[tuple[int, ServerAnswer | EngineFailure]]) -> None:
            async for item in self._ask(request, n=n):
                if not isinstance(item, str):
                    put((index, item))

        return self._run(requests, answer)

    def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """Answer all requests, each as soon as it is whole."""

        async def answer(index: int, request: Request, put: _Put[Reply]) -> None:
            started = time.perf_counter()
            async for item in self._ask(request):
                if not isinstance(item, str):
                    put(Reply(index, self._outcome(item, started)))

        return self._run(requests, answer)

    def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
        """Answer all requests, piece by piece as the server sends them."""

        async def answer(index: int, request: Request, put: _Put[Delta]) -> None:
            started = time.perf_counter()
            async for item in self._ask(request, stream=True):
                if isinstance(item, str):
                    put(Delta(index, item))
                else:
                    put(Delta(index, "", self._outcome(item, started)))

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

        running = self._begin(all_of_them)
        try:
            while (item := queue.get()) is not None:
                yield item
            running.result()
        finally:
            running.cancel()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Begin to work on the loop."""
        if self._loop.is_closed():
            raise PolicyError("the engine is closed: open the policy again.")
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    async def _ask(
        self, request: Request, *, stream: bool = False, n: int = 1
    ) -> AsyncIterator[str | ServerAnswer | EngineFailure]:
        """Pieces of text, and at last what came of as many attempts as it takes or as there may be."""
        deadline = self._loop.time() + self._options.deadline_s
        for attempt in count(1):
            answer = ServerAnswer()
            begun = False
            try:
                async for piece in self._attempt(answer, request, deadline, stream=stream, n=n):
                    begun = True
                    yield piece
            except ERRORS as error:
                wait = None if begun else wait_before_retry(error, attempt)
                if wait is not None and attempt <= self._options.max_retries and self._loop.time() + wait < deadline:
                    await asyncio.sleep(wait)
                    continue
                yield self._failure(error)
            else:
                yield answer
            return

    async def _attempt(
        self, answer: ServerAnswer, request: Request, deadline: float, *, stream: bool, n: int
    ) -> AsyncIterator[str]:
        """Ask once and gather the answer; its text comes in pieces if it is streamed.

        Raises:
            One of `ERRORS`.
        """
        options, now = self._options, self._loop.time
        limit = f"no byte in {options.first_byte_timeout_s:g} s"
        whole = b""
        try:
            async with (
                asyncio.timeout_at(min(deadline, now() + options.first_byte_timeout_s)) as clock,
                aclosing(self._parts(request, stream=stream, n=n)) as parts,
            ):
                async for part in parts:
                    clock.reschedule(min(deadline, now() + options.idle_timeout_s))
                    limit = f"no further byte in {options.idle_timeout_s:g} s"
                    whole += part
                    if stream:
                        *lines, whole = whole.split(b"\n")
                        for data in filter(None, map(event_data, lines)):
                            if data == b"[DONE]":
                                return
                            if piece := add_body(answer, json.loads(data), "delta"):
                                yield piece
        except TimeoutError as error:
            over = f"no whole answer in {options.deadline_s:g} s" if now() >= deadline else limit
            raise TimeoutError(over) from error
        if not stream:
            add_body(answer, json.loads(whole), "message")

    async def _parts(self, request: Request, *, stream: bool, n: int) -> AsyncGenerator[bytes]:
        """Post a request; the bytes of the answer as they come."""
        try:
            async with self._post(request, stream=stream, n=n) as response:
                async for part in response.iter_bytes():
                    yield part
        except openai.OpenAIError:
            raise
        except Exception as error:  # of aiohttp, or of whichever httpx the client stands on
            raise ConnectionError(str(error) or type(error).__name__) from error

    def _post(self, request: Request, *, stream: bool, n: int) -> Any:
        parameters = request.parameters
        arguments: dict[str, Any] = {
            "model": self._model,
            "seed": request.seed,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
            "max_tokens": parameters.max_tokens,
        }
        if self._extra_body:
            arguments["extra_body"] = self._extra_body
        if parameters.stop:
            arguments["stop"] = list(parameters.stop)
        if n > 1:
            arguments["n"] = n
        if stream:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        if isinstance(request.prompt, str):
            return self._client.completions.with_streaming_response.create(prompt=request.prompt, **arguments)
        messages: list[Any] = list(request.prompt)
        return self._client.chat.completions.with_streaming_response.create(messages=messages, **arguments)

    async def _get(self, path: str) -> Any:
        return await self._client.get(path, cast_to=object)

    def _outcome(self, answer: ServerAnswer | EngineFailure, started: float) -> Completion | EngineFailure:
        """Judge an answer: whole, or a failure."""
        if isinstance(answer, EngineFailure):
            return answer
        told = answer.finish_reasons.get(0)
        reason = _FINISH_REASONS.get(told) if isinstance(told, str) else None
        if reason is None:
            return EngineFailure(
                "malformed",
                f"{self._url} ended an answer with the finish reason {told!r}: "
                "only 'stop' and 'length' are whole answers.",
            )
        if not is_count(answer.prompt_tokens) or not is_count(answer.completion_tokens):
            return EngineFailure(
                "malformed", f"{self._url} reports no usage: serve the model with one that counts tokens."
            )
        seconds = time.perf_counter() - started
        return Completion(answer.texts.get(0, ""), reason, answer.prompt_tokens, answer.completion_tokens, seconds)

    def _failure(self, error: Exception) -> EngineFailure:
        cause, cure = classify(error)
        # The client says "Connection error." and leaves the reason to the error below its own.
        reason = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
        told = " ".join(str(reason or error).split())[:_LONGEST_TOLD].rstrip(".") or type(error).__name__
        return EngineFailure(cause, f"{self._url}: {told}; {cure}.")


def _root(url: str) -> str:
    """The server's own address: the URL of the API without its path."""
    return urlunsplit((*urlsplit(url)[:2], "", "", ""))
