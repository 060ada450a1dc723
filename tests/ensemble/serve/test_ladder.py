"""The ladder's real checkpoints behind the endpoint: merges are made, sampled and named by their α."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

pytest.importorskip("torch", reason="embedded policies need alphamix[local]")

from alphamix.policies.registry import Registry

LADDER = Path(__file__).parents[3] / "examples" / "ladder"
PAIRS = """
[policies.low]
checkpoint = "{folder}/low"

[policies.high]
checkpoint = "{folder}/high"

[policies.plain]
logits = {{ low = "low", high = "high", alpha = 0.0 }}

[policies.sharper]
logits = {{ low = "low", high = "high", alpha = 1.5 }}

[mixtures.pairs]
weights = {{ plain = 1, sharper = 1 }}
"""
ASK: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Given n and an array, print the largest element."}],
    "max_tokens": 24,
    "seed": 1,
}


@pytest.fixture(autouse=True)
def _checkpoints() -> None:
    if not (LADDER / "checkpoints" / "high").is_dir():
        pytest.skip("the ladder's checkpoints are not here: make them with examples/ladder/train.py")


@pytest.fixture
def client(client_of: Callable[..., OpenAI], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenAI:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path))
    return client_of(Registry.load(LADDER / "policies.toml"))


def test_the_frontier_answers_with_one_choice_of_each_policy(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="frontier", n=8, **ASK)
    alphas = {choice.policy["name"]: choice.policy["alpha"] for choice in answer.choices}
    assert len(alphas) == 8
    assert (alphas["low"], alphas["high"], alphas["coverage@+1.50"]) == (0.0, 1.0, 1.5)
    assert all(choice.finish_reason in ("stop", "length") for choice in answer.choices)
    assert 8 <= answer.usage.completion_tokens <= 8 * 24


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    whole = client.chat.completions.create(model="high", n=2, **ASK)
    streamed = {0: "", 1: ""}
    pieces = 0
    for chunk in client.chat.completions.create(model="high", n=2, stream=True, **ASK):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        pieces += 1
    assert streamed == {choice.index: choice.message.content for choice in whole.choices}
    assert pieces > 6


def test_pairs_whose_logits_are_mixed_answer_at_their_own_alpha(
    client_of: Callable[..., OpenAI], tmp_path: Path
) -> None:
    file = tmp_path / "pairs.toml"
    file.write_text(PAIRS.format(folder=LADDER / "checkpoints"))
    client = client_of(Registry.load(file))
    ask = {**ASK, "temperature": 0, "max_tokens": 60}
    (low,) = client.chat.completions.create(model="low", **ask).choices
    plain, sharper = client.chat.completions.create(model="pairs", n=2, **ask).choices
    assert [choice.policy for choice in (plain, sharper)] == [
        {"name": "plain", "alpha": 0.0},
        {"name": "sharper", "alpha": 1.5},
    ]
    assert plain.message.content == low.message.content != sharper.message.content
