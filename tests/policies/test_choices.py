"""Several samples in one request: what is asked together, and what servers that do it their own way are worth."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphamix.policies.engines.openai.batched_choices import ChoiceGroup, next_choice_group, outcomes
from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.fake_server import FakeReply, FakeRequest, FakeServer, completion, error
from alphamix.policies.engines.openai.server_answers import ServerAnswer, add_body
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.submissions import Submissions
from alphamix.policies.types import Completion, EngineFailure, Prompt, Reply, Request, SamplingParameters

CHAT: Prompt = [{"role": "user", "content": "hello"}]
HOT = SamplingParameters(temperature=1.0, max_tokens=5)


def requests(seeds: list[int], parameters: SamplingParameters = HOT, prompt: Prompt = CHAT) -> list[Request]:
    return [Request(prompt, seed, parameters) for seed in seeds]


@given(
    seeds=st.lists(st.integers(0, 6), max_size=20), prompts=st.lists(st.sampled_from("ab"), min_size=20, max_size=20)
)
def test_only_neighbours_with_consecutive_seeds_of_one_prompt_are_asked_together(
    seeds: list[int], prompts: list[str]
) -> None:
    wanted = [Request(prompt, seed, HOT) for seed, prompt in zip(seeds, prompts, strict=False)]
    waiting = Submissions()
    waiting.add(wanted)
    groups = list(iter(lambda: next_choice_group(waiting, 3), None))
    assert [request for group in groups for request in group.requests] == wanted
    assert [group.index for group in groups] == [sum(len(g.requests) for g in groups[:i]) for i in range(len(groups))]
    for group in groups:
        assert 1 <= len(group.requests) <= 3
        assert {request.prompt for request in group.requests} == {group.requests[0].prompt}
        assert [request.seed for request in group.requests] == [
            group.requests[0].seed + i for i in range(len(group.requests))
        ]


@given(done=st.sets(st.integers(0, 7)))
def test_what_is_left_is_asked_in_runs_of_neighbours(done: set[int]) -> None:
    ask = ChoiceGroup(10, tuple(requests(list(range(8)))), attempt=3, deadline=1.0)
    rest = ask.rest(done)
    left = [(part.index + i, request.seed) for part in rest for i, request in enumerate(part.requests)]
    assert left == [(10 + i, i) for i in range(8) if i not in done]
    assert all((part.attempt, part.deadline) == (1, math.inf) for part in rest)
    assert all(first.index + len(first.requests) < second.index for first, second in pairwise(rest))


@given(lengths=st.lists(st.integers(0, 50), min_size=1, max_size=9), total=st.integers(0, 10_000))
def test_the_servers_count_of_tokens_is_split_and_none_is_lost(lengths: list[int], total: int) -> None:
    answer = ServerAnswer(
        {i: "x" * length for i, length in enumerate(lengths)}, dict.fromkeys(range(len(lengths)), "stop"), 7, total
    )
    found = outcomes(answer, "url", len(lengths), 1.0)
    counts = [one.completion_tokens for one in found.values() if isinstance(one, Completion)]
    assert sum(counts) == total
    if sum(lengths):
        assert all(abs(n - total * length / sum(lengths)) < 1 for n, length in zip(counts, lengths, strict=True))


@given(listed=st.lists(st.integers(0, 50), min_size=1, max_size=9), more=st.integers(0, 3))
def test_tokens_that_a_server_lists_are_counted_unless_they_are_not_all(listed: list[int], more: int) -> None:
    body = {
        "choices": [
            {"index": i, "message": {"content": "x"}, "finish_reason": "stop", "token_ids": list(range(count))}
            for i, count in enumerate(listed)
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": sum(listed) + more},
    }
    answer = ServerAnswer()
    add_body(answer, body, "message")
    found = outcomes(answer, "url", len(listed), 1.0)
    counts = [one.completion_tokens for one in found.values() if isinstance(one, Completion)]
    assert sum(counts) == sum(listed) + more
    assert more or counts == listed


@dataclass
class Server:
    """Answers each request with the texts and the status that `choose(first seed, n)` returns."""

    choose: Callable[[int, int], list[str] | int]
    url: str = ""
    asked: list[tuple[int, int]] = field(default_factory=list)
    """First seed and n of each request."""


def texts(seed: int, n: int) -> list[str]:
    return [f"text {seed + i}" for i in range(n)]


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(texts)

    async def respond(request: FakeRequest) -> FakeReply:
        state.asked.append((request.seed, request.num_choices))
        chosen = state.choose(request.seed, request.num_choices)
        if isinstance(chosen, int):
            return error(chosen)
        return completion(request, chosen, usage={"prompt_tokens": 3, "completion_tokens": 2 * len(chosen)})

    with FakeServer(respond) as fake:
        state.url = fake.url
        yield state


def sampled(server: Server, wanted: list[Request], **options: Any) -> list[Completion | EngineFailure]:
    """Outcomes in the order of the requests, each exactly once."""
    engine = OpenAIEngine(server.url, "m", None, EngineOptions(**{"max_retries": 0, "choices": 8} | options))
    try:
        replies: list[Reply] = list(engine.sample(wanted))
    finally:
        engine.close()
    assert sorted(reply.index for reply in replies) == list(range(len(wanted)))
    return [reply.outcome for reply in sorted(replies, key=lambda reply: reply.index)]


def told(outcomes: list[Completion | EngineFailure]) -> list[str]:
    return [one.text if isinstance(one, Completion) else one.cause for one in outcomes]


def test_slots_of_one_prompt_go_as_one_request_and_each_gets_the_choice_of_its_seed(server: Server) -> None:
    found = sampled(server, requests(list(range(20))))
    assert told(found) == texts(0, 20)
    assert sorted(server.asked) == [(0, 8), (8, 8), (16, 4)]
    assert sum(one.completion_tokens for one in found if isinstance(one, Completion)) == 40


def test_a_hole_among_the_seeds_is_never_asked_again(server: Server) -> None:
    assert told(sampled(server, requests([0, 1, 5, 6, 7]))) == [f"text {seed}" for seed in (0, 1, 5, 6, 7)]
    assert sorted(server.asked) == [(0, 2), (5, 3)]


def test_no_more_is_asked_for_at_once_than_may_be_in_flight(server: Server) -> None:
    sampled(server, requests(list(range(6))), concurrency=2)
    assert sorted(server.asked) == [(0, 2), (2, 2), (4, 2)]


def test_what_comes_back_short_is_asked_for_again(server: Server) -> None:
    server.choose = lambda seed, n: texts(seed, min(n, 3))
    assert told(sampled(server, requests(list(range(8))))) == texts(0, 8)
    assert server.asked == [(0, 8), (3, 5), (6, 2)]


def test_a_server_that_ignores_n_is_soon_asked_one_by_one(server: Server) -> None:
    server.choose = lambda seed, n: texts(seed, 1)
    assert told(sampled(server, requests(list(range(8))))) == texts(0, 8)
    assert [n for _, n in server.asked] == [8, 7, 6, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_refuses_n_is_asked_one_by_one(server: Server, status: int) -> None:
    server.choose = lambda seed, n: texts(seed, 1) if n == 1 else status
    assert told(sampled(server, requests(list(range(8))))) == texts(0, 8)
    assert [n for _, n in server.asked].count(1) == 8
    assert len(server.asked) == 11


def test_a_prompt_that_is_refused_is_asked_twice_not_n_times(server: Server) -> None:
    server.choose = lambda seed, n: 400
    assert told(sampled(server, requests(list(range(8))))) == ["rejected"] * 8
    assert server.asked == [(0, 8), (0, 1)]


def test_no_choice_at_all_is_a_failure(server: Server) -> None:
    server.choose = lambda seed, n: []
    assert set(told(sampled(server, requests(list(range(4)))))) == {"malformed"}


def test_copies_of_one_sample_are_not_counted_as_several(server: Server) -> None:
    server.choose = lambda seed, n: texts(seed, 1) * n
    assert told(sampled(server, requests(list(range(20))))) == texts(0, 20)
    assert {n for _, n in server.asked[-8:]} == {1}


@pytest.mark.parametrize("text", ["sure", ""])
def test_equal_texts_of_a_model_that_is_sure_all_count(server: Server, text: str) -> None:
    server.choose = lambda seed, n: [text] * n
    assert told(sampled(server, requests(list(range(16))), concurrency=8)) == [text] * 16
    assert server.asked == [(0, 8), (7, 1), (8, 8), (15, 1)]  # each was doubted, and borne out


def test_equal_texts_at_temperature_0_are_not_doubted(server: Server) -> None:
    server.choose = lambda seed, n: ["greedy"] * n
    cold = SamplingParameters(temperature=0.0, max_tokens=5)
    assert told(sampled(server, requests(list(range(8)), cold))) == ["greedy"] * 8
    assert server.asked == [(0, 8)]
