"""Turns: never two policies at once, few switches, and no request waits forever."""

import asyncio
import random
import selectors
from contextlib import suppress
from typing import Any

import pytest

from alphamix.ensemble.serve.backends.policy_queue import PolicyQueue


class LoopOfVirtualTime(asyncio.SelectorEventLoop):
    """Moves its clock on instead of waiting, so that what a test sees does not depend on the machine."""

    def __init__(self) -> None:
        self.now = 0.0
        super().__init__(self._Selector(self))

    def time(self) -> float:
        return self.now

    class _Selector(selectors.SelectSelector):
        def __init__(self, loop: "LoopOfVirtualTime") -> None:
            super().__init__()
            self._loop = loop

        def select(self, timeout: float | None = None) -> Any:
            self._loop.now += timeout or 0.0
            return super().select(None if timeout is None else 0)


class Clock:
    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Scene:
    """Requests that stay inside until they are told to go; `inside` is in the order of their entries."""

    def __init__(self, turns: PolicyQueue) -> None:
        self._turns = turns
        self._go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.entered: list[str] = []
        self.inside: set[str] = set()

    async def come(self, *names: str) -> None:
        """Of policies that are their first letters."""
        for name in names:
            self._go[name] = asyncio.Event()
            self.tasks[name] = asyncio.create_task(self._stay(name))
        await settle()

    async def go(self, *names: str) -> None:
        for name in names:
            self._go[name].set()
        await settle()

    async def _stay(self, name: str) -> None:
        async with self._turns.turn(name[0]):
            self.entered.append(name)
            self.inside.add(name)
            assert len({other[0] for other in self.inside}) == 1
            try:
                await self._go[name].wait()
            finally:
                self.inside.discard(name)


def test_those_of_the_holder_join_it_and_the_others_come_together() -> None:
    async def run() -> None:
        turns = PolicyQueue(10.0, 60.0, Clock())
        scene = Scene(turns)
        await scene.come("a1", "b1", "a2", "b2", "a3")
        assert scene.inside == {"a1", "a2", "a3"}
        await scene.go("a1", "a2", "a3")
        assert scene.inside == {"b1", "b2"}
        await scene.go("b1", "b2")
        assert turns.changes == 2

    asyncio.run(run())


def test_no_request_joins_once_another_has_waited_too_long() -> None:
    async def run() -> None:
        clock = Clock()
        scene = Scene(PolicyQueue(10.0, 60.0, clock))
        await scene.come("a1", "b1", "c1")
        clock.s = 10.5
        await scene.come("a2", "c2")
        assert scene.inside == {"a1"}
        await scene.go("a1")
        assert scene.inside == {"b1"}
        await scene.go("b1")
        assert scene.inside == {"c1", "c2"}
        await scene.go("c1", "c2")
        assert scene.inside == {"a2"}
        await scene.go("a2")

    asyncio.run(run())


@pytest.mark.parametrize("leaver", ["a1", "b1", "b2"])
def test_a_cancelled_request_does_not_hold_up_others(leaver: str) -> None:
    async def run() -> None:
        scene = Scene(PolicyQueue(10.0, 60.0, Clock()))
        await scene.come("a1", "b1", "b2", "c1")
        scene.tasks[leaver].cancel()
        await settle()
        rest = [name for name in ("a1", "b1", "b2", "c1") if name != leaver]
        for name in rest:
            await scene.go(name)
        await asyncio.gather(*(scene.tasks[name] for name in rest))
        assert sorted(scene.entered) == sorted({*rest, *scene.entered})

    asyncio.run(run())


def test_a_turn_that_comes_as_one_leaves_goes_on() -> None:
    async def run() -> None:
        turns = PolicyQueue(10.0, 60.0, Clock())
        scene = Scene(turns)
        await scene.come("a1", "b1", "c1")
        scene._go["a1"].set()
        await asyncio.sleep(0)  # a1 leaves, and b1 is admitted but has not run yet
        scene.tasks["b1"].cancel()
        await settle()
        assert scene.inside == {"c1"}
        await scene.go("c1")

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
def test_any_coming_and_going(seed: int) -> None:
    """Never two policies inside, all that stay get in, and changes are far fewer than requests."""
    rng = random.Random(seed)

    async def run() -> None:
        turns = PolicyQueue(0.05, 60.0, asyncio.get_running_loop().time)
        inside: list[str] = []
        done = 0

        async def request(policy: str) -> None:
            nonlocal done
            async with turns.turn(policy):
                inside.append(policy)
                try:
                    assert len(set(inside)) == 1
                    await asyncio.sleep(rng.random() * 0.003)
                finally:
                    inside.remove(policy)
            done += 1

        tasks: list[asyncio.Task[None]] = []
        for _ in range(400):
            tasks.append(asyncio.create_task(request(rng.choice("abcd"))))
            if rng.random() < 0.1:
                rng.choice(tasks).cancel()
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.002)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, 60)
        assert not inside
        assert done >= 300
        assert turns.changes < done / 3

    with asyncio.Runner(loop_factory=LoopOfVirtualTime) as runner:
        runner.run(run())


def test_changes_are_few_where_every_request_wants_another() -> None:
    """Closed loop of 16 clients over 4 policies: without batching nearly every request would change."""

    async def run() -> int:
        turns = PolicyQueue(0.5, 60.0, asyncio.get_running_loop().time)

        async def client(number: int) -> None:
            rng = random.Random(number)
            for _ in range(20):
                async with turns.turn(rng.choice("abcd")):
                    await asyncio.sleep(0.001)

        await asyncio.gather(*(client(number) for number in range(16)))
        return turns.changes

    assert asyncio.run(run()) < 320 / 2
