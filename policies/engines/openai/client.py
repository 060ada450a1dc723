"""Client of one OpenAI-compatible URL, which sends each request once, reads the answer, and enforces the time-outs.

The official client does the HTTP; its own retries are off. Answers are not judged here, and requests not repeated.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import openai

from alphamix.policies.engines.openai.address import authorization, shown
from alphamix.policies.engines.openai.failures import ERRORS, classify, is_too_long
from alphamix.policies.engines.openai.server_answers import ServerAnswer, add_body, event_data, message_for_server
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.types import EngineFailure, Request, TokenIds, template_arguments

_CONNECT_TIMEOUT_S = 10.0
"""Maximum seconds to connect: a host that drops packets is recognised long before the first byte is due."""

_MAX_ERROR_LENGTH = 400
"""Maximum characters of an error that are passed on, since proxies send whole pages."""


class Client:
    """Client for `model` at `url`. Messages go to `chat/completions`, plain text to `completions`.

    `lists_tokens`: whether the server can list the tokens of each choice; the API itself reports only their sum.
    """

    def __init__(
        self,
        url: str,
        model: str,
        api_key: str | None,
        headers: Mapping[str, str],
        extra_body: Mapping[str, Any],
        options: EngineOptions,
        *,
        lists_tokens: bool = False,
    ) -> None:
        self.url = shown(url)
        """The URL without what may be secret."""
        self._model = model
        self._extra_body = dict(extra_body)
        self._extra_body_of_choices = self._extra_body | ({"return_token_ids": True} if lists_tokens else {})
        self._options = options
        self._limit_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
        """Key of the limit of a chat's tokens: the older one, until the server asks for the other."""
        user = authorization(url, api_key)
        self._client = openai.AsyncOpenAI(
            base_url=self.url,
            default_query=dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)),
            default_headers=headers if user is None else {"Authorization": user, **headers},
            # A key is always given: otherwise the client would send this machine's OPENAI_API_KEY to any URL.
            api_key=api_key or "none",
            timeout=openai.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            max_retries=0,
            http_client=openai.DefaultAioHttpClient(),
        )

    async def whole(self, request: Request, n: int, deadline: float) -> ServerAnswer:
        """Request `n` choices and return the whole answer.

        Raises:
            One of `ERRORS`.
        """
        answer = ServerAnswer()
        async for _ in self.pieces(answer, request, n, deadline, stream=False):
            pass
        return answer

    async def pieces(
        self, answer: ServerAnswer, request: Request, n: int, deadline: float, *, stream: bool = True
    ) -> AsyncGenerator[str]:
        """Request an answer and gather it, in pieces if it is streamed. The deadline is a time of the event loop.

        Raises:
            One of `ERRORS`.
        """
        options, now = self._options, asyncio.get_running_loop().time
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

    async def describe(self) -> dict[str, Any]:
        """Return the server's entry for the model in `models`, empty if it is not listed, and vLLM's `version`.

        Raises:
            One of `ERRORS`.
        """
        async with asyncio.timeout(self._options.first_byte_timeout_s):
            listed: Any = await self._client.get("models", cast_to=object)
            about = next((dict(m) for m in listed["data"] if m.get("id") == self._model), {})
            try:
                version: Any = await self._client.get(self._root() + "/version", cast_to=object)
            except ERRORS:  # only vLLM has this page
                return about
            return about | {"version": version.get("version")}

    async def metrics(self) -> str:
        """Return the server's page of metrics, in the text format of Prometheus.

        Raises:
            One of `ERRORS`.
        """
        async with asyncio.timeout(_CONNECT_TIMEOUT_S):
            return await self._client.get(self._root() + "/metrics", cast_to=str)

    def failure(self, error: Exception) -> EngineFailure:
        """Describe an error of this URL in one sentence, with its cause and cure."""
        cause, cure = classify(error)
        # The client says "Connection error." and leaves the reason to the error below its own.
        reason = error.__cause__ if isinstance(error, openai.APIConnectionError) else None
        text = " ".join(str(reason or error).split())[:_MAX_ERROR_LENGTH].rstrip(".") or type(error).__name__
        return EngineFailure(cause, f"{self.url}: {text}; {cure}.", is_too_long(error))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _parts(self, request: Request, *, stream: bool, n: int) -> AsyncGenerator[bytes]:
        """Post a request and yield the bytes of the answer as they arrive."""
        limit_key = self._limit_key
        try:
            async with self._post(request, stream=stream, n=n) as response:
                async for part in response.iter_bytes():
                    yield part
        except openai.BadRequestError as error:
            # The error comes before any byte. Other requests that are under way may have had the same answer by now.
            if (
                limit_key != "max_tokens"
                or "max_completion_tokens" not in str(error)
                or isinstance(request.prompt, str)
            ):
                raise
            self._limit_key = "max_completion_tokens"
            async for part in self._parts(request, stream=stream, n=n):
                yield part
        except openai.OpenAIError:
            raise
        except Exception as error:  # from aiohttp, or from the httpx that the client uses
            raise ConnectionError(str(error) or type(error).__name__) from error

    def _post(self, request: Request, *, stream: bool, n: int) -> Any:
        parameters = request.parameters
        arguments: dict[str, Any] = {
            "model": self._model,
            "seed": request.seed,
            "temperature": parameters.temperature,
            "top_p": parameters.top_p,
        }
        if extra_body := {**(self._extra_body_of_choices if n > 1 else self._extra_body), **_beyond_api(request)}:
            arguments["extra_body"] = extra_body
        if parameters.stop:
            arguments["stop"] = list(parameters.stop)
        if n > 1:
            arguments["n"] = n
        if stream:
            arguments |= {"stream": True, "stream_options": {"include_usage": True}}
        if isinstance(request.prompt, str):
            return self._client.completions.with_streaming_response.create(
                prompt=request.prompt, max_tokens=parameters.max_tokens, **arguments
            )
        if isinstance(request.prompt, TokenIds):
            return self._client.completions.with_streaming_response.create(
                prompt=list(request.prompt), max_tokens=parameters.max_tokens, **arguments
            )
        messages: list[Any] = [message_for_server(message) for message in request.prompt]
        if request.tools:
            arguments["tools"] = list(request.tools)
        arguments[self._limit_key] = parameters.max_tokens
        return self._client.chat.completions.with_streaming_response.create(messages=messages, **arguments)

    def _root(self) -> str:
        """Return the address of the server: the URL of the API without its path."""
        return urlunsplit((*urlsplit(self.url)[:2], "", "", ""))


def _beyond_api(request: Request) -> dict[str, Any]:
    """Return the fields for what the OpenAI API cannot express, under the names of vLLM and SGLang."""
    fields: dict[str, Any] = {}
    if request.continues_last_message:
        fields |= {"continue_final_message": True, "add_generation_prompt": False}
    if (thinking := request.parameters.thinking) is not None:
        fields["chat_template_kwargs"] = template_arguments(thinking)
    return fields
