"""Policies behind URLs, asked by the official client: what passes through, what is split, and what is hidden."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from alphamix.ensemble.serve.accounts import ClientKey
from alphamix.ensemble.serve.app import RequestLimits, ServeOptions
from alphamix.policies.registry import Registry

from .upstreams import EXTRAS, USAGE, FakeUpstream, hangs, says, status

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
WAIT_S = 60
KEY = "upstream-key-1234"

Serving = Callable[..., str]
Start = Callable[..., OpenAI]


@pytest.fixture
def registry(upstreams: dict[str, FakeUpstream], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.setenv("UPSTREAM_KEY", KEY)
    lines = [
        f'[policies.{name}]\nurl = "{fake.url}"\nmodel = "secret-model"\napi_key_env = "UPSTREAM_KEY"\n'
        for name, fake in upstreams.items()
    ]
    file = tmp_path / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 3 }"]))
    return Registry.load(file)


def policies_of(answer: Any) -> list[str]:
    return [choice.policy["name"] for choice in answer.choices]


def test_a_request_reaches_the_upstream_byte_for_byte_but_for_its_model(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Serving
) -> None:
    body = (
        b'{ "model":"low", "messages" : [{"role":"user", "content":"\\u00e9 \xc3\xa9","x":[1.10,1e2]}],"n":2,'
        b'"temperature":0.70, "logit_bias":{"5":-100}, "big":123456789012345678901234567890, "tools":[ ], "a":null}'
    )
    answer = httpx.post(f"{serving(registry)}/chat/completions", content=body, timeout=WAIT_S)
    assert answer.status_code == 200
    assert [request.body for request in upstreams["low"].requests] == [
        b'{"model":"secret-model","messages":[{"role":"user", "content":"\\u00e9 \xc3\xa9","x":[1.10,1e2]}],"n":2,'
        b'"temperature":0.70,"logit_bias":{"5":-100},"big":123456789012345678901234567890,"tools":[ ],"a":null}'
    ]
    assert upstreams["low"].requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_an_answer_comes_back_as_it_was_with_model_and_policy(registry: Registry, serving: Serving) -> None:
    ask = {"model": "low", "n": 2, "logprobs": True, **ASK}
    raw = httpx.post(f"{serving(registry)}/chat/completions", json=ask, timeout=WAIT_S)
    answer = raw.json()
    assert b"-0.1234567890123456" in raw.content  # logprobs lose no digit
    assert (answer["id"], answer["model"], answer["usage"]) == ("cmpl-low", "low", USAGE)
    assert {key: answer[key] for key in EXTRAS} == EXTRAS
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["low 0", "low 1"]
    assert [choice["policy"] for choice in answer["choices"]] == [{"name": "low", "alpha": None}] * 2
    assert raw.headers["x-alphamix-policy"] == "low"


def test_the_official_client_reads_logprobs_and_usage(registry: Registry, client_of: Start) -> None:
    answer = client_of(registry).chat.completions.create(model="high", logprobs=True, **ASK)
    assert answer.choices[0].logprobs.content[0].logprob == -0.1234567890123456
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_a_stream_passes_through(registry: Registry, client_of: Start) -> None:
    stream = client_of(registry).chat.completions.create(
        model="low", stream=True, n=2, stream_options={"include_usage": True}, **ASK
    )
    chunks = list(stream)
    texts = {0: "", 1: ""}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content
        assert (choice.policy["name"], chunk.model, chunk.id) == ("low", "low", "cmpl-low")
    assert texts == {0: "low goes on", 1: "low goes on"}
    assert chunks[-1].usage.total_tokens == 13


def test_an_ensemble_splits_asks_and_sums(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    raw = client_of(registry).chat.completions.with_raw_response.create(model="both", n=8, seed=5, **ASK)
    answer = raw.parse()
    assert [choice.index for choice in answer.choices] == list(range(8))
    assert policies_of(answer) == ["low"] * 2 + ["high"] * 6
    assert [choice.message.content for choice in answer.choices[:3]] == ["low 0", "low 1", "high 0"]
    assert answer.usage.total_tokens == 26
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert answer.model == "both"
    assert answer.id.startswith("chatcmpl-")
    assert raw.headers["x-alphamix-policies"] == "low=2, high=6"
    (low,), (high,) = upstreams["low"].asked(), upstreams["high"].asked()
    assert (low["n"], high["n"], low["seed"]) == (2, 6, 5)
    assert high["seed"] not in (5, None)


def test_a_request_without_a_seed_is_sent_without_one(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    client_of(registry).chat.completions.create(model="both", n=8, **ASK)
    assert "seed" not in upstreams["high"].asked()[0]


def test_several_prompts_of_an_ensemble_keep_their_places(registry: Registry, client_of: Start) -> None:
    answer = client_of(registry).completions.create(model="both", prompt=["a", "b"], n=4)
    assert [choice.index for choice in answer.choices] == list(range(8))
    assert policies_of(answer) == (["low"] + ["high"] * 3) * 2
    texts = [choice.text for choice in answer.choices]
    assert texts == ["low 0", "high 0", "high 1", "high 2", "low 1", "high 3", "high 4", "high 5"]


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_streamed_ensemble_interleaves_real_chunks_under_one_id(
    registry: Registry, client_of: Start, include_usage: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if include_usage else {}
    chunks = list(client_of(registry).chat.completions.create(model="both", n=4, stream=True, **options, **ASK))
    texts, origins, ends = dict.fromkeys(range(4), ""), {}, Counter[int]()
    for choice in [choice for chunk in chunks for choice in chunk.choices]:
        texts[choice.index] += choice.delta.content
        origins[choice.index] = choice.policy["name"]
        ends[choice.index] += choice.finish_reason == "stop"
    assert texts == {0: "low goes on", 1: "high goes on", 2: "high goes on", 3: "high goes on"}
    assert origins == {0: "low", 1: "high", 2: "high", 3: "high"}
    assert set(ends.values()) == {1}
    assert len({chunk.id for chunk in chunks}) == 1
    usages = [chunk.usage.total_tokens for chunk in chunks if chunk.usage]
    assert usages == ([26] if include_usage else [])


def test_single_choices_rotate_and_sessions_stay(registry: Registry, client_of: Start) -> None:
    client = client_of(registry)
    turns = Counter(policies_of(client.chat.completions.create(model="both", **ASK))[0] for _ in range(40))
    assert abs(turns["low"] - 10) <= 1
    for ask in ({"user": "ann"}, {"extra_headers": {"x-alphamix-session": "talk 7"}}):
        got = {policies_of(client.chat.completions.create(model="both", **ask, **ASK))[0] for _ in range(6)}
        assert len(got) == 1


def test_models_tell_the_context_length_and_no_secret(registry: Registry, serving: Serving) -> None:
    answer = httpx.get(f"{serving(registry)}/models", timeout=WAIT_S)
    assert [(m["id"], m["max_model_len"]) for m in answer.json()["data"]] == [
        ("low", 4096),
        ("high", 4096),
        ("both", 4096),
    ]
    assert "secret" not in answer.text


def test_the_reason_of_a_refusal_names_no_addresses(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    url, port = upstreams["low"].url, upstreams["low"].port
    message = f"secret-model at {url} (127.0.0.1:{port}, key {KEY}): maximum context length is 4096"
    error = {"error": {"message": message, "type": "BadRequestError", "param": "messages", "code": 400}}
    upstreams["low"].behaviour = status(400, error)
    with pytest.raises(openai.BadRequestError) as raised:
        client_of(registry).chat.completions.create(model="low", **ASK)
    told = raised.value.message
    assert "maximum context length is 4096" in told
    assert raised.value.param == "messages"
    assert not any(secret in told for secret in ("secret-model", "127.0.0.1", str(port), KEY))


@pytest.mark.parametrize(("code", "kind"), [(401, openai.InternalServerError), (404, openai.InternalServerError)])
def test_a_fault_of_our_own_set_up_is_no_fault_of_the_client(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, code: int, kind: type[Exception]
) -> None:
    upstreams["low"].behaviour = status(code, {"error": {"message": f"wrong key {KEY}"}})
    with pytest.raises(kind) as raised:
        client_of(registry).chat.completions.create(model="low", **ASK)
    assert KEY not in str(raised.value)


def test_a_limit_of_the_upstream_is_passed_on(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    upstreams["low"].behaviour = status(429, **{"retry-after": "7"})
    with pytest.raises(openai.RateLimitError) as raised:
        client_of(registry).chat.completions.create(model="low", **ASK)
    assert raised.value.response.headers["retry-after"] == "7"


def test_a_server_that_asks_for_a_pause_is_quoted(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    upstreams["low"].behaviour = status(503, **{"retry-after": "7"})
    with pytest.raises(openai.InternalServerError) as raised:
        client_of(registry).chat.completions.create(model="low", **ASK)
    assert raised.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_cancels_every_upstream_call(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Serving, stream: bool
) -> None:
    for fake in upstreams.values():
        fake.behaviour = hangs

    async def give_up(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            waiting = asyncio.create_task(client.chat.completions.create(model="both", n=4, stream=stream, **ASK))
            for fake in upstreams.values():
                assert await asyncio.to_thread(fake.arrived.wait, WAIT_S)
                assert not fake.abandoned.is_set()
            waiting.cancel()
            for fake in upstreams.values():
                assert await asyncio.to_thread(fake.abandoned.wait, WAIT_S)

    asyncio.run(give_up(serving(registry)))


def test_more_requests_than_may_be_under_way_are_sent_off(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Serving
) -> None:
    upstreams["low"].behaviour = hangs

    async def ask(url: str) -> None:
        async with AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            waiting = asyncio.create_task(client.chat.completions.create(model="low", **ASK))
            assert await asyncio.to_thread(upstreams["low"].arrived.wait, WAIT_S)
            with pytest.raises(openai.RateLimitError) as raised:
                await client.chat.completions.create(model="low", **ASK)
            assert raised.value.response.headers["retry-after"] == "1"
            other = await client.chat.completions.create(model="both", n=4, **ASK)
            assert policies_of(other) == ["high"] * 4
            waiting.cancel()

    asyncio.run(ask(serving(registry, ServeOptions(limits=RequestLimits(in_flight=1)))))


def test_only_clients_with_a_key_are_served(registry: Registry, serving: Serving) -> None:
    url = serving(registry, ServeOptions(keys=(ClientKey("1", "one"), ClientKey("2", "twö"))))
    root = url.removesuffix("/v1")
    for key in ("one", "twö"):
        given = {"authorization": f"Bearer {key}".encode()}
        assert httpx.get(f"{url}/models", headers=given, timeout=WAIT_S).status_code == 200
    for headers in ({}, {"authorization": "Bearer on"}, {"authorization": "one"}, {"authorization": "Basic one"}):
        answer = httpx.get(f"{url}/models", headers=headers, timeout=WAIT_S)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert httpx.get(f"{root}/metrics", timeout=WAIT_S).status_code == 401
    assert [httpx.get(f"{root}/{path}", timeout=WAIT_S).status_code for path in ("health", "ready")] == [200, 200]


def test_the_other_routes(registry: Registry, serving: Serving) -> None:
    url = serving(registry)
    root = url.removesuffix("/v1")
    answer = httpx.post(
        f"{url}/chat/completions", json={"model": "low", **ASK}, headers={"x-request-id": "r-1"}, timeout=WAIT_S
    )
    assert answer.headers["x-request-id"] == "r-1"
    httpx.post(f"{url}/chat/completions", json={"model": "../secret", **ASK}, timeout=WAIT_S)
    assert set(httpx.get(f"{root}/version", timeout=WAIT_S).json()) == {"version"}
    assert httpx.get(f"{root}/ready", timeout=WAIT_S).json() == {"ready": True, "out_of_service": []}
    metrics = httpx.get(f"{root}/metrics", timeout=WAIT_S).text
    assert 'alphamix_requests_total{model="low",status="200"} 1.0' in metrics
    assert 'alphamix_requests_total{model="",status="404"} 1.0' in metrics
    assert 'alphamix_policy_calls_total{outcome="ok",policy="low"} 1.0' in metrics
    assert 'alphamix_policy_in_flight{policy="low"} 0.0' in metrics
    assert "secret" not in metrics


def test_a_large_body_and_a_large_answer_arrive_whole(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Serving
) -> None:
    text = "é" * 2**20
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    upstreams["low"].behaviour = says(json.dumps({"id": "x", "choices": [choice]}).encode())
    ask = {"model": "low", "messages": [{"role": "user", "content": text}]}
    answer = httpx.post(f"{serving(registry)}/chat/completions", json=ask, timeout=WAIT_S)
    assert answer.json()["choices"][0]["message"]["content"] == text
    assert upstreams["low"].asked()[0]["messages"][0]["content"] == text


def test_a_server_that_our_engine_starts_is_relayed_too(
    upstreams: dict[str, FakeUpstream], tmp_path: Path, client_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vllm.toml"
    file.write_text('[engine]\nname = "vllm"\n[policies.own]\ncheckpoint = "org/model"\n')
    opened: list[str] = []

    def start(_: Registry, name: str, options: object) -> Any:
        opened.append(name)
        server = SimpleNamespace(url=upstreams["low"].url, api_key=KEY)
        return SimpleNamespace(server=server, model="own", extra_body={}, close=lambda: None)

    monkeypatch.setattr(Registry, "open", start)
    client = client_of(Registry.load(file))
    assert [model.id for model in client.models.list()] == ["own"]
    assert not opened
    answers = [client.chat.completions.create(model="own", logprobs=True, **ASK) for _ in range(2)]
    assert [answer.choices[0].message.content for answer in answers] == ["low 0"] * 2
    assert len(list(client.chat.completions.create(model="own", stream=True, **ASK))) == 3
    assert opened == ["own"]
    assert upstreams["low"].requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert upstreams["low"].asked()[0]["model"] == "own"


@pytest.mark.parametrize("stream", [False, True])
def test_a_server_of_ours_that_has_died_is_started_again(
    tmp_path: Path, client_of: Start, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    file = tmp_path / "vllm.toml"
    file.write_text('[engine]\nname = "vllm"\n[policies.own]\ncheckpoint = "org/model"\n')
    closed: list[str] = []
    with ExitStack() as first, FakeUpstream("second") as second:
        urls = iter([first.enter_context(FakeUpstream("first")).url, second.url])

        def start(*_: object) -> Any:
            url = next(urls)
            server = SimpleNamespace(url=url, api_key=KEY)
            close = lambda: closed.append(url)  # noqa: E731
            return SimpleNamespace(server=server, model="secret-model", extra_body={}, close=close)

        def ask() -> str:
            if not stream:
                return client.chat.completions.create(model="own", **ASK).choices[0].message.content or ""
            chunks = client.chat.completions.create(model="own", stream=True, **ASK)
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)

        monkeypatch.setattr(Registry, "open", start)
        client = client_of(Registry.load(file))
        assert ask().startswith("first ")
        first.close()
        with pytest.raises(openai.InternalServerError) as raised:
            ask()
        assert raised.value.code == "connection"
        assert len(closed) == 1
        assert ask().startswith("second ")


def test_a_pair_on_a_server_of_ours_is_relayed_with_its_alpha(
    upstreams: dict[str, FakeUpstream], tmp_path: Path, client_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "vllm.toml"
    ends = '[engine]\nname = "vllm"\n[policies.low]\ncheckpoint = "a/low"\n[policies.high]\ncheckpoint = "a/high"\n'
    file.write_text(ends + '[policies.pair]\nlogits = { low = "low", high = "high", alpha = 1.5 }\n')
    server = SimpleNamespace(url=upstreams["low"].url, api_key=KEY)
    extra = {"vllm_xargs": {"alpha": 1.5}}
    engine = SimpleNamespace(server=server, model="pair", extra_body=extra, close=lambda: None)
    monkeypatch.setattr(Registry, "open", lambda *_: engine)
    client = client_of(Registry.load(file))
    client.chat.completions.create(model="pair", logprobs=True, **ASK)
    client.chat.completions.create(model="pair", extra_body={"vllm_xargs": {"alpha": 9, "x": "y"}}, **ASK)
    assert [asked["vllm_xargs"] for asked in upstreams["low"].asked()] == [{"alpha": 1.5}, {"alpha": 1.5, "x": "y"}]
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="pair", extra_body={"vllm_xargs": 3}, **ASK)
    assert raised.value.param == "vllm_xargs"
