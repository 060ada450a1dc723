"""The engines behind an asynchronous face: blocking generators in threads, the event loop before them.

Each policy has one worker thread, and no other thread touches its engine; requests for one policy wait in
line. An engine is opened by the first request that needs it and closed at shutdown. What it says reaches the
event loop through a bounded call: a slow client slows its engine, and one that has left stops it at its next
token. Nothing stops an engine that hangs: whoever waits for it decides how long (`embedded`), and the process does not
wait for it to end. No HTTP and no JSON here.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from alphamix.ensemble.serve.protocol.api_errors import ApiError, engine_failed, internal, invalid, load_failed
from alphamix.policies.types import Completion, Delta, Engine, EngineFailure, PolicyError, PromptError, Request

CHANNEL_CAPACITY = 256
"""Deltas that may wait for a client."""
PATIENCE_S = 60.0
"""How long an engine waits for a client that has stopped to read, before the client counts as gone."""

CLOSE_S = 10.0
"""How long the server waits at its end for an engine that still works."""

log = logging.getLogger("alphamix.serve")


class Assigned(NamedTuple):
    """One choice that is wanted, and who shall answer it."""

    policy: str
    request: Request


class DeltaStream:
    """The choices of one client request under way: an asynchronous iterator of deltas, indexed by choice.

    It ends when every choice is whole and raises `ApiError` if one cannot be. Whoever holds it must `leave`.
    """

    def __init__(self, choices: int, capacity: int, patience_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[Delta | ApiError] = asyncio.Queue()
        self._room = threading.Semaphore(capacity)
        self._patience_s = patience_s
        self._left = threading.Event()
        self.begun = False
        """Whether an engine has turned to it; until then it waits in line."""
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
        """Tell the engines that nobody listens any more. Safe to call twice, and when all is done."""
        self._left.set()
        self._room.release()

    @property
    def left(self) -> bool:
        """Whether nobody listens any more."""
        return self._left.is_set()

    def put(self, delta: Delta) -> bool:
        """Hand over a delta, from a worker thread; False means that nobody wants more."""
        if not self._room.acquire(timeout=self._patience_s):
            self.fail(ApiError(503, "the client stopped reading", kind="server_error", code="client_stalled"))
            self._left.set()
        if self._left.is_set():
            self._room.release()  # wakes the next worker of the same call, if one waits for room
            return False
        self._post(delta)
        return True

    def fail(self, error: ApiError) -> None:
        """End the call with an error, from a worker thread."""
        self._post(error)

    def _post(self, item: Delta | ApiError) -> None:
        try:
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, item)
        except RuntimeError:  # the loop has closed: there is no client left to tell
            self._left.set()


class EngineThread:
    """One policy's engine in its own thread. All methods that start with `_` run in that thread."""

    def __init__(self, policy: str, open_engine: Callable[[], Engine]) -> None:
        self.policy = policy
        self.last_sign_s = time.monotonic()
        """When the engine was last seen to work."""
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._line: queue.SimpleQueue[tuple[Mapping[int, Request], DeltaStream] | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name=f"policy-{policy}", daemon=True)

    def start(self, requests: Mapping[int, Request], call: DeltaStream) -> None:
        """Begin to answer the requests (by choice index) into the call, after those already in line."""
        if self._worker.ident is None:
            self._worker.start()
        self._line.put((requests, call))

    async def close(self, patience_s: float) -> None:
        """Close the engine when what is under way has ended; leave it as it is where that takes too long."""
        self._line.put(None)
        if self._worker.ident is not None:
            await asyncio.to_thread(self._worker.join, patience_s)
            if self._worker.is_alive():
                log.error("the engine of policy %r hangs: it is not closed", self.policy)

    def _work(self) -> None:
        while (item := self._line.get()) is not None:
            self._answer(*item)
        if self._engine is not None:
            self._engine.close()

    def _answer(self, requests: Mapping[int, Request], call: DeltaStream) -> None:
        self.last_sign_s = time.monotonic()
        try:
            if not call.left:
                call.begun = True
                self._stream(requests, call)
        except ApiError as error:
            call.fail(error)
        except PromptError as error:
            call.fail(invalid(str(error)))
        except PolicyError as error:  # its server is gone, or cannot be switched: the words name addresses
            call.fail(self._failed(EngineFailure("server", str(error))))
        except BaseException:  # even one that means to end this thread: there is no other
            log.exception("the engine of policy %r broke", self.policy)
            call.fail(internal())

    def _stream(self, requests: Mapping[int, Request], call: DeltaStream) -> None:
        choices = list(requests)
        unfinished = set(choices)
        deltas = self._opened().stream(list(requests.values()))
        try:
            for delta in deltas:
                self.last_sign_s = time.monotonic()
                choice = choices[delta.index]
                if isinstance(delta.outcome, EngineFailure):
                    raise self._failed(delta.outcome)
                if delta.outcome is not None:
                    unfinished.discard(choice)
                if not call.put(replace(delta, index=choice)):
                    return
        finally:
            if isinstance(deltas, Generator):
                deltas.close()
        if unfinished:
            message = f"the engine ended with no outcome for choices {sorted(unfinished)}"
            raise self._failed(EngineFailure("malformed", message))

    def _opened(self) -> Engine:
        if self._engine is None:
            try:
                self._engine = self._open_engine()
            except (PolicyError, OSError) as error:
                log.error("the policy %r could not be loaded: %s", self.policy, error)
                raise load_failed(self.policy) from error
        return self._engine

    def _failed(self, failure: EngineFailure) -> ApiError:
        log.error("the policy %r failed (%s): %s", self.policy, failure.cause, failure.message)
        return engine_failed(self.policy, failure)


class EngineThreads:
    """All policies that are served, by name."""

    def __init__(
        self,
        policies: Sequence[str],
        open_engine: Callable[[str], Engine],
        *,
        capacity: int = CHANNEL_CAPACITY,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._open_engine = open_engine
        self._opening = threading.Lock()
        self._upstreams = {policy: EngineThread(policy, partial(self._open, policy)) for policy in policies}
        self._capacity = capacity
        self._patience_s = patience_s

    def start(self, choices: Sequence[Assigned]) -> DeltaStream:
        """Begin to answer; `choices[i]` becomes the deltas with index i."""
        call = DeltaStream(len(choices), self._capacity, self._patience_s)
        by_policy: dict[str, dict[int, Request]] = {}
        for index, (policy, request) in enumerate(choices):
            by_policy.setdefault(policy, {})[index] = request
        for policy, requests in by_policy.items():
            self._upstreams[policy].start(requests, call)
        return call

    def _open(self, policy: str) -> Engine:
        # One at a time: policies may rest on each other's files, and loaders change settings of the process.
        with self._opening:
            return self._open_engine(policy)

    def is_silent(self, policy: str, for_s: float) -> bool:
        """Say whether an engine has not been seen to work for some time."""
        return time.monotonic() - self._upstreams[policy].last_sign_s >= for_s

    async def close(self) -> None:
        """Close every engine that was opened, but those that hang."""
        await asyncio.gather(*(upstream.close(CLOSE_S) for upstream in self._upstreams.values()))


async def collect(deltas: AsyncIterator[Delta], choices: int) -> list[Completion]:
    """Wait until every choice is whole.

    Raises:
        ApiError: an engine failed, broke or could not be opened.
    """
    whole: dict[int, Completion] = {}
    async for delta in deltas:
        if isinstance(delta.outcome, Completion):
            whole[delta.index] = delta.outcome
    return [whole[index] for index in range(choices)]
