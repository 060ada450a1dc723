"""Draws of a best-of request in the setting `tool`: conversations with a policy that may run Python in a workspace.

Each draw is an attempt of its own, driven by the loop of a run's setting. While the policy answers or code runs, other
requests go on. What a policy may do to this machine is what a workspace allows; if one cannot be proven to hold here,
requests are refused and nothing runs.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, NamedTuple, cast

import msgspec
from msgspec import Raw

from alphamix.ensemble.serve.best_of.async_judge import log
from alphamix.ensemble.serve.best_of.request import ToolOptions
from alphamix.ensemble.serve.lazy import LazyValue
from alphamix.ensemble.serve.protocol.api_errors import ApiError, invalid, server_error
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest, encode, read_parameter, seed_of_choice
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher
from alphamix.ensemble.settings.interleave import seed_of_turn
from alphamix.ensemble.settings.loop import Ask, Submit
from alphamix.ensemble.settings.prompts import OpeningPrompt
from alphamix.ensemble.settings.tool import PYTHON, PythonSandbox, ToolLimits, use_tool
from alphamix.ensemble.settings.tool_formats import FORMATS, ToolFormat
from alphamix.ensemble.store import Ending
from alphamix.grading.errors import GradingError
from alphamix.grading.workspace import Workspace, WorkspaceError, WorkspacePool
from alphamix.policies.engines.openai.server_answers import ServerAnswer, add_body, message_for_server
from alphamix.policies.types import Completion, Message

_LIMITS = ToolLimits()
"""What an attempt may use of this machine; the number of calls is the request's."""
_LIMIT_KEYS = ("max_completion_tokens", "max_tokens")
"""Limits of an answer, which here are of all turns of an attempt."""
_StopStrings: Any = str | list[str]


class DrawAttempt(NamedTuple):
    """How a draw came about."""

    turns: int
    """Number of answers of the policy."""
    calls: int
    """Number of programs that were run for it."""
    ending: Ending


class AsyncWorkspaces:
    """Opens workspaces for many requests. Belongs to one event loop.

    Args:
        at_once: Number of attempts whose code runs at the same time.
    """

    def __init__(self, at_once: int) -> None:
        self._pool = LazyValue(self._create)
        self.room = asyncio.Semaphore(at_once)
        self._closing = set[asyncio.Task[None]]()

    async def open(self) -> Workspace:
        """Return a workspace, which takes no resources before its first call. Give it to `release`.

        Raises:
            ApiError: 503, confinement cannot be proven here.
        """
        return (await self._pool.get()).open(_LIMITS.workspace)

    def release(self, workspace: Workspace) -> None:
        """End everything in a workspace, without waiting for it."""
        task = asyncio.create_task(asyncio.to_thread(workspace.close))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def check(self) -> None:
        """Prove that workspaces hold here. Raises ApiError as `open`."""
        await self._pool.get()

    async def close(self) -> None:
        """End all workspaces. Safe to call twice."""
        if (pool := await self._pool.take()) is not None:
            await asyncio.to_thread(pool.close)
        await asyncio.gather(*self._closing, return_exceptions=True)

    @staticmethod
    async def _create() -> WorkspacePool:
        pool = WorkspacePool()
        try:
            await asyncio.to_thread(pool.check)
        except GradingError as error:
            log.error("no workspace can be opened: %s", error)
            message = (
                "policies cannot run code here, since the confinement of workspaces cannot be proven: "
                "run 'alphamix doctor' on the server to see what is missing"
            )
            raise server_error(503, message, "no_sandbox") from error
        return pool


