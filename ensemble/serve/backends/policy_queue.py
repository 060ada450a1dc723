"""Whose turn it is where one server serves many policies, one at a time: requests of one policy go together.

Changing from one to another costs, so requests for whoever has its turn join it, ahead of others. Once another has
waited for longer than the patience, no more join: its turn comes when those under way have ended, and takes all that
wait for the same policy along. So changes are few, and none waits for ever. Belongs to one event loop.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager


class PolicyQueue:
    """Of one server."""

    def __init__(self, patience_s: float, now: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._now = now
        self._holder: str | None = None
        self._num_inside = 0
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        """By policy, the one that has waited longest first."""
        self._since: dict[str, float] = {}
        """When the first of each that wait came."""
        self.changes = 0

    @asynccontextmanager
    async def of(self, policy: str) -> AsyncGenerator[None]:
        """Hold the turn of a policy, together with others of the same."""
        if self._may_join(policy):
            self._enter(policy)
        else:
            await self._wait(policy)
        try:
            yield
        finally:
            self._leave()

    def _may_join(self, policy: str) -> bool:
        if not self._num_inside:
            return True
        is_overdue = self._since and self._now() - min(self._since.values()) > self._patience_s
        return policy == self._holder and not is_overdue

    def _enter(self, policy: str) -> None:
        self.changes += policy != self._holder
        self._holder = policy
        self._num_inside += 1

    async def _wait(self, policy: str) -> None:
        self._since.setdefault(policy, self._now())
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(policy, []).append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self._leave()  # its turn came at the moment that it left
            else:
                self._give_up(policy, admitted)
            raise

    def _give_up(self, policy: str, admitted: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(policy, [])
        if admitted in waiting:
            waiting.remove(admitted)
        if not waiting and policy in self._waiting:
            del self._waiting[policy], self._since[policy]

    def _leave(self) -> None:
        self._num_inside -= 1
        while self._waiting and not self._num_inside:
            policy = min(self._since, key=self._since.__getitem__)
            del self._since[policy]
            for admitted in self._waiting.pop(policy):
                if not admitted.done():  # it was cancelled, and does not know yet
                    self._enter(policy)
                    admitted.set_result(None)
