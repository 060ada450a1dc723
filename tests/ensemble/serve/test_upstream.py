import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from alphamix.ensemble.serve.backends.engine_threads import Assigned, EngineThreads, collect
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.policies.types import Delta, Engine, EngineFailure, PolicyError, PromptError, Request, SamplingParameters

T = TypeVar("T")
WAIT_S = 60


def asked(*policies: str) -> list[Assigned]:
    return [Assigned(policy, Request("p", index, SamplingParameters())) for index, policy in enumerate(policies)]


def run(engines: dict[str, Engine], use: Callable[[EngineThreads], Awaitable[T]], **options: Any) -> T:
    async def main() -> T:
        upstreams = EngineThreads(list(engines), engines.__getitem__, **options)
        try:
            return await use(upstreams)
        finally:
            await upstreams.close()

    return asyncio.run(main())


async def texts(upstreams: EngineThreads, *policies: str) -> list[str]:
    call = upstreams.start(asked(*policies))
    return [completion.text for completion in await collect(call, len(policies))]


def test_choices_of_several_policies_come_back_under_their_own_index(script_engine: Any) -> None:
    engines = {
        "low": script_engine(lambda request: ["low ", str(request.seed)]),
        "high": script_engine(lambda request: ["high ", str(request.seed)]),
    }
    got = run(engines, lambda upstreams: texts(upstreams, "high", "low", "low", "high"))
    assert got == ["high 0", "low 1", "low 2", "high 3"]
    assert [len(engine.calls) for engine in engines.values()] == [1, 1]


def test_each_engine_is_touched_by_one_thread_only_and_closed_there(script_engine: Any) -> None:
    engines = {"low": script_engine(lambda _: ["a"]), "high": script_engine(lambda _: ["b"])}

    async def many(upstreams: EngineThreads) -> None:
        await asyncio.gather(*(texts(upstreams, "low", "high") for _ in range(20)))

    run(engines, many)
    threads = [engine.threads for engine in engines.values()]
    assert [len(t) for t in threads] == [1, 1]
    assert threads[0] != threads[1]
    assert [engine.closed for engine in engines.values()] == [1, 1]


def test_an_engine_that_nobody_asked_is_never_opened(script_engine: Any) -> None:
    engines = {"low": script_engine(lambda _: ["a"]), "high": script_engine(lambda _: ["b"])}
    run(engines, lambda upstreams: texts(upstreams, "low"))
    assert engines["high"].closed == 0


def test_a_client_that_leaves_stops_the_engine(endless_engine: Any) -> None:
    engine = endless_engine()

    async def leave(upstreams: EngineThreads) -> None:
        call = upstreams.start(asked("low"))
        await anext(call)
        call.leave()
        assert await asyncio.to_thread(engine.stopped.wait, WAIT_S)

    run({"low": engine}, leave)


def test_a_client_that_left_while_waiting_in_line_costs_nothing(endless_engine: Any, script_engine: Any) -> None:
    engine = endless_engine()

    async def leave(upstreams: EngineThreads) -> None:
        first, second = upstreams.start(asked("low")), upstreams.start(asked("low"))
        await anext(first)
        second.leave()
        first.leave()

    run({"low": engine}, leave)
    assert len(engine.calls) == 1


def test_a_slow_client_holds_its_engine_back(endless_engine: Any) -> None:
    engine = endless_engine()

    async def read_ten(upstreams: EngineThreads) -> None:
        call = upstreams.start(asked("low"))
        for _ in range(10):
            await anext(call)
        call.leave()

    run({"low": engine}, read_ten, capacity=4)
    assert 10 <= engine.made <= 10 + 4 + 2  # read, waiting, and one or two in the engine's hands


def test_a_client_that_stops_reading_does_not_keep_the_engine_for_ever(endless_engine: Any) -> None:
    engine = endless_engine()

    async def stall(upstreams: EngineThreads) -> ApiError:
        call = upstreams.start(asked("low"))
        assert await asyncio.to_thread(engine.stopped.wait, WAIT_S)
        with pytest.raises(ApiError) as raised:
            async for _ in call:
                pass
        return raised.value

    assert run({"low": engine}, stall, capacity=2, patience_s=0.01).code == "client_stalled"