class ToolDraws:
    """Draws the choices of one request.

    Raises:
        ApiError: 400, the request has tools of its own, or is no chat.
    """

    def __init__(
        self, dispatcher: Dispatcher, workspaces: AsyncWorkspaces, request: RawRequest, options: ToolOptions
    ) -> None:
        self._dispatcher = dispatcher
        self._workspaces = workspaces
        self._request = request
        self._format = FORMATS[options.format]([PYTHON])
        self._num_calls = options.calls
        messages = with_instructions(_messages(request), self._format.instructions)
        self._prompt = OpeningPrompt("own", tuple(messages))
        stop = read_parameter(request.fields, "stop", _StopStrings) or []
        self._stop = [stop] if isinstance(stop, str) else stop
        limits = {key: read_parameter(request.fields, key, int) for key in _LIMIT_KEYS}
        self._limits = {key: limit for key, limit in limits.items() if limit is not None}

    async def draw(self, part: Part, answers: list[tuple[Part, ResponseJson]]) -> DrawAttempt:
        """Make the attempt of one draw.

        Args:
            part: The draw.
            answers: Is given each answer with its policy, also if the attempt fails later. Only the last has a choice.

        Raises:
            ApiError: a policy or the sandbox failed, which says nothing about the draw. The error is the request's only
                if a policy refuses the first turn.
        """
        workspace = await self._workspaces.open()
        running = _Running(self._workspaces.room, self._prompt, self._format, self._num_calls, workspace)
        try:
            step = await running.advance(None)
            while isinstance(step, Ask):
                request = self._turn(step, part, answers)
                if request is None:
                    step = Submit("", "out_of_tokens")
                    break
                part, body = await self._answer(request, part, is_first=not answers)
                completion = _completion(body)
                answers[-1:] = [(answered, ResponseJson(before.fields, [])) for answered, before in answers[-1:]]
                answers.append((part, body))
                step = await running.advance(completion)
        finally:
            running.loop.close()
            self._workspaces.release(workspace)
        return DrawAttempt(len(answers), running.num_calls, step.ending)

    async def _answer(self, request: RawRequest, part: Part, *, is_first: bool) -> tuple[Part, ResponseJson]:
        try:
            ((answered, body),) = await self._dispatcher.complete_part(request, part, set())
        except ApiError as error:
            if is_first or error.is_retryable:
                raise
            message = f"a policy refused a conversation that it had begun ({error.message})"
            raise server_error(502, message, "conversation_refused") from error
        return answered, body

    def _turn(self, ask: Ask, part: Part, answers: Sequence[tuple[Part, ResponseJson]]) -> RawRequest | None:
        """Return the request of the next turn; None if no tokens are left. Each attempt and turn has its own seed."""
        fields: dict[str, Any] = {"messages": [message_for_server(message) for message in ask.messages], "n": 1}
        if ask.tools:
            fields["tools"] = ask.tools
        if ask.stop:
            fields["stop"] = [*self._stop, *ask.stop]
        if ask.continues_last_message:
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        if self._request.seed is not None:
            fields["seed"] = seed_of_turn(seed_of_choice(self._request.seed, part.first), len(answers))
        spent = sum((body.usage or {}).get("completion_tokens") or 0 for _, body in answers)
        left = {key: limit - spent for key, limit in self._limits.items()}
        if answers and min(left.values(), default=1) <= 0:
            return None
        encoded = {key: Raw(encode(value)) for key, value in {**fields, **left}.items()}
        return replace(self._request, fields={**self._request.fields, **encoded}, n=1, seed=None)


class _Running:
    """The loop of one attempt, and the code that it runs."""

    def __init__(
        self,
        room: asyncio.Semaphore,
        prompt: OpeningPrompt,
        tool_format: ToolFormat,
        most_calls: int,
        workspace: Workspace,
    ) -> None:
        self._room = room
        self._sandbox = PythonSandbox(workspace, _LIMITS.call, {})
        self.loop = use_tool(prompt, tool_format, most_calls, self._sandbox.run)
        self.num_calls = 0

    async def advance(self, sent: Completion | None) -> Ask | Submit:
        """Let the loop go on, and its code run, until it asks or submits."""
        value: Any = sent
        async with self._room:
            try:
                while isinstance(step := self.loop.send(value), Future):
                    value = await asyncio.wrap_future(step)
                    self.num_calls += 1
            except StopIteration as stopped:
                return stopped.value
            except (WorkspaceError, GradingError) as error:
                log.error("a workspace failed: %s", error)
                raise server_error(503, "the sandbox of a draw failed: try again later", "sandbox_failed") from error
        return step


def with_instructions(messages: Sequence[Message], instructions: str) -> list[Message]:
    """Return messages with instructions in the system message: many templates accept one alone, at the start."""
    if not instructions:
        return list(messages)
    first = messages[0]
    if first["role"] in ("system", "developer") and isinstance(cast("Any", first["content"]), str):
        return [{**first, "content": f"{first['content']}\n\n{instructions}"}, *messages[1:]]
    return [{"role": "system", "content": instructions}, *messages]


def _messages(request: RawRequest) -> list[Message]:
    if request.path != "chat/completions":
        raise invalid("ensemble.setting 'tool' is a chat: send it to /v1/chat/completions", param="ensemble.setting")
    if read_parameter(request.fields, "tools", list[Any]):
        raise invalid("ensemble.setting 'tool' offers its own tool: leave out tools", param="tools")
    messages = read_parameter(request.fields, "messages", list[dict[str, Any]])
    if not messages or any("role" not in message or "content" not in message for message in messages):
        raise invalid("the parameter 'messages' is wrong: send messages with role and content", param="messages")
    return cast("list[Message]", messages)


def _completion(body: ResponseJson) -> Completion:
    """Return the only choice of an answer as an engine would. Servers end an answer with calls in several ways."""
    ((_, choice),) = body.choices
    decoded: dict[str, Any] = {key: msgspec.json.decode(raw) for key, raw in choice.items()} | {"index": 0}
    answer = ServerAnswer()
    try:
        add_body(answer, {"choices": [decoded]}, "message")
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise server_error(502, "a choice of an answer is malformed", "malformed") from error
    text, kind = answer.answer(0)
    calls = answer.tool_calls(0)
    is_cut = answer.finish_reasons[0] == "length"
    reason = "length" if is_cut else "tool_calls" if calls else "stop"
    return Completion(text, reason, 0, 0, 0.0, kind, answer.beside[0].get("reasoning", ""), calls)
