"""One search with fake policies and a fake judge: its counts add up in every case, and what is cancelled."""

import asyncio
from collections import Counter
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from alphamix.ensemble.serve.best_of import async_judge as judging_module
from alphamix.ensemble.serve.best_of.async_judge import AsyncJudge
from alphamix.ensemble.serve.best_of.request import BestOfLimits, BestOfRequest, read_best_of
from alphamix.ensemble.serve.best_of.search import BestOfSearch
from alphamix.ensemble.serve.best_of.service import chunks_of, request_draws
from alphamix.ensemble.serve.protocol.api_errors import ApiError, bad_response
from alphamix.ensemble.serve.protocol.raw_request import Part, RawRequest, encode, read_request
from alphamix.ensemble.serve.protocol.response_bytes import ResponseJson
from alphamix.ensemble.serve.protocol.responses import PolicyInfo
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher
from alphamix.ensemble.serve.routing.split import assign_draws
from alphamix.grading.errors import GradingError
from alphamix.grading.types import Judgement, Problem, Program, Verdict

WEIGHTS = {"low": 1.0, "high": 2.0}
NUM_TESTS = 3
VERDICTS = [*Verdict, None]
"""None: the policy fails instead."""


class FakeDispatcher:
    """Choice i is the program `print(i)`; a wave's part fails where its first choice is one that fails."""

    def __init__(self, fates: list[Verdict | None]) -> None:
        self.policies = {name: SimpleNamespace(policy=PolicyInfo(name, None)) for name in WEIGHTS}
        self._fates = fates

    def assign_draws(self, model: str, budget: int) -> list[str]:
        return assign_draws(WEIGHTS, budget, 0)

    async def complete_part(self, ask: RawRequest, part: Part, failed: set[str]) -> list[tuple[Part, ResponseJson]]:
        if self._fates[part.first] is None:
            raise bad_response(part.policy, "server")
        choices = [
            (place, {"index": Raw(b"%d" % place), "text": Raw(encode(f"```python\nprint({place})\n```"))})
            for place in range(part.first, part.first + part.n)
        ]
        usage = {"prompt_tokens": 7, "completion_tokens": part.n, "total_tokens": 7 + part.n}
        return [(part, ResponseJson({"usage": Raw(encode(usage))}, choices))]


class FakeJudging:
    """The fate of a program is that of its number."""

    at_once = 4

    def __init__(self, fates: list[Verdict | None]) -> None:
        self._fates = fates

    async def judge(self, problem: Problem, program: Program | None) -> Judgement:
        assert program is not None
        place = int(program.source.strip()[6:-1])
        verdict = self._fates[place] or Verdict.WA
        passed = NUM_TESTS if verdict is Verdict.AC else place % NUM_TESTS
        return Judgement(verdict, passed, NUM_TESTS, None, 0.0, 0.0)

    async def run(self, problem: Problem, program: Program | None) -> Judgement:
        assert program is not None
        place = int(program.source.strip()[6:-1])
        verdict = self._fates[place] or Verdict.RE
        answers = (b"%d" % (place % 2),) * NUM_TESTS if verdict is Verdict.AC else (None,) * NUM_TESTS
        return Judgement(verdict, 0, NUM_TESTS, None, 0.0, 0.0, answers=answers)


def asked(budget: int, select: str, n: int = 1) -> tuple[RawRequest, BestOfRequest]:
    tests = [{"input": f"{i}", **({"output": "x"} if select == "tests" else {})} for i in range(NUM_TESTS)]
    wanted = {"budget": budget, "select": select, "tests": tests}
    ask = read_request("completions", encode({"model": "both", "prompt": "", "n": n, "ensemble": wanted}))
    ask, best_of = read_best_of(ask, BestOfLimits())
    assert best_of is not None
    return request_draws(ask, best_of.budget), best_of


