"""A value that takes time to create: it is created when it is first needed, once for all who wait for it.

Cancelling a waiter does not stop the creation; otherwise the next waiter would start a second server or judge beside
the first.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LazyValue(Generic[T]):
    """A lazily created value. After a failure the next `get` tries again. Belongs to one event loop."""

    def __init__(self, create: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._create = create
        self._creation: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Return the value, and create it if necessary; raise what its creation raises."""
        if self._creation is None or (self._creation.done() and self.value is None):
            self._creation = asyncio.create_task(self._create())
        return await asyncio.shield(self._creation)

    @property
    def value(self) -> T | None:
        """The value, or None if it has not been created yet."""
        task = self._creation
        is_created = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return task.result() if is_created and task is not None else None

    async def take(self) -> T | None:
        """Wait until a creation that is under way has ended, then return the value, if any, and forget it."""
        task = self._creation
        if task is not None and not task.done():
            await asyncio.wait({task})
        if task is not self._creation:  # another caller has taken it
            return None
        taken, self._creation = self.value, None
        return taken