@pytest.mark.parametrize(
    ("cause", "status"),
    [
        ("connection", 503),
        ("timeout", 503),
        ("rate_limit", 503),
        ("server", 502),
        ("malformed", 502),
        ("rejected", 400),
    ],
)
def test_a_failure_of_the_engine_is_an_error_without_its_words(cause: str, status: int, script_engine: Any) -> None:
    engine = script_engine(lambda _: EngineFailure(cause, "http://secret:1234 said no"))
    with pytest.raises(ApiError) as raised:
        run({"low": engine}, lambda upstreams: texts(upstreams, "low"))
    assert (raised.value.status, raised.value.code) == (status, cause)
    assert "secret" not in raised.value.message


def test_an_engine_that_breaks_is_a_fault_of_ours_and_the_next_request_is_served(script_engine: Any) -> None:
    def script(request: Request) -> Sequence[str]:
        if engine.calls[1:]:
            return ["well again"]
        raise ZeroDivisionError

    engine = script_engine(script)

    async def twice(upstreams: EngineThreads) -> list[str]:
        with pytest.raises(ApiError) as raised:
            await texts(upstreams, "low")
        assert raised.value.status == 500
        return await texts(upstreams, "low")

    assert run({"low": engine}, twice) == ["well again"]


def test_an_engine_that_ends_without_an_outcome_has_failed(script_engine: Any) -> None:
    class Silent(script_engine):
        def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
            yield Delta(0, "half an ans")

    with pytest.raises(ApiError) as raised:
        run({"low": Silent(lambda _: [])}, lambda upstreams: texts(upstreams, "low"))
    assert (raised.value.status, raised.value.code) == (502, "malformed")


def test_a_request_that_the_policy_cannot_take_is_the_clients_to_change(script_engine: Any) -> None:
    def script(_: Request) -> Sequence[str]:
        raise PromptError("no chat template: ask with plain text")

    with pytest.raises(ApiError, match="ask with plain text") as raised:
        run({"low": script_engine(script)}, lambda upstreams: texts(upstreams, "low"))
    assert raised.value.status == 400


def test_a_server_that_cannot_be_switched_is_no_fault_of_the_request(script_engine: Any) -> None:
    def script(_: Request) -> Sequence[str]:
        raise PolicyError("the vLLM server at http://127.0.0.1:1 is gone: see its log /secret.")

    with pytest.raises(ApiError) as raised:
        run({"low": script_engine(script)}, lambda upstreams: texts(upstreams, "low"))
    assert (raised.value.status, raised.value.code, raised.value.is_retryable) == (502, "server", True)
    assert "127.0.0.1" not in raised.value.message


def test_a_policy_that_cannot_be_opened_is_tried_again_by_the_next_request(script_engine: Any) -> None:
    engine, tries = script_engine(lambda _: ["here"]), []

    def open_engine(name: str) -> Engine:
        tries.append(name)
        if len(tries) == 1:
            raise PolicyError("the folder is not there yet")
        return engine

    async def main() -> list[str]:
        upstreams = EngineThreads(["low"], open_engine)
        with pytest.raises(ApiError) as raised:
            await texts(upstreams, "low")
        assert (raised.value.status, raised.value.code) == (503, "policy_unavailable")
        try:
            return await texts(upstreams, "low")
        finally:
            await upstreams.close()

    assert asyncio.run(main()) == ["here"]


def test_one_failed_policy_stops_the_others_of_the_same_call(endless_engine: Any, script_engine: Any) -> None:
    endless = endless_engine()
    engines = {"low": endless, "high": script_engine(lambda _: EngineFailure("server", "down"))}

    async def fail(upstreams: EngineThreads) -> None:
        call = upstreams.start(asked("low", "high"))
        try:
            with pytest.raises(ApiError):
                await collect(call, 2)
        finally:
            call.leave()
        assert await asyncio.to_thread(endless.stopped.wait, WAIT_S)

    run(engines, fail)
