"""One client, one odd request or one odd server does not spoil an ensemble for the others; all is told as it was."""

import asyncio
import json
import math
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.accounts import ClientKey, tokens_by_key
from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.ensemble.serve.backends.proxy import retry_after_s
from alphamix.policies.engines.openai.fake_server import AnyReply, FakeRequest
from alphamix.policies.registry import Registry

from .conftest import logged
from .upstreams import (
    USAGE,
    FakeUpstream,
    chunks_of,
    endless,
    events,
    hangs,
    json_reply,
    says,
    status,
    stream,
    well,
    well_after,
    whole_body,
)

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
WAIT_S = 60
POISON = "poison"

Start = Callable[..., OpenAI]


@pytest.fixture
def file(upstreams: dict[str, FakeUpstream], tmp_path: Path) -> Path:
    lines = [f'[policies.{name}]\nurl = "{fake.url}"\nmodel = "secret-model"\n' for name, fake in upstreams.items()]
    path = tmp_path / "policies.toml"
    path.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 1 }"]))
    return path


@pytest.fixture
def registry(file: Path) -> Registry:
    return Registry.load(file)


async def fails_on_poison(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    return await (status(500) if POISON in request.body.decode() else well)(upstream, request)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["both", "low"])
def test_a_request_that_fails_everywhere_puts_no_policy_out_of_service(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, model: str, streamed: bool
) -> None:
    for fake in upstreams.values():
        fake.behaviour = fails_on_poison
    client = client_of(registry)
    for _ in range(8):
        with pytest.raises(openai.InternalServerError):
            client.chat.completions.create(model=model, stream=streamed, user=POISON, **ASK)
    answer = client.chat.completions.create(model=model, n=2, **ASK)
    assert len(answer.choices) == 2
    ready = httpx.get(str(client.base_url).replace("/v1/", "/ready"), timeout=WAIT_S)
    assert ready.json()["out_of_service"] == []


@pytest.mark.parametrize("streamed", [False, True])
def test_a_policy_that_fails_what_another_answers_is_put_out_of_service(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, streamed: bool
) -> None:
    upstreams["low"].behaviour = status(500)
    client = client_of(registry)
    for _ in range(8):
        answer = client.chat.completions.create(model="both", stream=streamed, **ASK)
        assert not streamed or len(list(answer)) == 3
    assert len(upstreams["low"].requests) == BreakerOptions().failures


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_bytes_that_are_no_text_are_refused_and_never_relayed(
    registry: Registry, upstreams: dict[str, FakeUpstream], serving: Callable[..., str], path: str
) -> None:
    body = b'{"model": "both", "prompt": "x", "messages": [{"role": "user", "content": "\xff\xfe"}]}'
    answer = httpx.post(f"{serving(registry)}/{path}", content=body, timeout=WAIT_S)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert not [request for fake in upstreams.values() for request in fake.requests]


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_rests_an_upstream(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, code: int
) -> None:
    upstreams["low"].behaviour = status(code, **{"retry-after": "30"})
    client = client_of(registry)
    for _ in range(6):
        assert len(client.chat.completions.create(model="both", n=2, **ASK).choices) == 2
    assert len(upstreams["low"].requests) == 1
    with pytest.raises(openai.RateLimitError) as raised:
        client.chat.completions.create(model="low", **ASK)
    assert 20 <= int(raised.value.response.headers["retry-after"]) <= 30


def test_without_retry_after_an_upstream_is_not_rested(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    upstreams["low"].behaviour = status(429)
    client = client_of(registry)
    for _ in range(6):
        client.chat.completions.create(model="both", n=2, **ASK)
    assert len(upstreams["low"].requests) == 6


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after_s("7", 0) == 7
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 15) == 45
    assert retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 1e9) == 0
    assert [retry_after_s(text, 0) for text in ("", "soon", "-3", "²", "Thu, 99 Jan")] == [None] * 5


async def ignores_n(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    one = replace(request, body=json.dumps({**request.json, "n": 1}).encode())
    seed = request.json.get("seed")
    if request.json.get("stream"):
        return events(chunks_of(f"{upstream.name} {seed}", one))
    return json_reply(whole_body(f"{upstream.name} {seed}", one))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["both", "low"])
def test_a_server_that_ignores_n_is_asked_one_by_one(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, model: str, streamed: bool
) -> None:
    upstreams["low"].behaviour = ignores_n
    client = client_of(registry)
    for _ in range(5):
        texts = dict.fromkeys(range(4), "")
        if streamed:
            options = {"include_usage": True}
            chunks = list(
                client.chat.completions.create(model=model, n=4, seed=7, stream=True, stream_options=options, **ASK)
            )
            for choice in [choice for chunk in chunks for choice in chunk.choices]:
                texts[choice.index] += choice.delta.content or ""
            assert len({chunk.id for chunk in chunks}) == 1
            usage = chunks[-1].usage
            assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
        else:
            answer = client.chat.completions.create(model=model, n=4, seed=7, **ASK)
            texts = {choice.index: choice.message.content for choice in answer.choices}
            usage = answer.usage
        assert all(texts.values())
        assert len({text for text in texts.values() if text.startswith("low")}) == (4 if model == "low" else 2)
        calls = 4 if model == "low" else 3
        assert usage.completion_tokens == calls * USAGE["completion_tokens"]
    many = [asked for asked in upstreams["low"].asked() if asked.get("n", 1) > 1]
    assert len(many) == 1
    ready = httpx.get(str(client.base_url).replace("/v1/", "/ready"), timeout=WAIT_S)
    assert ready.json()["out_of_service"] == []


