"""A lazily created value: it is created once for all waiters, and again after a failure."""

import asyncio

import pytest

from alphamix.ensemble.serve.lazy import LazyValue


def test_it_is_created_once_even_if_the_first_waiter_leaves() -> None:
    made: list[int] = []

    async def make() -> int:
        made.append(len(made))
        await asyncio.sleep(0.01)
        return made[-1]

    async def run() -> None:
        once = LazyValue(make)
        first = asyncio.create_task(once.get())
        await asyncio.sleep(0)
        first.cancel()
        assert once.value is None
        assert await asyncio.gather(once.get(), once.get()) == [0, 0]
        assert (once.value, made) == (0, [0])
        assert await once.take() == 0
        assert (await once.take(), await once.get()) == (None, 1)

    asyncio.run(run())


def test_taking_the_value_waits_for_its_creation() -> None:
    async def make() -> str:
        await asyncio.sleep(0.01)
        return "made"

    async def run() -> None:
        once = LazyValue(make)
        asking = asyncio.create_task(once.get())
        await asyncio.sleep(0)
        asking.cancel()
        assert await once.take() == "made"

    asyncio.run(run())


def test_after_a_failure_it_is_tried_again() -> None:
    tries: list[str] = []

    async def make() -> str:
        tries.append("try")
        if len(tries) == 1:
            raise OSError("not yet")
        return "made"

    async def run() -> None:
        once = LazyValue(make)
        with pytest.raises(OSError, match="not yet"):
            await once.get()
        assert (once.value, await once.get()) == (None, "made")

    asyncio.run(run())
