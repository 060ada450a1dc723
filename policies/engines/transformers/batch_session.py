"""A session that answers its requests in batches. This module knows no model and no tensor."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import Delta, Request

DecodeBatch = Callable[[Sequence[Request], int], Iterator[list[Delta]]]
"""Function that answers requests as one batch, the first of which has the index that is given, and yields the deltas of
each step."""


class BatchSession:
    """Session that decodes one batch after another, in the thread that receives.

    A batch takes the requests that wait when it begins, in order and at most `batch_size`; those that are submitted
    later wait for the next. So the batches of requests that are submitted together depend only on these requests.
    """

    def __init__(self, batch_size: int, decode: DecodeBatch, *, stream: bool) -> None:
        self._batch_size = batch_size
        self._decode = decode
        self._stream = stream
        self._waiting = Submissions()
        self._steps: Iterator[list[Delta]] = iter(())
        """Steps of the batch that is being decoded."""
        self._arrived: deque[Delta] = deque()
        self._woken = threading.Event()

    def submit(self, requests: Sequence[Request]) -> int:
        """Add requests, and return the index of the first."""
        return self._waiting.add(requests)

    def receive(self) -> Delta | None:
        """Decode until there is a delta, and return it; return None if no request is left, or once `wake` was called.

        Raises:
            PolicyError: a prompt does not fit the policy, or the engine was closed.
        """
        while not self._arrived:
            if self._woken.is_set():
                self._woken.clear()
                return None
            if (deltas := next(self._steps, None)) is not None:
                self._arrived += deltas if self._stream else [delta for delta in deltas if delta.outcome is not None]
                continue
            first, requests = self._waiting.take(self._batch_size)
            if not requests:
                return None
            self._steps = self._decode(requests, first)
        return self._arrived.popleft()

    def wake(self) -> None:
        """Let `receive` return None after the current step, if nothing has arrived by then."""
        self._woken.set()

    def close(self) -> None:
        """Forget the requests that have no outcome."""
        self._waiting, self._steps = Submissions(), iter(())
        self._arrived.clear()
