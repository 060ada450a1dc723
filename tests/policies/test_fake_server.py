"""The fake server, asked by the official client: what it answers by default, and what a test can make of it."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from alphamix.policies.engines.openai import fake_server
from alphamix.policies.engines.openai.fake_server import (
    AnyReply,
    FakeReply,
    FakeRequest,
    FakeServer,
    RawReply,
    completion,
    completion_body,
    error,
    json_reply,
)

CHAT: Any = {"model": "m", "messages": [{"role": "user", "content": "Say something."}]}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture
def client(server: FakeServer) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url, api_key="secret", max_retries=0) as client:
        yield client


def texts(client: OpenAI, **changes: Any) -> list[str | None]:
    return [choice.message.content for choice in client.chat.completions.create(**(CHAT | changes)).choices]


def test_choices_follow_the_seed_the_model_and_the_prompt(client: OpenAI) -> None:
    four = texts(client, seed=7, n=4)
    assert len(set(four)) == 4
    assert texts(client, seed=8, n=3) == four[1:]
    assert texts(client, seed=7, model="other") != texts(client, seed=7) == four[:1]
    assert texts(client, seed=7, messages=[{"role": "user", "content": "Say more."}]) != four[:1]
    assert len(set(texts(client, temperature=0, n=3))) == 1


def test_lengths_stops_and_usage_are_honoured(client: OpenAI) -> None:
    answer = client.chat.completions.create(**CHAT, n=2, seed=1, max_tokens=3)
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (2, 6, 8)
    (whole,) = texts(client, seed=1)
    assert whole is not None
    word = whole.split()[2]
    assert texts(client, seed=1, stop=word) == texts(client, seed=1, stop=["nothing", word]) == [whole.split(word)[0]]


def test_completions_answer_each_of_several_prompts(client: OpenAI) -> None:
    answer = client.completions.create(model="m", prompt=["a", "b"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert len({choice.text for choice in answer.choices}) == 4


@pytest.mark.parametrize("include_usage", [True, False])
def test_a_stream_brings_the_same_texts_word_by_word(client: OpenAI, include_usage: bool) -> None:
    options: Any = {"include_usage": include_usage}
    chunks = list(client.chat.completions.create(**CHAT, n=2, seed=3, stream=True, stream_options=options))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    streamed = ["".join(c.delta.content or "" for c in choices if c.index == index) for index in range(2)]
    assert streamed == texts(client, seed=3, n=2)
    assert len(choices) == 24
    assert [c.finish_reason for c in choices if c.finish_reason] == ["stop", "stop"]
    usages = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert usages == ([24] if include_usage else [])


def test_plain_text_is_streamed_too(client: OpenAI) -> None:
    whole = client.completions.create(model="m", prompt="a", seed=5).choices[0].text
    chunks = client.completions.create(model="m", prompt="a", seed=5, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole


def test_models_are_listed_and_other_pages_missing(client: OpenAI, server: FakeServer) -> None:
    assert [model.id for model in client.models.list()] == ["fake"]
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("m")
    server.pages = {"/v1/models": json_reply({"object": "list", "data": [{"id": "mine"}]})}
    assert [model.id for model in client.models.list()] == ["mine"]


def test_requests_are_kept_as_they_came(client: OpenAI, server: FakeServer) -> None:
    assert not server.arrived.is_set()
    texts(client, seed=2)
    texts(client, n=3)
    first, second = server.requests
    assert (first.number, first.path, first.seed, first.prompt) == (0, "/v1/chat/completions", 2, "Say something.")
    assert first.json == CHAT | {"seed": 2}
    assert first.headers["authorization"] == "Bearer secret"
    assert (second.number, second.num_choices) == (1, 3)
    assert server.arrived.is_set()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (error(429, "slow down", **{"Retry-After": "7"}), openai.RateLimitError),
        (error(500), openai.InternalServerError),
        (error(404), openai.NotFoundError),
        (RawReply(), openai.APIConnectionError),
        (RawReply(end="reset"), openai.APIConnectionError),
        (RawReply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", end="half-close"), openai.APIConnectionError),
        (RawReply(b"no HTTP\r\n\r\n"), openai.APIConnectionError),
    ],
)
def test_failures_are_what_a_test_makes_them(
    client: OpenAI, server: FakeServer, reply: AnyReply, kind: type[openai.APIError]
) -> None:
    server.respond = lambda _: reply
    with pytest.raises(kind) as raised:
        texts(client)
    if isinstance(raised.value, openai.RateLimitError):
        assert raised.value.response.headers["retry-after"] == "7"
    server.respond = lambda request: completion(request, ["well again"])
    assert texts(client) == ["well again"]


def test_a_body_can_be_changed_before_it_is_sent(client: OpenAI, server: FakeServer) -> None:
    server.respond = lambda request: json_reply(completion_body(request, ["a"], "length") | {"usage": None})
    answer = client.chat.completions.create(**CHAT)
    assert (answer.usage, answer.choices[0].finish_reason) == (None, "length")


def test_a_mistake_in_a_tests_function_reaches_the_test(client: OpenAI, server: FakeServer) -> None:
    def wrong(_: FakeRequest) -> AnyReply:
        raise StopIteration("no more answers")

    server.respond = wrong
    with pytest.raises(openai.InternalServerError, match="no more answers"):
        texts(client)


def test_plain_functions_may_block_side_by_side(server: FakeServer) -> None:
    together = threading.Barrier(40)  # passes only if all are answered at once

    def respond(request: FakeRequest) -> AnyReply:
        together.wait(60)
        return completion(request, ["met"])

    server.respond = respond
    with OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
        asking = [threading.Thread(target=texts, args=(client,)) for _ in range(40)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(60)
    assert server.most_in_flight == 40
    assert server.in_flight == 0


def test_a_client_that_leaves_is_noticed(server: FakeServer) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b": still here\n\n"
            await asyncio.sleep(0.001)

    server.respond = lambda _: FakeReply(endless())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}")
        assert connection.recv(16).startswith(b"HTTP/1.1 200 OK")
        assert not server.abandoned.is_set()
    assert server.abandoned.wait(60)


def test_a_server_starts_again_on_its_port() -> None:
    server = FakeServer()
    ports: list[int] = []
    for _ in range(2):
        with server, OpenAI(base_url=server.url, api_key="none", max_retries=0) as client:
            texts(client)
            ports.append(server.port)
    assert ports[0] == ports[1]
    with OpenAI(base_url=server.url, api_key="none", max_retries=0) as client, pytest.raises(openai.APIConnectionError):
        texts(client)


def test_a_port_that_is_taken_is_an_error(server: FakeServer) -> None:
    with pytest.raises(OSError, match="address already in use"), FakeServer(port=server.port):
        pass


def test_a_server_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", fake_server.__name__, "--text", "print({seed}) # {index}", "--pause", "0.001"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with OpenAI(base_url=process.stdout.readline().strip(), api_key="none", max_retries=0) as client:
                assert texts(client, seed=4, n=2) == ["print(4) # 0", "print(5) # 1"]
                chunks = client.chat.completions.create(**CHAT, seed=4, stream=True)
                assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "print(4) # 0"
        finally:
            process.kill()
