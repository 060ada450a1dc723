"""Upstreams that die, hang, err or stream garbage: an answer of another policy, or a proper error; never nothing."""

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.ensemble.serve.backends.timeouts import Timeouts
from alphamix.policies.engines.openai import fake_server
from alphamix.policies.registry import Registry

from .upstreams import Behaviour, FakeUpstream, hangs, hangs_up, says, status, stream_then, well, well_after

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}]}
WAIT_S = 60
SHORT = Timeouts(connect_s=5, first_byte_s=1.5, idle_s=1.5, total_s=60)
NEVER_OPEN = BreakerOptions(failures=10**6)
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}

WHOLE_FAULTS: dict[str, tuple[Behaviour, str]] = {
    "error 500": (status(500), "server"),
    "error 503 of a proxy": (status(503, "<html>"), "server"),
    "redirect": (status(302, location="http://elsewhere/"), "malformed"),
    "hangs": (hangs, "timeout"),
    "hangs up": (hangs_up, "connection"),
    "no JSON": (says(b"<html>fine</html>"), "malformed"),
    "half": (says(json.dumps({"choices": [CHOICE]}).encode()[:-3]), "malformed"),
    "nothing": (says(b""), "malformed"),
    "an empty object": (says(b"{}"), "malformed"),
    "no choices": (says(b'{"choices": []}'), "malformed"),
    "null choices": (says(b'{"choices": null}'), "malformed"),
    "an empty choice": (says(b'{"choices": [{"index": 0}]}'), "malformed"),
    "too many": (says(json.dumps({"choices": [{**CHOICE, "index": i} for i in range(3)]}).encode()), "malformed"),
    "a wrong index": (says(json.dumps({"choices": [{**CHOICE, "index": 7}]}).encode()), "malformed"),
    "a negative index": (says(json.dumps({"choices": [{**CHOICE, "index": -1}]}).encode()), "malformed"),
    "an error inside": (says(b'{"error": {"message": "secret"}, "choices": []}'), "malformed"),
    "deep": (says(b'{"choices": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "malformed"),
}
STREAM_FAULTS: dict[str, tuple[Behaviour, str]] = {
    "error 500": (status(500), "server"),
    "hangs": (hangs, "timeout"),
    "hangs up": (hangs_up, "connection"),
    "no events": (says(json.dumps({"choices": [CHOICE]}).encode()), "malformed"),
    "nothing": (says(b"", "text/event-stream"), "malformed"),
    "done at once": (says(b"data: [DONE]\n\n", "text/event-stream"), "malformed"),
    "garbage": (says(b"data: fine\n\n", "text/event-stream"), "malformed"),
    "an error": (says(b'data: {"error": {"message": "secret"}}\n\n', "text/event-stream"), "malformed"),
    "silence": (stream_then(None, num_chunks=0), "timeout"),
}
BROKEN_OFF: dict[str, tuple[Behaviour, str]] = {
    "ends": (stream_then(b""), "malformed"),
    "done too early": (stream_then(b"data: [DONE]\n\n"), "malformed"),
    "garbage": (stream_then(b"data: {]\n\n"), "malformed"),
    "an error": (stream_then(b'data: {"error": {"message": "secret"}}\n\n'), "malformed"),
    "hangs": (stream_then(None), "timeout"),
}


@pytest.fixture
def registry(upstreams: dict[str, FakeUpstream], tmp_path: Path) -> Registry:
    return Registry.load(policies_file(tmp_path, {name: fake.url for name, fake in upstreams.items()}))


def policies_file(folder: Path, urls: dict[str, str]) -> Path:
    lines = [f'[policies.{name}]\nurl = "{url}"\nmodel = "secret-model"\n' for name, url in urls.items()]
    file = folder / "policies.toml"
    file.write_text("\n".join([*lines, "[mixtures.both]\nweights = { low = 1, high = 1 }"]))
    return file


@pytest.fixture
def client(registry: Registry, client_of: Callable[..., OpenAI]) -> OpenAI:
    return client_of(registry, ServeOptions(timeouts=SHORT, breaker=NEVER_OPEN))


def is_clean(error: openai.APIError) -> bool:
    return not any(word in str(error.body) + error.message for word in ("secret", "127.0.0.1", "elsewhere"))


@pytest.mark.parametrize("fault", WHOLE_FAULTS)
def test_a_policy_that_is_asked_alone_fails_with_an_error(
    upstreams: dict[str, FakeUpstream], client: OpenAI, fault: str
) -> None:
    upstreams["low"].behaviour, code = WHOLE_FAULTS[fault]
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="low", **ASK)
    assert raised.value.code == code
    assert raised.value.status_code in (502, 503, 504)
    assert is_clean(raised.value)


@pytest.mark.parametrize("fault", WHOLE_FAULTS)
def test_the_share_of_a_policy_that_fails_goes_to_the_others(
    upstreams: dict[str, FakeUpstream], client: OpenAI, fault: str
) -> None:
    upstreams["low"].behaviour, _ = WHOLE_FAULTS[fault]
    answer = client.chat.completions.create(model="both", n=4, seed=3, **ASK)
    assert [choice.policy["name"] for choice in answer.choices] == ["high"] * 4
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    seeds = [asked["seed"] for asked in upstreams["high"].asked()]
    assert len(set(seeds)) == 2  # its own share and the other's are not drawn alike


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_the_status_reports_a_stream_that_never_begins(
    upstreams: dict[str, FakeUpstream], client: OpenAI, fault: str
) -> None:
    upstreams["low"].behaviour, code = STREAM_FAULTS[fault]
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="low", stream=True, **ASK)
    assert raised.value.code == code
    assert is_clean(raised.value)


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_a_streamed_share_goes_to_the_others_before_it_has_begun(
    upstreams: dict[str, FakeUpstream], client: OpenAI, fault: str
) -> None:
    upstreams["low"].behaviour, _ = STREAM_FAULTS[fault]
    texts = dict.fromkeys(range(4), "")
    for chunk in client.chat.completions.create(model="both", n=4, stream=True, **ASK):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content
    assert texts == dict.fromkeys(range(4), "high goes on")


