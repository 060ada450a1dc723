"""A session that answers its requests in batches. This module knows no model and no tensor."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import Delta, Request

DecodeBatch = Callable[[Submissions], Iterator[list[Delta]]]
"""Function that takes waiting requests, at least one, answers them as one batch, and yields the deltas of each step. It
may take more as rows become free."""


class BatchSession:
    """Session that decodes one batch after another, in the thread that receives.

    Which requests share a batch depends only on what was submitted between which calls of `receive`, so the batches of
    requests that are submitted together, while no other is open, depend only on these requests.
    """

    def __init__(self, decode: DecodeBatch) -> None:
        self._decode = decode
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
                self._arrived += deltas
            elif self._waiting.peek() is None:
                return None
            else:
                self._steps = self._decode(self._waiting)
        return self._arrived.popleft()

    def wake(self) -> None:
        """Let `receive` return None after the current step, if nothing has arrived by then."""
        self._woken.set()

    def close(self) -> None:
        """Forget the requests that have no outcome."""
        self._waiting, self._steps = Submissions(), iter(())
        self._arrived.clear()
