"""Work that runs side by side: each lane is a thread that works through an iterator, all lanes fill one queue.

Knows nothing of what the work is. Whoever takes from the queue says so, and a lane that is far ahead waits.
"""

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_SECONDS_TO_STOP = 1.0


@dataclass(frozen=True, slots=True)
class ProducerEnded:
    """The last thing that a lane puts; `error` is what ended it before its time."""

    error: BaseException | None


class ProducerThreads(Generic[T]):
    """Lanes that put their items, and at last a `ProducerEnded`, where they are told.

    Args:
        put: takes the items, from any thread, at once.
        ahead: items that may be put and not yet be taken, over all lanes.
    """

    def __init__(self, put: Callable[[T | ProducerEnded], None], ahead: int) -> None:
        self._put = put
        self._ahead = threading.Semaphore(ahead)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all lanes at their next item; one that waits long for its next is left behind."""
        self._stopped.set()
        for thread in self._threads:
            self._ahead.release()
            thread.join(_SECONDS_TO_STOP)

    def start(self, items: Generator[T]) -> None:
        """Begin to work through items in a new thread, and close their generator there."""
        thread = threading.Thread(target=self._run, args=(items,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def taken(self) -> None:
        """Say that an item was taken."""
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
        except BaseException as caught:  # raised again by whoever takes the items
            error = caught
        self._put(ProducerEnded(error))
