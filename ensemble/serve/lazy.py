"""Something that is made when it is first needed, for all who wait for it, and that takes its time.

Who leaves does not stop it: it would be made again beside what is being made already, be it a server or a judge.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LazyValue(Generic[T]):
    """Makes one thing; after a failure, whoever asks next has it tried again. Belongs to one event loop."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """Give it, made if need be; raises what making it does."""
        if self._making is None or (self._making.done() and self.value is None):
            self._making = asyncio.create_task(self._make())
        return await asyncio.shield(self._making)

    @property
    def value(self) -> T | None:
        """It, if it is there."""
        task = self._making
        is_made = task is not None and task.done() and not task.cancelled() and task.exception() is None
        return task.result() if is_made and task is not None else None

    async def take(self) -> T | None:
        """Wait until nothing is being made; give what there is, and know it no more."""
        task = self._making
        if task is not None and not task.done():
            await asyncio.wait({task})
        if task is not self._making:  # another has taken it
            return None
        taken, self._making = self.value, None
        return taken
