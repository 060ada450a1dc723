from hypothesis import given, settings
from hypothesis import strategies as st

from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions, CircuitBreaker

OPTIONS = BreakerOptions(failures=3, first_pause_s=2, longest_pause_s=5)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def opened() -> tuple[CircuitBreaker, Clock]:
    clock = Clock()
    breaker = CircuitBreaker(OPTIONS, clock)
    for _ in range(3):
        assert breaker.enter()
        breaker.fail()
    return breaker, clock


def test_it_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(OPTIONS, Clock())
    for _ in range(10):
        breaker.enter()
        breaker.fail()
        breaker.enter()
        breaker.fail()
        breaker.enter()
        breaker.succeed()
    assert breaker.state == "closed"
    assert opened()[0].state == "open"


def test_one_tries_again_after_the_pause_and_closes_it() -> None:
    breaker, clock = opened()
    assert not breaker.enter()
    assert breaker.retry_after_s == 2
    clock.now_s = 2
    assert breaker.state == "half-open"
    assert breaker.enter()
    assert not breaker.enter()
    breaker.succeed()
    assert (breaker.state, breaker.retry_after_s) == ("closed", 0)


def test_each_failed_try_doubles_the_pause_up_to_the_longest() -> None:
    breaker, clock = opened()
    pauses = []
    for _ in range(4):
        clock.now_s += breaker.retry_after_s
        assert breaker.enter()
        breaker.fail()
        pauses.append(breaker.retry_after_s)
    assert pauses == [4, 5, 5, 5]


def test_a_try_that_is_abandoned_leaves_the_next_one_free() -> None:
    breaker, clock = opened()
    clock.now_s = 2
    assert breaker.enter()
    breaker.abandon()
    assert breaker.enter()


@settings(deadline=None)
@given(st.lists(st.sampled_from(["succeed", "fail", "abandon", "wait"]), max_size=60))
def test_it_never_shuts_for_good(history: list[str]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(OPTIONS, clock)
    for step in history:
        if step == "wait":
            clock.now_s += 1
        elif breaker.enter():
            getattr(breaker, step)()
    clock.now_s += OPTIONS.longest_pause_s
    assert breaker.enter()
    breaker.succeed()
    assert breaker.state == "closed"
