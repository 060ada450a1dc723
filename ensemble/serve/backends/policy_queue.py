"""Fair queue for a server that holds one policy at a time: requests for the same policy run together.

Switching the server to another policy is costly, so requests for the current policy go ahead of others. Once a request
for another policy has waited longer than the patience, no more go ahead: when those under way have ended, that policy's
turn comes, for all requests that wait for it. So switches are few and no request waits forever.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from alphamix.ensemble.serve.protocol.api_errors import queue_timeout


class PolicyQueue:
    """Queue of one server. A request waits for at most `limit_s`. Belongs to one event loop."""

    def __init__(self, patience_s: float, limit_s: float, now: Callable[[], float]) -> None:
        self._patience_s = patience_s
        self._limit_s = limit_s
        self._now = now
        self._holder: str | None = None
        self._num_inside = 0
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}
        """Waiting requests by policy, the oldest first."""
        self._since: dict[str, float] = {}
        """Time at which the oldest waiting request of each policy came."""
        self.changes = 0
        """Number of switches between policies."""

    @asynccontextmanager
    async def turn(self, policy: str) -> AsyncGenerator[None]:
        """Wait for the turn of a policy and hold it, together with other requests for the same policy.

        Raises:
            ApiError: 429, other policies hold the server for too long.
        """
        if self._may_join(policy):
            self._enter(policy)
        else:
            try:
                async with asyncio.timeout(self._limit_s):
                    await self._wait(policy)
            except TimeoutError:
                raise queue_timeout(policy, self._limit_s) from None
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
                self._leave()  # it was admitted and cancelled at once: pass the turn on
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
                if not admitted.done():  # a cancelled request may not have noticed yet
                    self._enter(policy)
                    admitted.set_result(None)
