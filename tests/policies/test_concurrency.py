"""The level of concurrency against simulated servers: where it settles, and how it takes refusals."""

import heapq

import pytest

from alphamix.policies.engines.openai.concurrency import FIRST_LEVEL, Level


def simulate(level: Level, capacity: int, answers: int, *, refuses_above: int | None = None) -> list[int]:
    """Keep a server busy that answers `capacity` requests at a time, each in 1 s; return the level after each answer.

    What is beyond its capacity waits there, or is refused where `refuses_above` is in flight.
    """
    now, levels = 0.0, list[int]()
    under_way: list[tuple[float, float]] = []  # when it is answered, when it was sent
    free = [0.0] * capacity
    while len(levels) < answers:
        while len(under_way) < level.limit:
            if refuses_above is not None and len(under_way) >= refuses_above:
                level.refused(now, now)
                break
            begins = max(now, heapq.heappop(free))
            heapq.heappush(free, begins + 1.0)
            heapq.heappush(under_way, (begins + 1.0, now))
        in_flight = len(under_way)
        now, _ = heapq.heappop(under_way)
        level.finished(1, in_flight, now)
        levels.append(level.limit)
    return levels


@pytest.mark.parametrize("capacity", [40, 100, 300, 1000])
def test_it_finds_a_level_that_keeps_the_server_busy_and_no_long_queue(capacity: int) -> None:
    levels = simulate(Level(4096), capacity, answers=60 * capacity)
    settled = levels[len(levels) // 2 :]
    assert min(settled) >= 0.95 * capacity
    assert sum(settled) / len(settled) <= 2.6 * capacity


def test_it_never_exceeds_what_is_allowed() -> None:
    assert max(simulate(Level(100), 10_000, answers=20_000)) == 100
    assert set(simulate(Level(1), 10, answers=100)) == {1}


def test_it_settles_below_what_is_refused() -> None:
    levels = simulate(Level(4096), 10_000, answers=20_000, refuses_above=100)
    settled = levels[len(levels) // 2 :]
    assert max(settled) <= 130
    assert sum(settled) / len(settled) >= 65


def test_refusals_of_one_burst_cut_it_once() -> None:
    level = Level(1000)
    for _ in range(30):
        level.refused(sent=1.0, now=2.0)
    assert level.limit == int(FIRST_LEVEL * 0.7)
    level.refused(sent=2.5, now=3.0)
    assert level.limit < int(FIRST_LEVEL * 0.7)


def test_it_falls_to_one_at_worst() -> None:
    level = Level(1000)
    for second in range(100):
        level.refused(sent=second, now=second)
    assert level.limit == 1


def test_a_queue_that_the_server_tells_is_believed() -> None:
    level = Level(1000)
    for _ in range(12):
        level.queued(waiting=max(0, level.limit - 256), in_flight=level.limit)
    assert 256 <= level.limit <= 300
    before = level.limit
    level.queued(waiting=0, in_flight=3)  # nothing waits, but nothing was asked either
    assert level.limit == before