def searched(fates: list[Verdict | None], select: str, n: int) -> tuple[BestOfSearch, dict[str, Any]]:
    ask, wanted = asked(len(fates), select, n)
    dispatcher, judging = cast("Dispatcher", FakeDispatcher(fates)), cast("AsyncJudge", FakeJudging(fates))
    search = BestOfSearch(dispatcher, judging, ask, wanted, n)

    async def run() -> None:
        try:
            await search.run(60)
        finally:
            await search.aclose()

    asyncio.run(run())
    return search, msgspec.json.decode(encode(search.as_json()))


@given(
    st.lists(st.sampled_from(VERDICTS), min_size=1, max_size=24),
    st.sampled_from(["tests", "majority", "agreement"]),
    st.integers(1, 3),
)
def test_the_account_adds_up(fates: list[Verdict | None], select: str, n: int) -> None:
    n = min(n, len(fates))
    try:
        search, told = searched(fates, select, n)
    except ApiError as failed:
        is_told = failed.status in (502, 503)
        assert is_told
        return
    assert told.keys() == {
        *(
            "select",
            "setting",
            "budget",
            "drawn",
            "failed",
            "cancelled",
            "spared",
            "judged",
            "stopped",
            "cost",
            "winners",
        )
    }
    assert told["budget"] == len(fates) == sum(told[state] for state in ("drawn", "failed", "cancelled", "spared"))
    assert 1 <= told["judged"] <= told["drawn"] == sum(cost["choices"] for cost in told["cost"].values())
    assert told["drawn"] == sum(cost["completion_tokens"] for cost in told["cost"].values())
    assert told["cost"].keys() <= WEIGHTS.keys()
    assert told["stopped"] == ("passed" if told["spared"] or told["cancelled"] else told["stopped"])
    winners = told["winners"]
    assert [winner["index"] for winner in winners] == list(range(min(n, told["drawn"])))
    assert len({winner["draw"] for winner in winners}) == len(winners)
    best = fates[winners[0]["draw"]]
    judged = [fates[place] for place, draw in search.draws.items() if draw.is_judged]
    assert best is not Verdict.IE
    assert (best is Verdict.AC) == (Verdict.AC in judged)
    if select == "tests":
        assert (told["stopped"] == "passed") == (judged.count(Verdict.AC) >= n)
        assert [winner["tests_passed"] for winner in winners if winner["verdict"] not in ("IE", None)] == sorted(
            (winner["tests_passed"] for winner in winners if winner["verdict"] not in ("IE", None)), reverse=True
        )
    else:
        assert all(0 <= winner["votes"] <= winner["most_votes"] for winner in winners)


def test_a_failure_of_the_judge_is_none_of_the_models() -> None:
    _, told = searched([Verdict.IE, Verdict.WA, Verdict.IE], "tests", 1)
    assert (told["winners"][0]["draw"], told["judged"]) == (1, 1)
    with pytest.raises(ApiError) as failed:
        searched([Verdict.IE] * 3, "majority", 1)
    assert (failed.value.status, failed.value.code) == (503, "judge_failed")


def test_time_that_is_out_leaves_the_best_of_what_there_is() -> None:
    class Slow(FakeJudging):
        async def judge(self, problem: Problem, program: Program | None) -> Judgement:
            assert program is not None
            if program.source != "print(1)\n":
                await asyncio.sleep(3600)
            return await super().judge(problem, program)

    fates: list[Verdict | None] = [Verdict.WA] * 4
    ask, wanted = asked(4, "tests")

    async def run(timeout_s: float, judging: FakeJudging) -> BestOfSearch:
        search = BestOfSearch(cast("Dispatcher", FakeDispatcher(fates)), cast("AsyncJudge", judging), ask, wanted, 1)
        try:
            await search.run(timeout_s)
        finally:
            await search.aclose()
        return search

    search = asyncio.run(run(1.0, Slow(fates)))
    assert (search.stopped, search.winners()) == ("deadline", [1])
    assert not [draw for place, draw in search.draws.items() if place != 1 and draw.is_judged]


