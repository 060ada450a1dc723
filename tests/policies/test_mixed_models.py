"""Two models are sampled as one: their logits are mixed before anything else, whatever shares the batch."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerFast

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.transformers.decoding import ModelPair, draw_tokens
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, PolicyError, Request, SamplingParameters

from .conftest import MakeCheckpoint, tiny_model

NUCLEUS = SamplingParameters(temperature=0.7, top_p=0.9, max_tokens=24)
PROMPTS = ["d", "def f(n):\n", "for i in range(10):\n    print", "x = 1\n", "d"]
REQUESTS = [Request(prompt, seed, NUCLEUS) for seed, prompt in enumerate(PROMPTS * 3)]
CPU = EngineOptions(device="cpu")


@pytest.fixture(scope="module")
def deep() -> LlamaForCausalLM:
    return tiny_model(seed=1)


@pytest.fixture(scope="module")
def shallow() -> LlamaForCausalLM:
    return tiny_model(seed=2, num_hidden_layers=1, hidden_size=16)


@pytest.fixture(scope="module")
def of_another_kind() -> GPT2LMHeadModel:
    torch.manual_seed(3)
    ends: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=288, n_embd=32, n_layer=2, n_head=4, n_positions=96, **ends))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    return model.eval()


def completions(engine: TransformersEngine, requests: Sequence[Request]) -> list[Completion]:
    outcomes = {reply.index: reply.outcome for reply in engine.sample(requests)}
    found = [outcomes[i] for i in range(len(requests))]
    assert all(isinstance(outcome, Completion) for outcome in found)
    return [replace(outcome, seconds=0.0) for outcome in found if isinstance(outcome, Completion)]


def pair(low: Any, high: Any, alpha: float, tokenizer: PreTrainedTokenizerFast) -> TransformersEngine:
    return TransformersEngine(ModelPair(low, high, alpha), tokenizer, device="cpu")


@torch.inference_mode()
def one_by_one(low: Any, high: Any, alpha: float, tokenizer: Any, request: Request) -> str:
    """Without batch, cache and float32: every token from the whole text before it."""
    parameters = request.parameters
    tokens = tokenizer(request.prompt)["input_ids"]
    answer: list[int] = []
    uniforms = np.random.Generator(np.random.Philox(request.seed)).random(64)
    for uniform in uniforms[: parameters.max_tokens]:
        at_low, at_high = (model(torch.tensor([tokens + answer])).logits[:, -1].double() for model in (low, high))
        mixed = (1 - alpha) * at_low + alpha * at_high
        temperature = torch.tensor([parameters.temperature])
        top_p, drawn = torch.tensor([parameters.top_p]).double(), torch.tensor([uniform])
        answer.append(draw_tokens(mixed.float(), temperature, top_p, drawn).item())
        if answer[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(answer, skip_special_tokens=True)


@pytest.mark.parametrize("alpha", [-0.5, 0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("high", ["shallow", "of_another_kind"])
def test_samples_are_those_of_the_mixture(
    deep: LlamaForCausalLM,
    high: str,
    alpha: float,
    tokenizer: PreTrainedTokenizerFast,
    request: pytest.FixtureRequest,
) -> None:
    other = request.getfixturevalue(high)
    found = completions(pair(deep, other, alpha, tokenizer), REQUESTS[: len(PROMPTS)])
    expected = [one_by_one(deep, other, alpha, tokenizer, asked) for asked in REQUESTS[: len(PROMPTS)]]
    assert [completion.text for completion in found] == expected


def test_the_ends_are_the_models_themselves(
    deep: LlamaForCausalLM, shallow: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    alone = [completions(TransformersEngine(model, tokenizer, device="cpu"), REQUESTS) for model in (deep, shallow)]
    assert [completions(pair(deep, shallow, alpha, tokenizer), REQUESTS) for alpha in (0.0, 1.0)] == alone
    assert alone[0] != alone[1]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_at_the_ends_the_other_model_is_not_run(
    alpha: float, deep: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_model(seed=2)
    calls: list[Any] = []
    other.register_forward_pre_hook(lambda *seen: calls.append(seen))
    low, high = (deep, other) if alpha == 0 else (other, deep)
    assert completions(pair(low, high, alpha, tokenizer), REQUESTS)
    assert not calls
    assert completions(pair(low, high, 0.5, tokenizer), REQUESTS)
    assert calls


def test_rows_that_finish_early_leave_both_caches_in_step(
    deep: LlamaForCausalLM, shallow: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine = pair(deep, shallow, 1.5, tokenizer)
    requests = [Request(PROMPTS[i % 4], i, replace(NUCLEUS, max_tokens=1 + (i * 7) % 40)) for i in range(40)]
    together = completions(engine, requests)
    assert together == [completions(engine, [request])[0] for request in requests]
    assert len({completion.completion_tokens for completion in together}) > 20


def test_two_folders_are_a_pair(make_checkpoint: MakeCheckpoint, tokenizer: PreTrainedTokenizerFast) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2, num_hidden_layers=1)
    models = tiny_model(seed=1), tiny_model(seed=2, num_hidden_layers=1)
    found = completions(TransformersEngine.from_checkpoints(low, high, 1.5, CPU), REQUESTS)
    assert found == completions(pair(*models, 1.5, tokenizer), REQUESTS)


def test_tokenizer_and_end_are_those_of_low_and_the_context_is_the_shorter(make_checkpoint: MakeCheckpoint) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2, max_position_embeddings=40)
    (high / "chat_template.jinja").unlink()
    (high / "generation_config.json").unlink()
    engine = TransformersEngine.from_checkpoints(low, high, 1.0, CPU)
    prompt = Request([{"role": "user", "content": "d" * 20}], 0, replace(NUCLEUS, max_tokens=90))
    (completion,) = completions(engine, [prompt])
    assert completion.prompt_tokens + completion.completion_tokens <= 40


def rewrite(path: Path, change: tuple[str, Any]) -> None:
    content = json.loads(path.read_text())
    content[change[0]] = change[1]
    path.write_text(json.dumps(content))


def test_what_cannot_be_mixed_is_told(make_checkpoint: MakeCheckpoint) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high", vocab_size=300)
    with pytest.raises(PolicyError, match="vocab_size is 288 in low and 300 in high; mix only"):
        TransformersEngine.from_checkpoints(low, high, 0.5, CPU)
    high = make_checkpoint("other")
    text = (high / "tokenizer.json").read_text()
    (high / "tokenizer.json").write_text(text.replace('"</s>"', '"<end>"'))
    with pytest.raises(PolicyError, match=re.escape("token 1 is '</s>' in low and '<end>' in high")):
        TransformersEngine.from_checkpoints(low, high, 0.5, CPU)
    (high / "tokenizer.json").unlink()
    with pytest.raises(PolicyError, match=r"other has no tokenizer to compare: save it there"):
        TransformersEngine.from_checkpoints(low, high, 0.5, CPU)
    with pytest.raises(PolicyError, match="alpha is nan: give a finite number"):
        TransformersEngine.from_checkpoints(low, low, float("nan"), CPU)
