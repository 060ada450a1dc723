"""The endpoint before real vLLM servers: relayed as they stand, started when first asked, and switched between α."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from alphamix.ensemble.serve.app import ServeOptions
from alphamix.policies.engines.vllm.family import VllmEngine
from alphamix.policies.registry import Registry
from tests.ensemble.serve.conftest import running
from tests.vllm.conftest import CHAT, HIGH, LOW

ASK: dict[str, Any] = {"messages": CHAT, "max_tokens": 60}
RELAYED = """
[policies.far]
url = "{url}"
model = "{model}"
api_key_env = "VLLM_KEY"

[policies.twin]
url = "{url}"
model = "{model}"
api_key_env = "VLLM_KEY"

[mixtures.both]
weights = {{ far = 1, twin = 3 }}
"""
STARTED = f"""
[engine]
name = "vllm"

[policies.own]
checkpoint = "{LOW}"
"""
SWITCHED = f"""
[engine]
name = "vllm"
serve = "switch"
arguments = ["--enforce-eager"]

[policies.low]
checkpoint = "{LOW}"

[policies.high]
checkpoint = "{HIGH}"

[sweeps.coverage]
merge = {{ low = "low", high = "high" }}
alphas = [0.5, 1.5]

[mixtures.line]
weights = {{ low = 1, high = 1, "coverage@+0.50" = 1, "coverage@+1.50" = 1 }}
"""


PAIRS = f"""
[engine]
name = "vllm"
arguments = ["--enforce-eager"]

[policies.low]
checkpoint = "{LOW}"

[policies.high]
checkpoint = "{HIGH}"

[policies.plain]
logits = {{ low = "low", high = "high", alpha = 0.0 }}

[policies.sharper]
logits = {{ low = "low", high = "high", alpha = 1.5 }}

[mixtures.pairs]
weights = {{ plain = 1, sharper = 1 }}
"""


@contextmanager
def client_of(registry: Registry) -> Iterator[OpenAI]:
    with running(registry, ServeOptions()) as url, OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def client(engine: VllmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAI]:
    """Two policies that are relayed to one server, and their mixture."""
    monkeypatch.setenv("VLLM_KEY", engine.server.api_key)
    file = tmp_path / "policies.toml"
    file.write_text(RELAYED.format(url=engine.server.url, model=engine.model))
    with client_of(Registry.load(file)) as client:
        yield client


def test_an_answer_is_the_servers_own(client: OpenAI, engine: VllmEngine) -> None:
    body = {**ASK, "n": 3, "seed": 7, "logprobs": True, "top_logprobs": 2, "min_tokens": 5, "top_k": 20}
    direct = engine.server.post("/v1/chat/completions", {**body, "model": engine.model})
    extra = {key: body.pop(key) for key in ("min_tokens", "top_k")}
    served = client.chat.completions.create(model="far", extra_body=extra, **body)
    for choice, theirs in zip(served.choices, direct["choices"], strict=True):
        assert choice.message.content == theirs["message"]["content"]
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert [token.logprob for token in choice.logprobs.content] == pytest.approx(
            [token["logprob"] for token in theirs["logprobs"]["content"]]
        )
    assert served.usage is not None
    assert served.usage.total_tokens == direct["usage"]["total_tokens"]


def test_a_streamed_ensemble_says_what_the_whole_one_says(client: OpenAI) -> None:
    asked: dict[str, Any] = {"model": "both", "n": 4, "seed": 7, "temperature": 0.05, **ASK}
    whole = client.chat.completions.create(**asked)
    texts, policies, total = dict.fromkeys(range(4), ""), {}, None
    options: Any = {"include_usage": True}
    for chunk in client.chat.completions.create(stream=True, stream_options=options, **asked):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            policies[choice.index] = (choice.model_extra or {})["policy"]["name"]
        total = chunk.usage or total
    assert texts == {choice.index: choice.message.content for choice in whole.choices}
    assert sorted(policies.values()) == ["far", "twin", "twin", "twin"]
    assert whole.usage is not None
    assert total is not None
    assert total.total_tokens == whole.usage.total_tokens


def test_models_and_refusals_are_passed_on(client: OpenAI, engine: VllmEngine) -> None:
    lengths = {model.id: (model.model_extra or {})["max_model_len"] for model in client.models.list()}
    assert set(lengths) == {"far", "twin", "both"}
    assert len(set(lengths.values())) == 1
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model="far", messages=CHAT, max_tokens=10**6)
    assert str(lengths["far"]) in raised.value.message
    assert engine.server.url not in raised.value.message


@pytest.mark.parametrize("backend", ["openai", "openai-chat"])
def test_the_load_generator_of_vllm_loses_no_request(client: OpenAI, backend: str, tmp_path: Path) -> None:
    # The command `vllm` looks for its version under the name "vllm", which the build for processors has not.
    run = "import argparse; from vllm.benchmarks.serve import add_cli_args, main; p = argparse.ArgumentParser(); "
    run += "add_cli_args(p); main(p.parse_args())"
    path = "/v1/chat/completions" if "chat" in backend else "/v1/completions"
    address = str(client.base_url).removesuffix("/v1/")
    command = [sys.executable, "-c", run, "--backend", backend, "--base-url", address, "--endpoint", path]
    command += ["--model", "both", "--tokenizer", str(HIGH), "--dataset-name", "random", "--random-input-len", "16"]
    command += ["--random-output-len", "16", "--num-prompts", "100", "--max-concurrency", "16"]
    command += ["--save-result", "--result-filename", str(tmp_path / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "result.json").read_text())
    assert (told["completed"], told["failed"]) == (100, 0)


def test_a_server_of_ours_is_found_when_it_is_first_asked(
    engine: VllmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Registry, "open", lambda *_: engine)
    monkeypatch.setattr(engine, "close", lambda: None)  # which the endpoint does in the end, but others use it still
    file = tmp_path / "policies.toml"
    file.write_text(STARTED)
    with client_of(Registry.load(file)) as client:
        (choice,) = client.chat.completions.create(model="own", logprobs=True, **ASK).choices
        assert choice.logprobs is not None
        assert choice.message.content


def test_one_server_whose_weights_are_switched_answers_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "policies.toml"
    file.write_text(SWITCHED)
    with Registry.load(file) as registry, client_of(registry) as client:
        whole = client.chat.completions.create(model="line", n=8, temperature=0, **ASK)
        alphas = [(choice.model_extra or {})["policy"]["alpha"] for choice in whole.choices]
        assert sorted(alphas) == [0, 0, 0.5, 0.5, 1, 1, 1.5, 1.5]
        texts = dict(zip(alphas, (choice.message.content for choice in whole.choices), strict=True))
        assert len(set(texts.values())) > 1
        for model, alpha in {"coverage@+1.50": 1.5, "low": 0.0}.items():
            streamed = client.chat.completions.create(model=model, temperature=0, stream=True, **ASK)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed) == texts[alpha]


def test_pairs_are_relayed_to_the_server_that_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    file = tmp_path / "policies.toml"
    file.write_text(PAIRS)
    with Registry.load(file) as registry, client_of(registry) as client:
        asked: dict[str, Any] = {"temperature": 0, "logprobs": True, **ASK}
        choices = client.chat.completions.create(model="pairs", n=2, **asked).choices
        assert [(choice.model_extra or {})["policy"]["alpha"] for choice in choices] == [0.0, 1.5]
        assert choices[0].logprobs != choices[1].logprobs
        (alone,) = client.chat.completions.create(model="sharper", **asked).choices
        assert alone.message.content == choices[1].message.content
