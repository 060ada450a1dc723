"""A policy with several URLs: the servers share its requests, and each replaces one that fails."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.ensemble.serve.backends.circuit_breaker import BreakerOptions
from alphamix.policies.registry import Registry

from .upstreams import FakeUpstream, hangs_up, status, stream_then

ASK: dict[str, Any] = {"model": "policy", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def servers() -> Iterator[list[FakeUpstream]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeUpstream(name)) for name in ("one", "two")]


@pytest.fixture
def client(servers: list[FakeUpstream], tmp_path: Path, client_of: Callable[..., OpenAI]) -> OpenAI:
    file = tmp_path / "policies.toml"
    file.write_text(f"[policies.policy]\nurl = {[server.url for server in servers]}\nmodel = 'secret-model'\n")
    options = ServeOptions(breaker=BreakerOptions(failures=2, first_pause_s=600, longest_pause_s=600))
    return client_of(Registry.load(file), options)


def text_of(client: OpenAI, stream: bool) -> str:
    if not stream:
        return client.chat.completions.create(**ASK).choices[0].message.content or ""
    return "".join(chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(stream=True, **ASK))


def test_they_take_turns(servers: list[FakeUpstream], client: OpenAI) -> None:
    for index in range(8):
        text_of(client, stream=index % 4 > 1)
    assert [len(server.requests) for server in servers] == [4, 4]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", [status(500), status(429), hangs_up], ids=["error", "limit", "hangs up"])
def test_if_one_server_fails_every_request_is_still_answered(
    servers: list[FakeUpstream], client: OpenAI, fault: Any, stream: bool
) -> None:
    servers[0].behaviour = fault
    assert all(text_of(client, stream).startswith("two ") for _ in range(6))


def test_one_that_fails_again_and_again_is_left_out(servers: list[FakeUpstream], client: OpenAI) -> None:
    servers[0].behaviour = status(500)
    for _ in range(10):
        text_of(client, stream=False)
    assert len(servers[0].requests) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_if_all_fail_the_client_receives_the_error(servers: list[FakeUpstream], client: OpenAI, stream: bool) -> None:
    for server in servers:
        server.behaviour = status(500)
    with pytest.raises(openai.InternalServerError) as raised:
        text_of(client, stream)
    assert raised.value.code == "server"
    assert [len(server.requests) for server in servers] == [1, 1]


def test_a_wrong_request_is_asked_once(servers: list[FakeUpstream], client: OpenAI) -> None:
    for server in servers:
        server.behaviour = status(400)
    with pytest.raises(openai.BadRequestError):
        text_of(client, stream=False)
    assert sum(len(server.requests) for server in servers) == 1


def test_a_stream_that_has_begun_is_not_begun_again(servers: list[FakeUpstream], client: OpenAI) -> None:
    for server in servers:
        server.behaviour = stream_then(b"")
        server.go_on.set()
    with pytest.raises(openai.APIError):
        text_of(client, stream=True)
    assert sum(len(server.requests) for server in servers) == 1


def test_their_model_is_listed_once(client: OpenAI) -> None:
    (model,) = client.models.list().data
    assert (model.id, model.model_dump()["max_model_len"]) == ("policy", 4096)