@pytest.mark.parametrize("model", ["low", "both"])
@pytest.mark.parametrize("fault", BROKEN_OFF)
def test_a_stream_that_breaks_off_ends_with_an_error(
    upstreams: dict[str, FakeUpstream], client: OpenAI, fault: str, model: str
) -> None:
    upstreams["low"].behaviour, code = BROKEN_OFF[fault]
    got: list[str] = []

    def read_all() -> None:
        for chunk in client.chat.completions.create(model=model, n=2, stream=True, **ASK):
            got.extend(choice.policy["name"] for choice in chunk.choices)
            if "low" in got:
                upstreams["low"].go_on.set()

    with pytest.raises(openai.APIError) as raised:
        read_all()
    assert "low" in got
    assert raised.value.code == code
    assert is_clean(raised.value)


def test_a_request_that_is_wrong_is_not_taken_to_others(upstreams: dict[str, FakeUpstream], client: OpenAI) -> None:
    upstreams["low"].behaviour = status(400, {"error": {"message": "too long"}})
    with pytest.raises(openai.BadRequestError, match="too long"):
        client.chat.completions.create(model="both", n=2, **ASK)
    assert len(upstreams["high"].requests) <= 1


def test_if_all_fail_the_client_receives_the_error(upstreams: dict[str, FakeUpstream], client: OpenAI) -> None:
    for fake in upstreams.values():
        fake.behaviour = status(500)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="both", n=4, **ASK)
    assert raised.value.code == "server"


def test_a_policy_that_fails_repeatedly_is_left_out_and_tried_again_later(
    upstreams: dict[str, FakeUpstream], registry: Registry, client_of: Callable[..., OpenAI]
) -> None:
    breaker = BreakerOptions(failures=2, first_pause_s=2)
    client = client_of(registry, ServeOptions(breaker=breaker))
    root = str(client.base_url).removesuffix("/v1/")
    upstreams["low"].behaviour = status(500)
    for _ in range(2):  # the other policy answers, so the requests are not at fault
        client.chat.completions.create(model="both", n=2, **ASK)
    asked = len(upstreams["low"].requests)
    with pytest.raises(openai.InternalServerError) as raised:
        client.chat.completions.create(model="low", **ASK)
    assert (raised.value.status_code, raised.value.code) == (503, "policy_unavailable")
    assert raised.value.response.headers["retry-after"] in ("1", "2")
    assert len(upstreams["low"].requests) == asked
    assert httpx.get(f"{root}/ready", timeout=WAIT_S).json()["out_of_service"] == ["low"]
    assert 'out_of_service{policy="low"} 1.0' in httpx.get(f"{root}/metrics", timeout=WAIT_S).text
    upstreams["low"].behaviour = well
    time.sleep(2.1)
    assert client.chat.completions.create(model="low", **ASK).choices[0].message.content == "low 0"
    assert httpx.get(f"{root}/ready", timeout=WAIT_S).json()["out_of_service"] == []


def test_a_kept_connection_that_the_server_has_closed_costs_no_request(
    upstreams: dict[str, FakeUpstream], client: OpenAI
) -> None:
    """As servers do that restart, or that close what was idle."""
    is_first = iter([True, False])

    async def once_gone(*given: Any) -> Any:
        return await (hangs_up if next(is_first) else well)(*given)

    client.chat.completions.create(model="low", **ASK)
    upstreams["low"].behaviour = once_gone
    assert client.chat.completions.create(model="low", **ASK).choices[0].message.content == "low 0"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_brought_to_its_end_before_the_server_stops(
    upstreams: dict[str, FakeUpstream], tmp_path: Path, stop: signal.Signals
) -> None:
    release = threading.Event()
    upstreams["low"].behaviour = well_after(release)
    file = policies_file(tmp_path, {name: fake.url for name, fake in upstreams.items()})
    command = [sys.executable, "-m", "alphamix", "serve", str(file), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)) is not None
        )
        answers: list[str | None] = []

        def ask() -> None:
            with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
                answers.append(client.chat.completions.create(model="low", **ASK).choices[0].message.content)

        asking = threading.Thread(target=ask)
        asking.start()
        assert upstreams["low"].arrived.wait(WAIT_S)
        server.send_signal(stop)
        assert any("Waiting for" in line or "Shutting down" in line for line in server.stderr)
        release.set()
        asking.join(WAIT_S)
        server.stderr.read()
        server.wait(WAIT_S)
    assert answers == ["low 0"]


def test_an_upstream_that_is_killed_between_requests(tmp_path: Path, client_of: Callable[..., OpenAI]) -> None:
    with FakeUpstream("high") as high:
        command = [sys.executable, "-m", fake_server.__name__, "--text", "low {index}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as low:
            try:
                assert low.stdout is not None
                url = low.stdout.readline().strip()
                client = client_of(Registry.load(policies_file(tmp_path, {"low": url, "high": high.url})))
                assert client.chat.completions.create(model="low", **ASK).choices[0].message.content == "low 0"
            finally:
                low.kill()
        for _ in range(10):
            answer = client.chat.completions.create(model="both", n=2, **ASK)
            assert [choice.message.content for choice in answer.choices] in (["high 0"] * 2, ["high 0", "high 1"])
        with pytest.raises(openai.InternalServerError) as raised:
            client.chat.completions.create(model="low", **ASK)
        assert raised.value.code in ("connection", "policy_unavailable")