def test_what_waits_for_the_judge_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs already keeps its place until it has ended, whoever has left."""
    futures: list[Future[Judgement]] = []

    class Held:
        def __init__(self, **_: Any) -> None: ...

        def submit(self, *_: Any) -> Future[Judgement]:
            futures.append(Future())
            futures[-1].set_running_or_notify_cancel()
            return futures[-1]

    monkeypatch.setattr(judging_module, "Judge", Held)
    _, wanted = asked(1, "tests")

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def run() -> None:
        verdicts = Counter[str]()
        judging = AsyncJudge(1, verdicts)
        await judging.check()
        tasks = [asyncio.create_task(judging.judge(wanted.problem, Program(str(i)))) for i in range(10)]
        await settle()
        assert len(futures) == 4
        for task in tasks[:8]:
            task.cancel()
        await settle()
        assert len(futures) == 4
        for future in list(futures):
            future.set_result(Judgement(Verdict.WA, 0, 1, 0, 0.0, 0.0))
        await settle()
        assert len(futures) == 6
        for future in futures[4:]:
            future.set_result(Judgement(Verdict.AC, 1, 1, None, 0.0, 0.0))
        assert [judgement.verdict for judgement in await asyncio.gather(*tasks[8:])] == [Verdict.AC] * 2
        assert verdicts == {"AC": 2}

    asyncio.run(run())


def test_a_judge_that_is_closed_has_failed_and_gives_its_room_back(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def __init__(self, **_: Any) -> None: ...

        def submit(self, *_: Any) -> Future[Judgement]:
            raise GradingError("the judge is closed: make a new one")

    monkeypatch.setattr(judging_module, "Judge", Closed)
    _, wanted = asked(1, "tests")

    async def run() -> set[Verdict]:
        judging = AsyncJudge(1, Counter[str]())
        return {(await judging.judge(wanted.problem, Program(str(i)))).verdict for i in range(10)}

    assert asyncio.run(asyncio.wait_for(run(), 60)) == {Verdict.IE}


def test_searches_take_turns_at_the_judge() -> None:
    order: list[str] = []
    room = asyncio.Semaphore(1)

    class Slow(FakeJudging):
        at_once = 1

        def __init__(self, name: str) -> None:
            super().__init__([Verdict.WA] * 8)
            self._name = name

        async def run(self, problem: Problem, program: Program | None) -> Judgement:
            async with room:
                order.append(self._name)
                await asyncio.sleep(0.001)
                return await super().run(problem, program)

    async def search(name: str) -> None:
        ask, wanted = asked(8, "majority")
        dispatcher, judging = cast("Dispatcher", FakeDispatcher([Verdict.WA] * 8)), cast("AsyncJudge", Slow(name))
        await BestOfSearch(dispatcher, judging, ask, wanted, 1).run(60)

    async def run() -> None:
        first = asyncio.create_task(search("a"))
        while not order:
            await asyncio.sleep(0)
        await asyncio.gather(first, search("b"))

    asyncio.run(run())
    assert sorted(order) == ["a"] * 8 + ["b"] * 8
    assert "b" in order[:6]
    assert "aaa" not in "".join(order)[order.index("b") : 14]


def test_calls_of_tools_get_places_in_a_stream() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = Raw(encode({"role": "assistant", "content": None, "tool_calls": [call]}))
    fields = {"id": Raw(b'"1"'), "object": Raw(b'"chat.completion"'), "usage": Raw(b"null"), "ensemble": Raw(b"{}")}
    chunks = chunks_of(ResponseJson(fields, [(0, {"index": Raw(b"0"), "message": message})]), include_usage=False)
    first, last = (msgspec.json.decode(encode(chunk)) for chunk in chunks)
    assert first["choices"][0]["delta"]["tool_calls"] == [{"index": 0, **call}]
    assert (last["choices"][0]["delta"], last["ensemble"], last["object"]) == ({}, {}, "chat.completion.chunk")