def in_last_choice(upstream: FakeUpstream, request: FakeRequest) -> Iterator[dict[str, Any]]:
    chunks = [chunk for chunk in chunks_of(upstream.name, request) if chunk["choices"]]
    chunks[-1]["usage"] = USAGE
    yield from chunks


async def tells_usage_early(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    return events(in_last_choice(upstream, request))


async def tells_no_usage(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    if not request.json.get("stream"):
        return json_reply({**whole_body(upstream.name, request), "usage": None})
    return events(chunk for chunk in chunks_of(upstream.name, request) if chunk["choices"])


@pytest.mark.parametrize(("behaviour", "total"), [(tells_usage_early, 26), (tells_no_usage, None), (well, 26)])
def test_usage_of_a_streamed_ensemble_is_the_sum_or_null(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, behaviour: Any, total: int | None
) -> None:
    upstreams["low"].behaviour = behaviour
    options = {"include_usage": True}
    *chunks, last = client_of(registry).chat.completions.create(
        model="both", n=4, stream=True, stream_options=options, **ASK
    )
    assert [chunk.usage for chunk in chunks] == [None] * len(chunks)
    assert (last.choices, last.usage and last.usage.total_tokens) == ([], total)


def test_a_stream_has_no_usage_if_the_client_asks_for_none(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start
) -> None:
    upstreams["low"].behaviour = tells_usage_early
    chunks = list(client_of(registry).chat.completions.create(model="both", n=4, stream=True, **ASK))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_list_of_models_does_not_wait_for_a_hung_upstream(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = threading.Event()

    async def hang(*_: Any) -> Any:
        await asyncio.to_thread(hung.wait, WAIT_S)

    monkeypatch.setattr("alphamix.ensemble.serve.backends.proxy.Proxy.describe", hang)
    try:
        client = client_of(registry)
        assert [model.id for model in client.models.list()] == ["low", "high", "both"]
        assert not hung.is_set()
    finally:
        hung.set()


def test_a_request_id_goes_upstream_and_failures_are_logged(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, tmp_path: Path
) -> None:
    upstreams["low"].behaviour = says(b'{"choices": []}')
    log = tmp_path / "requests.jsonl"
    client = client_of(registry, ServeOptions(request_log=log))
    client.chat.completions.create(model="both", n=2, extra_headers={"x-request-id": "r-7"}, **ASK)
    sent = {request.headers["x-request-id"] for fake in upstreams.values() for request in fake.requests}
    (record,) = logged(log, 1)
    assert (sent, record["id"], record["status"]) == ({"r-7"}, "r-7", 200)
    assert record["failures"] == [{"policy": "low", "cause": "malformed"}]
    assert record["policies"].keys() == {"high"}
    assert record["policies"]["high"]["choices"] == 2


def test_headers_and_queries_and_users_of_a_url(
    upstreams: dict[str, FakeUpstream], tmp_path: Path, client_of: Start, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("AZURE", "azure-secret")
    low = upstreams["low"]
    url = low.url.replace("http://", "http://ann:pw-secret@") + "?api-version=3"
    path = tmp_path / "headers.toml"
    path.write_text(
        f'[policies.low]\nurl = "{url}"\nmodel = "m"\nheaders = {{ x-team = "blue" }}\n'
        'headers_env = { api-key = "AZURE" }\n'
    )
    client = client_of(Registry.load(path))
    low.behaviour = says(b"{}")
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="low", **ASK)
    (request,) = low.requests
    assert request.path == "/v1/chat/completions?api-version=3"
    assert request.headers["authorization"] == "Basic YW5uOnB3LXNlY3JldA=="
    assert (request.headers["x-team"], request.headers["api-key"]) == ("blue", "azure-secret")
    assert "secret" not in caplog.text + raised.value.message


def test_a_session_stays_with_its_replica(upstreams: dict[str, FakeUpstream], tmp_path: Path, client_of: Start) -> None:
    path = tmp_path / "replicas.toml"
    urls = json.dumps([fake.url for fake in upstreams.values()])
    path.write_text(f'[policies.low]\nurl = {urls}\nmodel = "m"\n')
    client = client_of(Registry.load(path))
    used = Counter[str]()
    for session in range(12):
        headers = {"x-alphamix-session": f"talk {session}"}
        said = {
            client.chat.completions.create(model="low", extra_headers=headers, **ASK).choices[0].message.content
            for _ in range(4)
        }
        assert len(said) == 1
        used.update(said)
    assert len(used) == 2


async def begins_and_hangs(upstream: FakeUpstream, request: FakeRequest) -> AnyReply:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"data: " + json.dumps(next(chunks_of(upstream.name, request))).encode() + b"\n\n"
        await asyncio.sleep(600)

    return stream(pieces())


def test_a_drain_that_runs_out_ends_streams_and_requests_in_the_form_of_the_api(
    upstreams: dict[str, FakeUpstream], file: Path
) -> None:
    upstreams["low"].behaviour, upstreams["high"].behaviour = begins_and_hangs, hangs
    command = [sys.executable, "-m", "alphamix", "serve", str(file), "--port", "0", "--drain", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(line.split("on ")[1].split()[0] for line in server.stderr if "running on" in line)
        answers: dict[str, httpx.Response] = {}

        def ask(path: str, model: str, is_stream: bool) -> None:
            body = {"model": model, "stream": is_stream, **(ASK if path == "chat/completions" else {"input": "hi"})}
            answers[f"{path} {model}"] = httpx.post(f"{address}/v1/{path}", json=body, timeout=WAIT_S)

        asked = [("chat/completions", "low", True), ("responses", "low", True), ("chat/completions", "high", False)]
        asking = [threading.Thread(target=ask, args=given) for given in asked]
        for thread in asking:
            thread.start()
        for fake in upstreams.values():
            assert fake.arrived.wait(WAIT_S)
        while 'in_flight{policy="low"} 2.0' not in httpx.get(f"{address}/metrics", timeout=WAIT_S).text:
            pass
        server.send_signal(signal.SIGTERM)
        for thread in asking:
            thread.join(WAIT_S)
        assert "Traceback" not in server.stderr.read()
    whole, streamed, response = (
        answers[key] for key in ("chat/completions high", "chat/completions low", "responses low")
    )
    assert (whole.status_code, whole.json()["error"]["code"]) == (503, "stopping")
    last = streamed.text.rstrip().split("\n\n")[-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopping"
    kind, data = response.text.rstrip().split("\n\n")[-1].split("\n")
    assert kind == "event: response.failed"
    assert json.loads(data.removeprefix("data: "))["response"]["error"]["code"] == "stopping"


def test_a_reload_loses_no_request_and_a_wrong_file_changes_nothing(
    upstreams: dict[str, FakeUpstream], file: Path
) -> None:
    release = threading.Event()
    upstreams["low"].behaviour = well_after(release)
    old = file.read_text()
    command = [sys.executable, "-m", "alphamix", "serve", str(file), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(line.split("on ")[1].split()[0] for line in server.stderr if "running on" in line)
        answers: list[httpx.Response] = []

        def ask(model: str) -> int:
            answer = httpx.post(f"{address}/v1/chat/completions", json={"model": model, **ASK}, timeout=WAIT_S)
            answers.append(answer)
            return answer.status_code

        asking = threading.Thread(target=ask, args=("low",))
        asking.start()
        assert upstreams["low"].arrived.wait(WAIT_S)
        for text, said in (("[policies]\nlow = 3", "nothing is reloaded"), (old.replace("low", "new"), "is reloaded")):
            file.write_text(text)
            server.send_signal(signal.SIGHUP)
            assert any(said in line for line in server.stderr)
        assert [ask("high"), ask("low")] == [200, 404]
        release.set()
        asking.join(WAIT_S)
        assert ask("new") == 200
        assert answers[2].json()["choices"][0]["message"]["content"] == "low 0"
        server.send_signal(signal.SIGTERM)
        assert "Traceback" not in server.stderr.read()
    assert server.returncode in (0, -signal.SIGTERM)


def test_calls_without_usage_are_charged_by_an_estimate(
    registry: Registry, upstreams: dict[str, FakeUpstream], client_of: Start, tmp_path: Path
) -> None:
    log, low = tmp_path / "requests.jsonl", upstreams["low"]
    key = ClientKey("ann", "a", tokens=740)
    client = client_of(registry, ServeOptions(keys=(key,), request_log=log), api_key="a")
    low.behaviour = tells_no_usage
    prompt = {"messages": [{"role": "user", "content": "x" * 960}]}
    client.chat.completions.create(model="low", **prompt)
    list(client.chat.completions.create(model="low", stream=True, **prompt))
    low.behaviour = endless
    with client.chat.completions.create(model="low", stream=True, **prompt) as broken_off:
        next(iter(broken_off))
    records = logged(log, 3)
    shares = [record["policies"]["low"] for record in records]
    assert [share["prompt_tokens"] for share in shares] == [None, None, 0]
    assert all(share["tokens"] == share["estimated_tokens"] for share in shares)
    whole, streamed, partial = (share["tokens"] for share in shares)
    messages = re.search(rb'"messages": ?(\[.*?\])', low.requests[0].body)  # releases of openai space them differently
    assert messages is not None
    read = len(messages[1])
    assert (whole, streamed) == (math.ceil((read + len("low 0")) / 4), math.ceil((read + len("low goes on")) / 4))
    assert read // 4 <= partial < read
    assert sum(tokens_by_key(records).values()) == whole + streamed + partial
    with pytest.raises(openai.RateLimitError, match="has spent its 740 tokens"):
        client.chat.completions.create(model="low", **prompt)
