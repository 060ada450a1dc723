"""Threads that each work through an iterator and put its items into one queue.

They know nothing of the items. The consumer reports each item that it has taken, and a thread that is far ahead waits.
"""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_SECONDS_TO_STOP = 3.0

_running = set[threading.Thread]()


def are_left_behind() -> bool:
    """Return whether a thread still runs that did not stop in time.

    It may be inside a library such as torch, where an interpreter that ends in the ordinary way would abort.
    """
    return any(thread.is_alive() for thread in _running)


@dataclass(frozen=True, slots=True)
class ProducerEnded:
    """The last item of a thread; `error` is the exception that ended it early, if any."""

    error: BaseException | None


class ProducerThreads(Generic[T]):
    """Threads that put their items, and finally a `ProducerEnded`, into a queue.

    Args:
        put: takes an item without waiting, from any thread.
        ahead: maximum number of items, over all threads, that were put and not yet taken.
    """

    def __init__(self, put: Callable[[T | ProducerEnded], None], ahead: int) -> None:
        self._put = put
        self._ahead = threading.Semaphore(ahead)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop each thread at its next item; a thread that is stuck before it is left behind (it is a daemon)."""
        self._stopped.set()
        deadline = time.monotonic() + _SECONDS_TO_STOP
        self._ahead.release(len(self._threads) or 1)
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        _running.difference_update(thread for thread in self._threads if not thread.is_alive())

    def start(self, items: Generator[T]) -> None:
        """Work through a generator in a new thread, and close it there."""
        thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._threads.append(thread)
        _running.add(thread)
        thread.start()

    def taken(self) -> None:
        """Report that an item was taken."""
        self._ahead.release()

    def _run(self, items: Generator[T]) -> None:
        error = None
        try:
            with closing(items):
                for item in items:
                    self._ahead.acquire()
                    if self._stopped.is_set():
                        break
                    self._put(item)
        except BaseException as caught:  # the consumer raises it again
            error = caught
        self._put(ProducerEnded(error))
