"""Runs a blocking engine in its own thread and hands its deltas to the event loop.

Requests for one policy wait in line for its thread, the only one that touches the engine. The first request opens the
engine. Deltas reach the event loop through a bounded channel: a slow client slows its engine, and a client that leaves
stops it at the next token. Nothing can stop an engine that hangs, so callers set their own deadline (`in_process`) and
the process does not wait for it at its exit. No HTTP and no JSON here.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Sequence

from alphamix.ensemble.serve.protocol.api_errors import (
    ApiError,
    bad_response,
    internal,
    invalid,
    server_error,
    unreachable,
)
from alphamix.policies.types import Completion, Delta, Engine, EngineFailure, PolicyError, PromptError, Request

CHANNEL_CAPACITY = 256
"""Maximum number of deltas that wait for a client."""
PATIENCE_S = 60.0
"""How long an engine waits for a client that has stopped reading, before the client counts as gone."""
CLOSE_S = 10.0
"""How long the server waits at shutdown for an engine that is still working."""
_TRANSIENT_CAUSES = frozenset({"rate_limit", "timeout", "connection"})
"""Causes of an `EngineFailure` that may be over at the next try; any other means a bad answer."""

log = logging.getLogger("alphamix.serve")


class DeltaStream:
    """The choices of one client request: an asynchronous iterator of deltas, indexed by choice.

    It ends when every choice is complete and raises `ApiError` if one fails. Its owner must call `leave`.
    """

    def __init__(self, choices: int, capacity: int, patience_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Delta | ApiError] = asyncio.Queue()
        self._room = threading.Semaphore(capacity)
        self._patience_s = patience_s
        self._left = threading.Event()
        self.begun = False
        """Whether the engine has begun to answer; until then the request waits in line."""
        self._unfinished = choices

    def __aiter__(self) -> AsyncIterator[Delta]:
        return self

    async def __anext__(self) -> Delta:
        if not self._unfinished:
            raise StopAsyncIteration
        arrived = await self._arrived.get()
        if isinstance(arrived, ApiError):
            raise arrived
        self._room.release()
        self._unfinished -= arrived.outcome is not None
        return arrived

    def leave(self) -> None:
        """Tell the engine that the client no longer listens. Safe to call twice, and after the end."""
        self._left.set()
        self._room.release()  # wakes the worker if it waits for room

    @property
    def left(self) -> bool:
        """Whether the client no longer listens."""
        return self._left.is_set()

    def put(self, delta: Delta) -> bool:
        """Hand over a delta, from the worker thread; return False if the client wants no more."""
        if not self._room.acquire(timeout=self._patience_s):
            self.fail(server_error(503, "the client stopped reading", "client_stalled"))
            self._left.set()
        if self._left.is_set():
            return False
        self._post(delta)
        return True

    def fail(self, error: ApiError) -> None:
        """End the stream with an error, from the worker thread."""
        self._post(error)

    def _post(self, item: Delta | ApiError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)
        except RuntimeError:  # the loop is closed, so there is no client left to answer
            self._left.set()


class EngineThread:
    """One policy's engine in its own thread. The private methods run in that thread."""

    def __init__(
        self,
        policy: str,
        open_engine: Callable[[], Engine],
        *,
        capacity: int = CHANNEL_CAPACITY,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.policy = policy
        self._last_sign_s = time.monotonic()
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._capacity = capacity
        self._patience_s = patience_s
        self._line: queue.SimpleQueue[tuple[Sequence[Request], DeltaStream] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name=f"policy-{policy}", daemon=True)

    def start(self, requests: Sequence[Request]) -> DeltaStream:
        """Queue requests, each for one choice, and return their deltas; `requests[i]` has the index i."""
        deltas = DeltaStream(len(requests), self._capacity, self._patience_s)
        if self._worker.ident is None:
            self._worker.start()
        self._line.put((requests, deltas))
        return deltas

    def is_silent(self, for_s: float) -> bool:
        """Return whether the engine has shown no sign of work for some time."""
        return time.monotonic() - self._last_sign_s >= for_s

    async def close(self) -> None:
        """Close the engine once it has answered what is queued; give up after `CLOSE_S`. Safe to call twice."""
        self._line.put(None)
        if self._worker.ident is not None:
            await asyncio.to_thread(self._worker.join, CLOSE_S)
            if self._worker.is_alive():
                log.error("the engine of policy %r hangs: it is not closed", self.policy)

    def _work(self) -> None:
        while (item := self._line.get()) is not None:
            self._answer(*item)
        if self._engine is not None:
            self._engine.close()

    def _answer(self, requests: Sequence[Request], deltas: DeltaStream) -> None:
        self._last_sign_s = time.monotonic()
        try:
            if not deltas.left:
                deltas.begun = True
                self._stream(requests, deltas)
        except ApiError as error:
            deltas.fail(error)
        except PromptError as error:
            deltas.fail(invalid(str(error)))
        except PolicyError as error:  # its server is gone or cannot be switched; the message may name addresses
            deltas.fail(self._failed(EngineFailure("server", str(error))))
        except BaseException:  # even one meant to end this thread: later requests have no other thread
            log.exception("the engine of policy %r failed unexpectedly", self.policy)
            deltas.fail(internal())

    def _stream(self, requests: Sequence[Request], deltas: DeltaStream) -> None:
        unfinished = set(range(len(requests)))
        produced = self._opened().stream(requests)
        try:
            for delta in produced:
                self._last_sign_s = time.monotonic()
                if isinstance(delta.outcome, EngineFailure):
                    raise self._failed(delta.outcome)
                if delta.outcome is not None:
                    unfinished.discard(delta.index)
                if not deltas.put(delta):
                    return
        finally:
            if isinstance(produced, Generator):
                produced.close()
        if unfinished:
            message = f"the engine ended with no outcome for choices {sorted(unfinished)}"
            raise self._failed(EngineFailure("malformed", message))

    def _opened(self) -> Engine:
        if self._engine is None:
            self._engine = load_engine(self.policy, self._open_engine)
        return self._engine

    def _failed(self, failure: EngineFailure) -> ApiError:
        """Log a failure; return 503 if another try may help, 400 if the request must be changed first, else 502."""
        log.error("the policy %r failed (%s): %s", self.policy, failure.cause, failure.message)
        if failure.cause in _TRANSIENT_CAUSES:
            return unreachable(self.policy, failure.cause)
        if failure.cause == "rejected":
            message = (
                f"the policy {self.policy!r} refused this request, which may be longer than the model's context; "
                "see the server's log"
            )
            return invalid(message, code=failure.cause)
        return bad_response(self.policy, failure.cause)


def load_engine(policy: str, open_engine: Callable[[], Engine]) -> Engine:
    """Open the engine of a policy.

    Raises:
        ApiError: 503, it cannot be opened; the log says why.
    """
    try:
        return open_engine()
    except (PolicyError, OSError) as error:
        log.error("the policy %r could not be loaded: %s", policy, error)
        message = f"the policy {policy!r} could not be loaded; see the server's log"
        raise server_error(503, message, "policy_unavailable") from error


async def collect(deltas: AsyncIterator[Delta], choices: int) -> list[Completion]:
    """Wait until every choice is complete.

    Raises:
        ApiError: an engine failed or could not be opened.
    """
    completions: dict[int, Completion] = {}
    async for delta in deltas:
        if isinstance(delta.outcome, Completion):
            completions[delta.index] = delta.outcome
    return [completions[index] for index in range(choices)]
