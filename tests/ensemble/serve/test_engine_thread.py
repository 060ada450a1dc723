import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeVar

import pytest

from alphamix.ensemble.serve.backends.engine_thread import DeltaStream, EngineThread, collect
from alphamix.ensemble.serve.protocol.api_errors import ApiError
from alphamix.policies.types import Delta, Engine, EngineFailure, PolicyError, PromptError, Request, SamplingParameters

T = TypeVar("T")
WAIT_S = 60


def start(thread: EngineThread, choices: int = 1) -> DeltaStream:
    return thread.start([Request("p", index, SamplingParameters()) for index in range(choices)])


def run(engine: Engine, use: Callable[[EngineThread], Awaitable[T]], **options: Any) -> T:
    async def main() -> T:
        thread = EngineThread("low", lambda: engine, **options)
        try:
            return await use(thread)
        finally:
            await thread.close()

    return asyncio.run(main())


async def texts(thread: EngineThread, choices: int = 1) -> list[str]:
    return [completion.text for completion in await collect(start(thread, choices), choices)]


def test_choices_come_back_under_their_own_index(script_engine: Any) -> None:
    engine = script_engine(lambda request: ["low ", str(request.seed)])
    assert run(engine, lambda thread: texts(thread, 4)) == ["low 0", "low 1", "low 2", "low 3"]
    assert len(engine.calls) == 1


def test_each_engine_is_touched_by_one_thread_only_and_closed_there(script_engine: Any) -> None:
    engines = [script_engine(lambda _: ["a"]), script_engine(lambda _: ["b"])]

    async def many() -> None:
        workers = [EngineThread("", lambda engine=engine: engine) for engine in engines]
        await asyncio.gather(*(texts(worker) for worker in workers for _ in range(20)))
        await asyncio.gather(*(worker.close() for worker in workers))

    asyncio.run(many())
    threads = [engine.threads for engine in engines]
    assert [len(t) for t in threads] == [1, 1]
    assert threads[0] != threads[1]
    assert [engine.closed for engine in engines] == [1, 1]


def test_an_engine_that_is_not_asked_is_never_opened(script_engine: Any) -> None:
    async def nothing(_: EngineThread) -> None:
        pass

    engine = script_engine(lambda _: ["a"])
    run(engine, nothing)
    assert engine.closed == 0


def test_a_client_that_leaves_stops_the_engine(endless_engine: Any) -> None:
    engine = endless_engine()

    async def leave(thread: EngineThread) -> None:
        call = start(thread)
        await anext(call)
        call.leave()
        assert await asyncio.to_thread(engine.stopped.wait, WAIT_S)

    run(engine, leave)


def test_a_client_that_left_while_waiting_in_line_costs_nothing(endless_engine: Any, script_engine: Any) -> None:
    engine = endless_engine()

    async def leave(thread: EngineThread) -> None:
        first, second = start(thread), start(thread)
        await anext(first)
        second.leave()
        first.leave()

    run(engine, leave)
    assert len(engine.calls) == 1


def test_a_slow_client_holds_its_engine_back(endless_engine: Any) -> None:
    engine = endless_engine()

    async def read_ten(thread: EngineThread) -> None:
        call = start(thread)
        for _ in range(10):
            await anext(call)
        call.leave()

    run(engine, read_ten, capacity=4)
    assert 10 <= engine.made <= 10 + 4 + 2  # read, waiting, and one or two in the engine's hands


def test_a_client_that_stops_reading_does_not_hold_the_engine_forever(endless_engine: Any) -> None:
    engine = endless_engine()

    async def stall(thread: EngineThread) -> ApiError:
        call = start(thread)
        assert await asyncio.to_thread(engine.stopped.wait, WAIT_S)
        with pytest.raises(ApiError) as raised:
            async for _ in call:
                pass
        return raised.value

    assert run(engine, stall, capacity=2, patience_s=0.01).code == "client_stalled"


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
        run(engine, texts)
    assert (raised.value.status, raised.value.code) == (status, cause)
    assert "secret" not in raised.value.message


def test_an_engine_that_breaks_is_a_fault_of_ours_and_the_next_request_is_served(script_engine: Any) -> None:
    def script(request: Request) -> Sequence[str]:
        if engine.calls[1:]:
            return ["well again"]
        raise ZeroDivisionError

    engine = script_engine(script)

    async def twice(thread: EngineThread) -> list[str]:
        with pytest.raises(ApiError) as raised:
            await texts(thread)
        assert raised.value.status == 500
        return await texts(thread)

    assert run(engine, twice) == ["well again"]


def test_an_engine_that_ends_without_an_outcome_has_failed(script_engine: Any) -> None:
    class Silent(script_engine):
        def stream(self, requests: Sequence[Request]) -> Iterator[Delta]:
            yield Delta(0, "half an ans")

    with pytest.raises(ApiError) as raised:
        run(Silent(lambda _: []), texts)
    assert (raised.value.status, raised.value.code) == (502, "malformed")


def test_a_request_that_the_policy_cannot_take_is_the_clients_to_change(script_engine: Any) -> None:
    def script(_: Request) -> Sequence[str]:
        raise PromptError("no chat template: ask with plain text")

    with pytest.raises(ApiError, match="ask with plain text") as raised:
        run(script_engine(script), texts)
    assert raised.value.status == 400


def test_a_server_that_cannot_be_switched_is_no_fault_of_the_request(script_engine: Any) -> None:
    def script(_: Request) -> Sequence[str]:
        raise PolicyError("the vLLM server at http://127.0.0.1:1 is gone: see its log /secret.")

    with pytest.raises(ApiError) as raised:
        run(script_engine(script), texts)
    assert (raised.value.status, raised.value.code, raised.value.is_retryable) == (502, "server", True)
    assert "127.0.0.1" not in raised.value.message


def test_a_policy_that_cannot_be_opened_is_tried_again_by_the_next_request(script_engine: Any) -> None:
    engine, tries = script_engine(lambda _: ["here"]), []

    def open_engine() -> Engine:
        tries.append(1)
        if len(tries) == 1:
            raise PolicyError("the folder is not there yet")
        return engine

    async def main() -> list[str]:
        thread = EngineThread("low", open_engine)
        with pytest.raises(ApiError) as raised:
            await texts(thread)
        assert (raised.value.status, raised.value.code) == (503, "policy_unavailable")
        try:
            return await texts(thread)
        finally:
            await thread.close()

    assert asyncio.run(main()) == ["here"]
