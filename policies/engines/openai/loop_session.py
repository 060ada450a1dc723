"""A session whose requests run on an event loop in another thread."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import PolicyError, Request


class SessionResult(Protocol):
    """What a session hands over for a request: a piece of an answer, or the outcome."""

    @property
    def outcome(self) -> object | None:
        """None for a piece."""
        ...


R = TypeVar("R", bound=SessionResult)
Signal: TypeAlias = Literal["wake", "end"]


class LoopSession(Generic[R]):
    """Session between the thread that submits and receives, and a coroutine that answers.

    Args:
        loop: Event loop, which runs in another thread.
        submitted: Is called on the loop after each submission.
        answer: Makes the coroutine that answers until it is cancelled. Its arguments are the requests that wait, a
            function that takes a result, and a function that counts the results not yet received.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        submitted: Callable[[], None],
        answer: Callable[[Submissions, Callable[[R], None], Callable[[], int]], Coroutine[Any, Any, None]],
    ) -> None:
        self._loop = loop
        self._submitted = submitted
        self._waiting = Submissions()
        self._results: SimpleQueue[R | Signal] = SimpleQueue()
        self._num_answered = 0
        self._on_close: Callable[[], None] = lambda: None
        coroutine = answer(self._waiting, self._results.put, self._results.qsize)
        self._answering: Future[None] = asyncio.run_coroutine_threadsafe(coroutine, loop)
        self._answering.add_done_callback(lambda _: self._results.put("end"))

    def submit(self, requests: Sequence[Request]) -> int:
        """Add requests, and return the index of the first."""
        first = self._waiting.add(requests)
        with suppress(RuntimeError):  # the loop is closed: `receive` says so
            self._loop.call_soon_threadsafe(self._submitted)
        return first

    def receive(self) -> R | None:
        """Wait for a result; return None if no request is left, or once `wake` was called.

        Raises:
            PolicyError: the engine was closed.
        """
        if self._num_answered == self._waiting.count:
            return None
        result = self._results.get()
        if result == "wake":
            return None
        if result == "end":
            with suppress(CancelledError):
                self._answering.result()
            raise PolicyError("the engine is closed: open the policy again.")
        self._num_answered += result.outcome is not None
        return result

    def wake(self) -> None:
        """Let `receive` return None, after what has arrived before."""
        self._results.put("wake")

    def on_close(self, call: Callable[[], None]) -> None:
        """Call a function when the session has been closed."""
        self._on_close = call

    def close(self) -> None:
        """Cancel all requests that have no outcome. Safe to call twice."""
        self._answering.cancel()
        on_close, self._on_close = self._on_close, lambda: None
        on_close()
