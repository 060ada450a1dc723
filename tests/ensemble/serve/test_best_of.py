"""Best-of as clients see it: the official client, a real server, real programs in the real sandbox."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.ensemble.serve.best_of import async_judge as judging_module
from alphamix.ensemble.serve.best_of import service as best_of_module
from alphamix.ensemble.serve.best_of.request import BestOfLimits
from alphamix.grading.errors import GradingError
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest, completion_body, json_reply
from alphamix.policies.registry import Registry
from alphamix.policies.types import Request

from .upstreams import Behaviour, FakeUpstream, hangs, status

Start = Callable[..., OpenAI]

MESSAGES: dict[str, Any] = {"messages": [{"role": "user", "content": "Print n + 1."}]}
TESTS = [{"input": f"{n}\n", "output": f"{n + 1}\n"} for n in range(4)]
INPUTS = [{"input": f"{n}\n"} for n in range(4)]
RIGHT = "n = int(input())\nprint(n + 1)"
UP_TO_2 = "n = int(input())\nprint(n + 1 if n < 2 else 0)"
ALSO_UP_TO_2 = "n = int(input())\nprint(0 if n >= 2 else 1 + n)"
UP_TO_3 = "n = int(input())\nprint(n + 1 if n < 3 else 0)"
ONLY_2 = "n = int(input())\nprint(n + 1 if n < 2 else 7)"
WRONG = "print('no')"


def fenced(source: str) -> str:
    return f"Here:\n```python\n{source}\n```\n"


def programs(sources: Sequence[str], delay_s: float = 0.0) -> Behaviour:
    """Choices are these programs, one after the other over all requests."""
    served = iter(sources)

    async def answer(_: FakeUpstream, request: FakeRequest) -> AnyReply:
        await asyncio.sleep(delay_s)
        n = request.num_choices
        usage = {"prompt_tokens": 10, "completion_tokens": 5 * n, "total_tokens": 10 + 5 * n}
        return json_reply(completion_body(request, [fenced(next(served)) for _ in range(n)], usage=usage))

    return answer


@pytest.fixture
def registry(upstreams: dict[str, FakeUpstream], tmp_path: Path) -> Registry:
    lines = [f'[policies.{name}]\nurl = "{fake.url}"\nmodel = "secret-model"\n' for name, fake in upstreams.items()]
    file = tmp_path / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 3 }"]))
    return Registry.load(file)


@pytest.fixture
def client(registry: Registry, client_of: Start) -> OpenAI:
    return client_of(registry)


def best_of(client: OpenAI, model: str = "low", *, n: int = 1, **wanted: Any) -> Any:
    wanted = {"budget": 8, "select": "tests", **wanted}
    wanted.setdefault("tests", TESTS if wanted["select"] == "tests" else INPUTS)
    return client.chat.completions.create(model=model, n=n, extra_body={"ensemble": wanted}, **MESSAGES)


def said(answer: Any) -> list[str]:
    return [choice.message.content for choice in answer.choices]


def states(answer: Any) -> dict[str, int]:
    return {state: answer.ensemble[state] for state in ("drawn", "failed", "cancelled", "spared")}


def test_the_first_that_passes_all_tests_ends_the_search(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, UP_TO_2, RIGHT, WRONG])
    answer = best_of(client, budget=32)
    assert said(answer) == [fenced(RIGHT)]
    assert (answer.object, answer.model, answer.choices[0].index) == ("chat.completion", "low", 0)
    assert answer.choices[0].policy == {"name": "low", "alpha": None}
    assert answer.usage.total_tokens == 30
    assert answer.ensemble["stopped"] == "passed"
    assert states(answer) == {"drawn": 4, "failed": 0, "cancelled": 0, "spared": 28}
    cost = {"calls": 1, "choices": 4, "prompt_tokens": 10, "completion_tokens": 20}
    assert answer.ensemble["cost"] == {"low": cost}
    (winner,) = answer.ensemble["winners"]
    told = {"index": 0, "draw": 2, "policy": {"name": "low", "alpha": None}, "verdict": "AC"}
    assert winner == {**told, "tests_passed": 4, "num_tests": 4}
    assert "ensemble" not in upstreams["low"].asked()[0]


def test_waves_double_until_one_passes(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG] * 8 + [RIGHT] + [WRONG] * 30)
    answer = best_of(client, budget=32)
    assert [asked["n"] for asked in upstreams["low"].asked()] == [4, 4, 8]
    assert states(answer) == {"drawn": 16, "failed": 0, "cancelled": 0, "spared": 16}


def test_an_ensemble_draws_by_its_weights_with_seeds_of_their_own(
    client: OpenAI, upstreams: dict[str, FakeUpstream]
) -> None:
    for fake in upstreams.values():
        fake.behaviour = programs([WRONG] * 32)
    wanted = {"budget": 16, "select": "tests", "tests": TESTS}
    ask: dict[str, Any] = {"model": "both", "seed": 5, "extra_body": {"ensemble": wanted}, **MESSAGES}
    raw = client.chat.completions.with_raw_response.create(**ask)
    answer: Any = raw.parse()
    drawn = {name: sum(asked["n"] for asked in fake.asked()) for name, fake in upstreams.items()}
    assert drawn == {"low": 4, "high": 12}
    assert {name: cost["choices"] for name, cost in answer.ensemble["cost"].items()} == drawn
    seeds = [asked["seed"] for fake in upstreams.values() for asked in fake.asked()]
    assert len(set(seeds)) == len(seeds)
    assert answer.usage.completion_tokens == 80
    assert raw.headers["x-alphamix-policy"] == answer.choices[0].policy["name"]


def test_else_the_longest_prefix_wins(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, UP_TO_2, WRONG, WRONG])
    answer = best_of(client, budget=4)
    assert said(answer) == [fenced(UP_TO_2)]
    assert answer.ensemble["stopped"] == "budget"
    (winner,) = answer.ensemble["winners"]
    assert (winner["verdict"], winner["tests_passed"], winner["num_tests"]) == ("WA", 2, 4)


def test_agreement_decides_between_equal_prefixes(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([ONLY_2, WRONG, UP_TO_2, ALSO_UP_TO_2])
    assert said(best_of(client, budget=4)) == [fenced(UP_TO_2)]


def test_n_gives_the_n_best(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, UP_TO_2, RIGHT, WRONG])
    answer = best_of(client, n=2, budget=4)
    assert said(answer) == [fenced(RIGHT), fenced(UP_TO_2)]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert [winner["draw"] for winner in answer.ensemble["winners"]] == [2, 1]


def test_majority_looks_at_outputs_not_at_text(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, "raise SystemExit(1)", UP_TO_2, ALSO_UP_TO_2, RIGHT, ONLY_2])
    answer = best_of(client, budget=6, select="majority")
    assert said(answer) == [fenced(UP_TO_2)]
    (winner,) = answer.ensemble["winners"]
    assert (winner["votes"], winner["most_votes"], winner["failed"]) == (1, 5, None)
    assert states(answer) == {"drawn": 6, "failed": 0, "cancelled": 0, "spared": 0}


def test_agreement_counts_each_input(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, WRONG, RIGHT, UP_TO_3, ONLY_2])
    assert said(best_of(client, budget=5, select="majority")) == [fenced(WRONG)]
    upstreams["low"].behaviour = programs([WRONG, WRONG, RIGHT, UP_TO_3, ONLY_2])
    answer = best_of(client, budget=5, select="agreement")
    assert said(answer) == [fenced(RIGHT)]
    (winner,) = answer.ensemble["winners"]
    assert (winner["votes"], winner["most_votes"]) == (5, 16)


def test_outputs_are_compared_by_the_checker(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    loose = ["print(1.0000001)", "print('x')", "print(1)", "print('x ')"]
    upstreams["low"].behaviour = programs([*loose, *loose])
    floats = {"floats": {"abs": 1e-3, "rel": 0}}
    assert best_of(client, budget=4, select="majority", checker=floats).ensemble["winners"][0]["draw"] == 0
    assert best_of(client, budget=4, select="majority", checker="exact").ensemble["winners"][0]["votes"] == 0


def test_functions_are_called(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    sources = ["def f(a, b): return [a]", "def g(): pass", "def f(a, b): return (a, b)", "def f(a, b): return [a, b]"]
    upstreams["low"].behaviour = programs([*sources, *sources])
    tests = [{"input": [n, None], "output": [n, None]} for n in range(2)]
    assert best_of(client, budget=4, entry_point="f", tests=tests).ensemble["winners"][0]["draw"] in (2, 3)
    inputs = [{"input": test["input"]} for test in tests]
    answer = best_of(client, budget=4, entry_point="f", tests=inputs, select="majority")
    assert answer.ensemble["winners"][0]["draw"] == 2


def test_the_other_route_answers_as_well(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, RIGHT, WRONG, WRONG])
    wanted = {"budget": 4, "select": "tests", "tests": TESTS}
    answer: Any = client.completions.create(model="low", prompt="n + 1", extra_body={"ensemble": wanted})
    assert answer.choices[0].text == fenced(RIGHT)
    assert answer.ensemble["stopped"] == "passed"


def test_engines_in_this_process_draw_too(fake_registry: Any, script_engine: Any, client_of: Start) -> None:
    def says(request: Request) -> Sequence[str]:
        return [fenced(RIGHT if request.seed == 1 else WRONG)]

    answer = best_of(client_of(fake_registry({"near": script_engine(says)}, alphas={"near": 1.5})), "near", budget=4)
    assert answer.ensemble["winners"][0]["policy"] == {"name": "near", "alpha": 1.5}
    assert answer.ensemble["cost"]["near"]["choices"] == 4


HOSTILE = {
    "fork bomb": "import os\nwhile True: os.fork()",
    "endless loop": "while True: pass",
    "huge output": "while True: print('x' * 99999)",
    "huge memory": "x = [0] * (1 << 34)",
    "writes files": "open('{path}', 'w').write('x')\nprint(int(input()) + 1)",
    "reads files": "print(open('/etc/passwd').read())",
    "kills": "import os, signal\nos.kill(-1, signal.SIGKILL)",
    "network": "import socket\nsocket.create_connection(('127.0.0.1', {port}))\nprint(int(input()) + 1)",
}


@pytest.mark.parametrize("select", ["tests", "majority", "agreement"])
def test_hostile_programs_lose_and_do_no_harm(
    client: OpenAI, upstreams: dict[str, FakeUpstream], tmp_path: Path, select: str
) -> None:
    path = tmp_path / "written"
    sources = [text.format(path=path, port=upstreams["high"].port) for text in HOSTILE.values()]
    upstreams["low"].behaviour = programs([*sources, RIGHT, *sources])
    wanted = {"budget": 9, "time_limit_s": 0.2, "select": select}
    answer = best_of(client, **wanted)
    assert said(answer) == [fenced(RIGHT)]
    answer = best_of(client, **{**wanted, "budget": 8})
    (winner,) = answer.ensemble["winners"]
    assert winner["verdict" if select == "tests" else "failed"] not in (None, "AC", "IE")
    assert answer.ensemble["judged"] == 8
    assert not path.exists()
    assert not upstreams["high"].requests


TOO_MUCH: list[tuple[dict[str, Any], str]] = [
    ({"budget": 0}, "ensemble.budget"),
    ({"budget": 65}, "ensemble.budget"),
    ({"budget": "8"}, "ensemble.budget"),
    ({"budget": True}, "ensemble.budget"),
    ({"select": "best"}, "ensemble.select"),
    ({"tests": []}, "ensemble.tests"),
    ({"tests": None}, "ensemble.tests"),
    ({"tests": TESTS * 51, "time_limit_s": 0.1}, "ensemble.tests"),
    ({"tests": TESTS * 50, "budget": 64}, "ensemble.tests"),
    ({"tests": [{"input": "x" * 2**20, "output": ""}]}, "ensemble"),
    ({"tests": [*TESTS, {"input": "1"}]}, "ensemble.tests[4].output"),
    ({"tests": [{"output": "1"}]}, "ensemble.tests[0].input"),
    ({"tests": [{"input": 1, "output": "1"}]}, "ensemble.tests[0].input"),
    ({"tests": [{"input": "1", "output": 1}]}, "ensemble.tests[0].output"),
    ({"tests": [{"input": None, "output": None}]}, "ensemble.tests[0].input"),
    ({"tests": [{"input": "1", "output": "1", "weight": 1}]}, "ensemble.tests[0].weight"),
    ({"tests": TESTS, "select": "majority"}, "ensemble.tests[0].output"),
    ({"tests": TESTS, "entry_point": "f"}, "ensemble.tests[0].input"),
    ({"entry_point": "os.system('x')"}, "ensemble.entry_point"),
    ({"time_limit_s": 11}, "ensemble.time_limit_s"),
    ({"time_limit_s": 0}, "ensemble.time_limit_s"),
    ({"memory_limit_mb": 4096}, "ensemble.memory_limit_mb"),
    ({"checker": {"program": {"source": "import os"}}}, "ensemble.checker"),
    ({"checker": "tolerant"}, "ensemble.checker"),
    ({"epilogue": "print(1)"}, "ensemble.epilogue"),
    ({"budget": 2, "n": 3}, "n"),
]


@pytest.mark.parametrize(("wanted", "param"), TOO_MUCH)
def test_what_is_wrong_is_named(
    client: OpenAI, upstreams: dict[str, FakeUpstream], wanted: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        best_of(client, **wanted)
    assert refused.value.param == param
    assert not upstreams["low"].requests


@pytest.mark.parametrize("value", ["1", "[]", '"tests"', "[[[", '{"tests": NaN}', '{"budget": 1e999}', '"\\ud800"'])
def test_what_is_no_object_is_refused(registry: Registry, serving: Any, value: str) -> None:
    body = f'{{"model": "low", "messages": [], "ensemble": {value}}}'
    answer = httpx.post(f"{serving(registry)}/chat/completions", content=body, timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_null_asks_for_nothing(registry: Registry, upstreams: dict[str, FakeUpstream], serving: Any) -> None:
    answer = httpx.post(f"{serving(registry)}/chat/completions", json={"model": "low", "ensemble": None, **MESSAGES})
    assert answer.status_code == 200
    assert "ensemble" not in upstreams["low"].asked()[0]


def test_the_limits_are_the_servers(registry: Registry, client_of: Start) -> None:
    client = client_of(registry, ServeOptions(best_of=BestOfLimits(budget=2)))
    with pytest.raises(openai.BadRequestError, match="send at most 2"):
        best_of(client, budget=3)


def test_a_stream_brings_the_winner(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, RIGHT, UP_TO_2, WRONG])
    wanted = {"budget": 4, "select": "tests", "tests": TESTS}
    options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
    stream = client.chat.completions.create(model="low", extra_body={"ensemble": wanted}, **options, **MESSAGES)
    chunks: list[Any] = list(stream)
    texts, reasons = {0: "", 1: ""}, Counter[int]()
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        reasons[choice.index] += choice.finish_reason == "stop"
        assert chunk.object == "chat.completion.chunk"
    assert texts == {0: fenced(RIGHT), 1: fenced(UP_TO_2)}
    assert reasons == {0: 1, 1: 1}
    assert chunks[-2].ensemble["drawn"] == 4
    assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 20)


def test_comments_keep_a_stream_alive(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_of_module, "KEEP_ALIVE_S", 0.05)
    upstreams["low"].behaviour = programs([RIGHT] * 4, delay_s=0.5)
    wanted = {"budget": 4, "select": "tests", "tests": TESTS}
    body = {"model": "low", "stream": True, "ensemble": wanted, **MESSAGES}
    url = serving(registry)
    answer = httpx.post(f"{url}/chat/completions", json=body, timeout=60)
    lines = answer.text.split("\n\n")
    assert lines[0] == ": drawing"
    assert lines[-2:] == ["data: [DONE]", ""]
    with OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        upstreams["low"].behaviour = programs([RIGHT] * 4, delay_s=0.5)
        stream = client.chat.completions.create(model="low", stream=True, extra_body={"ensemble": wanted}, **MESSAGES)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == fenced(RIGHT)


def test_what_fails_late_is_an_event_and_what_fails_early_a_status(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(registry)
    wanted = {"budget": 4, "select": "tests", "tests": TESTS}
    ask: dict[str, Any] = {"model": "low", "stream": True, "extra_body": {"ensemble": wanted}, **MESSAGES}
    upstreams["low"].behaviour = status(500)
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**ask)

    async def late(*given: Any) -> AnyReply:
        await asyncio.sleep(0.5)
        return await status(500)(*given)

    upstreams["low"].behaviour = late
    monkeypatch.setattr(best_of_module, "KEEP_ALIVE_S", 0.05)
    with pytest.raises(openai.APIError, match="failed to answer"):
        list(client.chat.completions.create(**ask))


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_all_calls(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Any, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_of_module, "KEEP_ALIVE_S", 0.05)
    for fake in upstreams.values():
        fake.behaviour = hangs
    wanted = {"budget": 32, "select": "tests", "tests": TESTS}
    body = {"model": "both", "stream": stream, "ensemble": wanted, **MESSAGES}
    url = f"{serving(registry)}/chat/completions"
    if stream:
        with httpx.stream("POST", url, json=body, timeout=60) as answer:
            lines = answer.iter_lines()  # kept: when it goes, the connection goes
            assert next(lines) == ": drawing"
            assert all(fake.arrived.wait(60) for fake in upstreams.values())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(url, json=body, timeout=httpx.Timeout(60, read=3))
    assert all(fake.abandoned.wait(60) for fake in upstreams.values())


def test_the_first_pass_cancels_calls_in_flight(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = hangs
    upstreams["high"].behaviour = programs([RIGHT] * 32)
    answer = best_of(client, "both", budget=32)
    assert answer.ensemble["stopped"] == "passed"
    assert sum(states(answer).values()) == 32
    assert states(answer)["cancelled"] == 1
    assert upstreams["low"].abandoned.wait(60)


def test_a_dead_policys_share_goes_to_the_others(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = status(500)
    upstreams["high"].behaviour = programs([WRONG] * 32)
    answer = best_of(client, "both", budget=8)
    assert states(answer) == {"drawn": 8, "failed": 0, "cancelled": 0, "spared": 0}
    assert answer.ensemble["cost"].keys() == {"high"}


def test_what_was_drawn_before_a_fault_still_answers(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    good, asked = programs([WRONG, UP_TO_2, WRONG, WRONG]), Counter[str]()

    async def dies(*given: Any) -> AnyReply:
        asked["low"] += 1
        return await (good if asked["low"] == 1 else status(500))(*given)

    upstreams["low"].behaviour = dies
    answer = best_of(client, budget=16)
    assert said(answer) == [fenced(UP_TO_2)]
    assert states(answer) == {"drawn": 4, "failed": 12, "cancelled": 0, "spared": 0}


def test_all_failed_is_an_error(registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start) -> None:
    client = client_of(registry, ServeOptions(breaker=BreakerOptions(failures=100)))
    upstreams["low"].behaviour = status(500)
    with pytest.raises(openai.InternalServerError) as failed:
        best_of(client)
    assert (failed.value.status_code, failed.value.code) == (502, "server")


def test_the_reason_of_a_refusal_reaches_the_client(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = status(400, {"error": {"message": "too hot", "param": "temperature"}})
    with pytest.raises(openai.BadRequestError, match="too hot"):
        best_of(client)


def test_the_error_for_an_unknown_model_lists_the_served_ones(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="this server has low, high, both"):
        best_of(client, "nobody")


def test_without_a_judge_nothing_runs(registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start) -> None:
    with pytest.raises(openai.InternalServerError, match="--judge-workers 0") as refused:
        best_of(client_of(registry, ServeOptions(judge_workers=0)))
    assert refused.value.status_code == 501
    assert not upstreams["low"].requests


def test_without_a_proven_sandbox_nothing_runs(
    client: OpenAI, upstreams: dict[str, FakeUpstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(**options: Any) -> None:
        assert options["sandbox"] == "strict"
        raise GradingError("no namespaces at /secret/path")

    monkeypatch.setattr(judging_module, "Judge", refuses)
    with pytest.raises(openai.InternalServerError, match="alphamix doctor") as refused:
        best_of(client)
    assert (refused.value.status_code, refused.value.code) == (503, "no_sandbox")
    assert "secret" not in str(refused.value)
    assert not upstreams["low"].requests


def test_no_more_than_some_requests_at_once(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    client = client_of(registry, ServeOptions(best_of=BestOfLimits(requests=0)))
    with pytest.raises(openai.RateLimitError) as refused:
        best_of(client)
    assert refused.value.response.headers["retry-after"] == "1"


def test_metrics_count_what_was_spent(client: OpenAI, upstreams: dict[str, FakeUpstream]) -> None:
    upstreams["low"].behaviour = programs([WRONG, RIGHT, "x = 1 /", WRONG])
    best_of(client, budget=32)
    text = httpx.get(str(client.base_url).replace("/v1/", "/metrics")).text
    assert 'alphamix_best_of_total{select="tests",stopped="passed"} 1.0' in text
    assert 'alphamix_best_of_draws_total{select="tests",state="spared"} 28.0' in text
    assert 'alphamix_verdicts_total{verdict="AC"} 1.0' in text
