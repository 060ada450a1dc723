"""Requests of a session that wait to be sent, numbered in the order in which they were submitted."""

from collections import deque
from collections.abc import Sequence

from alphamix.policies.types import Request


class Submissions:
    """Queue of requests. One thread may add to it while another takes from it.

    The sequences are kept as they were given, and each request is read when it is first looked at.
    """

    def __init__(self) -> None:
        self.count = 0
        """Number of requests that were ever added."""
        self._sequences: deque[tuple[int, Sequence[Request]]] = deque()
        """Sequences, with the index of the first request of each."""
        self._position = 0
        """Position of the next request in the first sequence."""
        self._next: tuple[int, Request] | None = None

    def add(self, requests: Sequence[Request]) -> int:
        """Add requests, and return the index of the first."""
        first = self.count
        self.count += len(requests)
        if requests:
            self._sequences.append((first, requests))
        return first

    def peek(self) -> tuple[int, Request] | None:
        """Return the next request and its index, and leave it in the queue; None if the queue is empty."""
        if self._next is None and self._sequences:
            first, requests = self._sequences[0]
            self._next = first + self._position, requests[self._position]
        return self._next

    def pop(self) -> tuple[int, Request] | None:
        """Take the next request, and return it with its index; None if the queue is empty."""
        if (taken := self.peek()) is not None:
            self._next = None
            self._position += 1
            if self._position == len(self._sequences[0][1]):
                self._sequences.popleft()
                self._position = 0
        return taken

    def take(self, most: int) -> tuple[int, list[Request]]:
        """Take at most `most` requests; return the index of the first, and the requests."""
        first, requests = self.count, list[Request]()
        while len(requests) < most and (taken := self.pop()) is not None:
            first = min(first, taken[0])
            requests.append(taken[1])
        return first, requests
