"""The official OpenAI client against a real server."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from alphamix.ensemble.serve.app import RequestLimits
from alphamix.ensemble.serve.routing.ensemble_dispatcher import Dispatcher
from alphamix.policies.types import EngineFailure, PolicyError, Request

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
WAIT_S = 60
WEIGHTS = {"low": 1.0, "high": 3.0}

Start = Callable[..., OpenAI]


@pytest.fixture
def registry(script_engine: Any, fake_registry: Any) -> Any:
    """Two policies that say their name and the seed they were given, and a mixture of both."""
    engines = {
        name: script_engine(lambda request, name=name: [f"{name}\n", f"{request.seed}\n", "bye"])
        for name in ("low", "high")
    }
    return fake_registry(engines, mixtures={"both": WEIGHTS}, alphas={"high": 1.0})


def choices_by_policy(answer: Any) -> Counter[str]:
    return Counter(choice.policy["name"] for choice in answer.choices)


def test_models_lists_each_policy_and_each_mixture(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    models = {model.id: model for model in client.models.list()}
    assert list(models) == ["low", "high", "both"]
    assert (models["low"].alpha, models["high"].alpha) == (None, 1.0)
    assert models["both"].mixture == WEIGHTS
    assert client.models.retrieve("both").id == "both"
    assert not registry.opened


def test_a_chat_with_one_policy(registry: Any, client_of: Start) -> None:
    raw = client_of(registry).chat.completions.with_raw_response.create(
        model="high", seed=5, temperature=0.5, top_p=0.9, max_tokens=40, stop=["\n\n"], **ASK
    )
    answer = raw.parse()
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "high\n5\nbye")
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert choice.policy == {"name": "high", "alpha": 1.0}
    assert (answer.object, answer.model) == ("chat.completion", "high")
    assert answer.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 10,
        "completion_tokens": 3,
        "total_tokens": 13,
    }
    assert (raw.headers["x-alphamix-policy"], raw.headers["x-alphamix-alpha"]) == ("high", "1.0")
    (request,) = registry.engines["high"].calls[0]
    assert request.parameters.stop == ("\n\n",)
    assert (request.parameters.temperature, request.parameters.top_p) == (0.5, 0.9)
    assert (request.parameters.max_tokens, request.prompt) == (40, ASK["messages"])


def test_an_answer_can_be_sent_back(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    (choice,) = client.chat.completions.create(model="low", seed=1, **ASK).choices
    more = {"role": "user", "content": "again"}
    assert client.chat.completions.create(model="low", messages=[*ASK["messages"], choice.message, more]).choices
    assert [turn["content"] for turn in registry.engines["low"].calls[1][0].prompt] == ["hi", "low\n1\nbye", "again"]


def test_a_chat_as_a_stream(registry: Any, client_of: Start) -> None:
    chunks = list(
        client_of(registry).chat.completions.create(
            model="low", seed=5, stream=True, stream_options={"include_usage": True}, **ASK
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].delta.content for c in chunks[1:4]] == ["low\n", "5\n", "bye"]
    assert [c.choices[0].finish_reason for c in chunks[:-1]] == [None, None, None, None, "stop"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 13
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1
    assert {c.object for c in chunks} == {"chat.completion.chunk"}


def test_a_stream_ends_with_done_and_reports_usage_only_on_request(registry: Any, serving: Any) -> None:
    body = {"model": "low", "stream": True, **ASK}
    answer = httpx.post(f"{serving(registry)}/chat/completions", json=body, timeout=WAIT_S)
    events = [line for line in answer.text.split("\n\n") if line]
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert events[-1] == "data: [DONE]"
    assert all(json.loads(event.removeprefix("data: "))["choices"] for event in events[:-1])


def test_completions_whole_and_streamed(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    whole = client.completions.create(model="low", prompt="once", seed=1)
    assert (whole.object, whole.choices[0].text) == ("text_completion", "low\n1\nbye")
    pieces = list(client.completions.create(model="low", prompt="once", seed=1, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == "low\n1\nbye"
    assert pieces[-1].choices[0].finish_reason == "stop"
    assert registry.engines["low"].calls[0][0].prompt == "once"


def test_several_prompts_are_answered_n_times_each_in_order(registry: Any, client_of: Start) -> None:
    answer = client_of(registry).completions.create(model="both", prompt=["a", "b"], n=4)
    assert [choice.index for choice in answer.choices] == list(range(8))
    asked = {
        request.seed: request.prompt
        for engine in registry.engines.values()
        for call in engine.calls
        for request in call
    }
    prompts = [asked[int(choice.text.split("\n")[1])] for choice in answer.choices]
    assert prompts == ["a"] * 4 + ["b"] * 4
    assert answer.usage.prompt_tokens == 4 * 10  # two prompts, each read by two policies


def test_an_ensemble_splits_n_exactly_as_its_weights_say(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    for _ in range(10):
        raw = client.chat.completions.with_raw_response.create(model="both", n=8, **ASK)
        answer = raw.parse()
        assert choices_by_policy(answer) == {"low": 2, "high": 6}
        assert [choice.message.content.split("\n")[0] for choice in answer.choices] == [
            choice.policy["name"] for choice in answer.choices
        ]
        assert answer.usage.prompt_tokens == 2 * 10
        assert answer.usage.completion_tokens == 8 * 3
        assert "x-alphamix-policy" not in raw.headers


def test_single_choices_move_on_from_request_to_request(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    counts = Counter[str]()
    for _ in range(100):
        counts += choices_by_policy(client.chat.completions.create(model="both", **ASK))
    assert abs(counts["low"] - 25) <= 1


def test_a_streamed_ensemble_gives_every_choice_its_own_text(registry: Any, client_of: Start) -> None:
    texts, origins, roles = Counter[int](), {}, Counter[int]()
    contents: dict[int, str] = {}
    for chunk in client_of(registry).chat.completions.create(model="both", n=8, stream=True, **ASK):
        (choice,) = chunk.choices
        assert (choice.delta.role == "assistant") == (choice.index not in roles)
        roles[choice.index] += 1
        texts[choice.index] += choice.finish_reason is not None
        contents[choice.index] = contents.get(choice.index, "") + (choice.delta.content or "")
        origins[choice.index] = choice.policy["name"]
    assert texts == dict.fromkeys(range(8), 1)
    assert Counter(origins.values()) == {"low": 2, "high": 6}
    assert all(contents[index].split("\n")[0] == name for index, name in origins.items())
    assert len(set(contents.values())) == 8


def test_a_seed_fixes_the_answers_of_a_policy(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    one, again, other = (
        [c.message.content for c in client.chat.completions.create(model="low", n=3, seed=s, **ASK).choices]
        for s in (7, 7, 8)
    )
    assert one == again
    assert not set(one) & set(other)


def test_without_a_seed_no_two_answers_are_drawn_alike(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    answers = [client.chat.completions.create(model="low", n=4, **ASK) for _ in range(3)]
    assert len({choice.message.content for answer in answers for choice in answer.choices}) == 12


def test_the_asynchronous_client_many_at_once(registry: Any, serving: Any) -> None:
    async def ask(client: AsyncOpenAI, streamed: bool) -> str:
        if not streamed:
            answer = await client.chat.completions.create(model="both", **ASK)
            return answer.choices[0].message.content or ""
        stream = await client.chat.completions.create(model="both", stream=True, **ASK)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async def many(url: str) -> Sequence[str]:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, index % 2 == 0) for index in range(40)))

    answers = asyncio.run(many(serving(registry)))
    assert len(set(answers)) == 40
    assert {answer.split("\n")[0] for answer in answers} == {"low", "high"}


def test_an_unknown_model_lists_what_is_served(registry: Any, client_of: Start) -> None:
    client = client_of(registry)
    for ask in (
        lambda: client.chat.completions.create(model="hihg", **ASK),
        lambda: client.models.retrieve("hihg"),
    ):
        with pytest.raises(openai.NotFoundError) as raised:
            ask()
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
        assert "this server has low, high, both" in raised.value.message


def test_more_choices_than_allowed_are_refused(registry: Any, client_of: Start) -> None:
    client = client_of(registry, RequestLimits(choices=4))
    assert len(client.chat.completions.create(model="low", n=4, **ASK).choices) == 4
    with pytest.raises(openai.BadRequestError) as raised:
        client.completions.create(model="low", prompt=["a", "b", "c"], n=2)
    assert raised.value.param == "n"


@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_honoured_is_refused(registry: Any, client_of: Start, stream: bool) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client_of(registry).chat.completions.create(model="low", logprobs=True, stream=stream, **ASK)
    assert (raised.value.param, raised.value.code) == ("logprobs", "unsupported_parameter")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/chat/completions", b"{", 400),
        ("POST", "/chat/completions", b'{"model": "low", "messages": 3}', 400),
        ("POST", "/chat/completions", b" " * 2000, 413),
        ("GET", "/chat/completions", b"", 405),
        ("POST", "/nowhere", b"{}", 404),
    ],
)
def test_bad_requests_get_an_error_object(
    registry: Any, serving: Any, method: str, path: str, body: bytes, status: int
) -> None:
    url = serving(registry, RequestLimits(body_bytes=1000))
    answer = httpx.request(method, url + path, content=body, timeout=WAIT_S)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("cause", "kind", "status"),
    [
        ("server", openai.InternalServerError, 502),
        ("connection", openai.InternalServerError, 503),
        ("rejected", openai.BadRequestError, 400),
    ],
)
def test_a_failing_engine_is_never_an_empty_answer(
    fake_registry: Any,
    script_engine: Any,
    client_of: Start,
    cause: str,
    kind: type[openai.APIStatusError],
    status: int,
    stream: bool,
) -> None:
    engines = {"low": script_engine(lambda _: EngineFailure(cause, "at http://secret:1"))}
    with pytest.raises(kind) as raised:
        client_of(fake_registry(engines)).chat.completions.create(model="low", stream=stream, **ASK)
    assert (raised.value.status_code, raised.value.code) == (status, cause)
    assert "secret" not in raised.value.message


def test_a_policy_that_cannot_be_loaded_is_unavailable(fake_registry: Any, client_of: Start) -> None:
    class Broken(fake_registry):
        def open(self, name: str, options: object) -> Any:
            raise PolicyError("there is no folder /secret")

    with pytest.raises(openai.InternalServerError) as raised:
        client_of(Broken({"low": None})).chat.completions.create(model="low", **ASK)
    assert (raised.value.status_code, raised.value.code) == (503, "policy_unavailable")
    assert "secret" not in raised.value.message


def test_a_stream_that_breaks_off_says_so(fake_registry: Any, script_engine: Any, client_of: Start) -> None:
    """The first choice is whole when the second fails: the status is out, so an error event must tell."""

    def script(request: Request) -> Sequence[str] | EngineFailure:
        return ["fine"] if request.seed == 3 else EngineFailure("server", "gone")

    stream = client_of(fake_registry({"low": script_engine(script)})).chat.completions.create(
        model="low", n=2, seed=3, stream=True, **ASK
    )
    with pytest.raises(openai.APIError) as raised:
        for _ in stream:
            pass
    assert raised.value.code == "server"


def test_a_client_that_leaves_a_stream_stops_the_engine(
    fake_registry: Any, endless_engine: Any, client_of: Start
) -> None:
    engine = endless_engine()
    stream = client_of(fake_registry({"low": engine})).chat.completions.create(model="low", stream=True, **ASK)
    assert [next(stream).choices[0].delta.content for _ in range(3)] == ["", "more ", "more "]
    stream.close()
    assert engine.stopped.wait(WAIT_S)


def test_a_client_that_gives_up_waiting_stops_the_engine(fake_registry: Any, endless_engine: Any, serving: Any) -> None:
    engine = endless_engine()

    async def give_up(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            waiting = asyncio.create_task(client.chat.completions.create(model="low", **ASK))
            assert await asyncio.to_thread(engine.started.wait, WAIT_S)
            assert not engine.stopped.is_set()
            waiting.cancel()
            assert await asyncio.to_thread(engine.stopped.wait, WAIT_S)

    asyncio.run(give_up(serving(fake_registry({"low": engine}))))


def test_the_next_client_is_served_after_one_that_left(
    fake_registry: Any, endless_engine: Any, client_of: Start
) -> None:
    engine = endless_engine()
    client = client_of(fake_registry({"low": engine}))
    for _ in range(2):
        with client.chat.completions.create(model="low", stream=True, **ASK) as stream:
            assert next(iter(stream)).choices[0].delta.role == "assistant"
    assert len(engine.calls) == 2


def test_engines_are_opened_when_asked_and_closed_at_the_end(registry: Any, serving: Any) -> None:
    url = serving(registry)
    assert httpx.get(url.removesuffix("/v1") + "/health", timeout=WAIT_S).json() == {"status": "ok"}
    assert registry.opened == []
    for _ in range(2):
        httpx.post(f"{url}/chat/completions", json={"model": "low", **ASK}, timeout=WAIT_S)
    assert registry.opened == ["low"]


def test_text_that_breaks_json_or_events_arrives_unharmed(
    fake_registry: Any, script_engine: Any, client_of: Start
) -> None:
    hostile = 'data: [DONE]\n\n"\\\u2028\x00é\U0001f600\n\nevent: x'
    client = client_of(fake_registry({"low": script_engine(lambda _: [hostile])}))
    whole = client.chat.completions.create(model="low", **ASK)
    streamed = client.chat.completions.create(model="low", stream=True, **ASK)
    assert whole.choices[0].message.content == hostile
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == hostile


def test_serving_imports_no_torch() -> None:
    look = (
        "import sys, alphamix.ensemble.serve.server; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", look], text=True).strip() == "[]"


def test_a_fault_of_the_server_is_an_error_object_and_is_counted(
    fake_registry: Any, script_engine: Any, client_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("at http://secret:1")

    monkeypatch.setattr(Dispatcher, "plan", broken)
    client = client_of(fake_registry({"low": script_engine(lambda _: ["fine"])}))
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="low", **ASK)
    assert (raised.value.status_code, raised.value.code) == (500, "internal")
    assert "secret" not in raised.value.message
    metrics = httpx.get(str(client.base_url).replace("/v1/", "/metrics")).text
    assert 'alphamix_requests_total{model="low",status="500"} 1.0' in metrics
