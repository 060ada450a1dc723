"""The fast decoding of Llama and its kin computes what the models compute, whichever rows come and go."""

import random
from contextlib import closing
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from alphamix.policies.engines.transformers import batches
from alphamix.policies.engines.transformers.batches import batches_of
from alphamix.policies.engines.transformers.decoding import DecodingBatch
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.engines.transformers.llama import LlamaBatch, is_like_llama
from alphamix.policies.types import Completion, PromptError, Request, SamplingParameters, TokenIds

from .conftest import tiny_model

SIZES: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 256, "pad_token_id": 1,
}  # fmt: skip
SCALED = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": True, "mlp_bias": True},
    "llama large": {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 1},  # enough for oneDNN
    "llama tied": {"tie_word_embeddings": True, "num_key_value_heads": 4},
    "llama scaled": {"rope_parameters": SCALED},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
}


def tiny(kind: str, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind.split()[0], **(SIZES | KINDS.get(kind, {}) | changes))
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


@torch.inference_mode()
def whole(model: Any, sequences: list[list[int]]) -> torch.Tensor:
    """The logits after each sequence, computed alone and without a cache."""
    return torch.stack([model(input_ids=torch.tensor([sequence])).logits[0, -1] for sequence in sequences])


@pytest.mark.parametrize("kind", ["llama", "llama tied", "qwen3"])
def test_a_model_that_is_sampled_can_be_trained_on(kind: str) -> None:
    """A training loop samples between its steps, with the weights of the moment."""
    model: Any = tiny(kind)
    make_batch = batches_of(model)
    make_batch([[2, 3]]).step(torch.tensor([4]))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(input_ids=torch.tensor([[2, 3, 4]])).logits.square().mean().backward()
    optimiser.step()
    batch = make_batch([[2, 3]])
    batch.step(torch.tensor([4]))
    torch.testing.assert_close(batch.logits_BV, whole(model, [[2, 3, 4]]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_and_go_and_the_logits_are_the_models(kind: str) -> None:
    """Prompts of several lengths and numbers of rows, in any order, over more steps than one allocation holds."""
    model, draw = tiny(kind), random.Random(kind)
    prompts = [[draw.randrange(64) for _ in range(length)] for length in (1, 3, 7, 7, 12)]
    sequences = [list(draw.choice(prompts)) for _ in range(9)]
    batch = batches_of(model)(sequences)
    assert isinstance(batch, LlamaBatch)
    for step in range(36):
        tokens = [draw.randrange(64) for _ in sequences]
        batch.step(torch.tensor(tokens))
        sequences = [[*sequence, token] for sequence, token in zip(sequences, tokens, strict=True)]
        if step % 5 == 2:
            rows = draw.sample(range(len(sequences)), max(1, len(sequences) - draw.randrange(6)))
            batch.keep(rows)
            sequences = [sequences[row] for row in rows]
        if step % 7 == 3 and step < 30:
            joining = [list(draw.choice(prompts)) for _ in range(draw.randrange(1, 5))]
            batch.add(joining)
            sequences += joining
        expected = whole(model, sequences)
        assert (batch.logits_BV - expected).abs().max() <= 2e-5 * expected.abs().max()


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_rows_in_bfloat16_are_as_near_as_the_models_own(kind: str) -> None:
    exact, rounded = tiny(kind), tiny(kind)
    torch.nn.Module.to(rounded, torch.bfloat16)
    prompts = [[1, 2, 3], [4, 5]]
    fast, own = batches_of(rounded)(prompts), DecodingBatch(rounded, prompts)
    assert isinstance(fast, LlamaBatch)
    for batch in (fast, own):
        batch.step(torch.tensor([6, 7]))
    expected = whole(exact, [[1, 2, 3, 6], [4, 5, 7]])
    assert (fast.logits_BV - expected).norm() <= 1.5 * (own.logits_BV - expected).norm()


def test_a_prompt_is_computed_once_for_all_rows_that_have_it_at_a_time() -> None:
    model = tiny("llama")
    computed: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: computed.append(given["input_ids"].numel()), with_kwargs=True)
    batch = batches_of(model)([[1, 2, 3]] * 50 + [[4, 5]] * 30)
    batch.step(torch.zeros(80, dtype=torch.long))
    batch.keep(range(40, 60))
    batch.add([[4, 5], [1, 2, 3], [6]])
    assert computed == [6, 1]  # two prompts padded to three tokens; then only the one that is new
    batch.keep([22])
    batch.add([[1, 2, 3]])
    assert computed == [6, 1, 3]  # nobody had it any more


def test_unequal_shares_of_prompts_take_little_room() -> None:
    """One prompt with 90 rows beside 30 with one each: 30 places for each would be 900."""
    model = tiny("llama")
    sequences = [[60, 61]] * 90 + [[number, number + 1] for number in range(30)]
    batch = batches_of(model)(sequences)
    assert isinstance(batch, LlamaBatch)
    assert len(batch._prompts._row_PN) <= 2 * (len(sequences) + 31)  # type: ignore[attr-defined]
    batch.step(torch.arange(120) % 64)
    expected = whole(model, [[*sequence, number % 64] for number, sequence in enumerate(sequences)])
    assert torch.allclose(batch.logits_BV, expected, atol=1e-4)


def test_rows_that_join_late_have_no_earlier_positions() -> None:
    model = tiny("llama")
    batch = batches_of(model)([[1], [2, 3]])
    for _ in range(20):
        batch.step(torch.zeros(2, dtype=torch.long))
    batch.keep([1])
    batch.add([[5, 6, 7]])
    assert torch.allclose(batch.logits_BV[1:], whole(model, [[5, 6, 7]]), atol=1e-4)
    batch.step(torch.tensor([0, 4]))
    assert torch.allclose(batch.logits_BV[1:], whole(model, [[5, 6, 7, 4]]), atol=1e-4)
    batch.keep([1])  # the positions that only the other row had are given up
    batch.step(torch.tensor([9]))
    assert torch.allclose(batch.logits_BV, whole(model, [[5, 6, 7, 4, 9]]), atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("mistral", {"sliding_window": 8}), ("gemma", {}), ("qwen3_moe", {"num_experts": 4, "num_experts_per_tok": 2}),
     ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}), ("phi3", {})],
)  # fmt: skip
def test_other_models_are_left_to_their_own_forward(kind: str, changes: dict[str, Any]) -> None:
    model = tiny(kind, **changes)
    assert not is_like_llama(model)
    assert isinstance(batches_of(model)([[2, 3]]), DecodingBatch)


def answers(engine: TransformersEngine, requests: list[Request]) -> list[tuple[str, int]]:
    found = {reply.index: reply.outcome for reply in engine.sample(requests)}
    outcomes = [found[index] for index in range(len(requests))]
    return [(each.text, each.completion_tokens) for each in outcomes if isinstance(each, Completion)]


def test_requests_join_as_others_finish(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch serves all of many requests, with fewer steps than batches one after the other, and the same texts."""
    prompts = ["d", "def f(n):\n", "x = 1\n"]
    requests = [
        Request(prompts[number // 10], number, SamplingParameters(max_tokens=40 if number % 8 == 0 else 3))
        for number in range(30)
    ]
    engine = TransformersEngine(tiny_model(seed=0), tokenizer, batch_size=8, device="cpu")
    steps = 0

    def counted(batch: Any, tokens: Any, step: Any = LlamaBatch.step) -> None:
        nonlocal steps
        steps += 1
        step(batch, tokens)

    monkeypatch.setattr(LlamaBatch, "step", counted)
    joined = answers(engine, requests)
    steps_joined, steps = steps, 0
    parts = [answers(engine, requests[start : start + 8]) for start in range(0, 30, 8)]
    assert joined == [answer for part in parts for answer in part]
    assert len(joined) == 30
    assert steps_joined < 0.6 * steps


def test_the_texts_are_those_of_the_models_own_forward(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        Request(prompt, seed, SamplingParameters(max_tokens=20)) for seed in range(8) for prompt in ("d", "x =")
    ]
    engine = TransformersEngine(tiny_model(seed=0), tokenizer, device="cpu")
    fast = answers(engine, requests)

    def never(model: PreTrainedModel) -> bool:
        return False

    monkeypatch.setattr(batches, "is_like_llama", never)
    assert answers(engine, requests) == fast


def test_a_request_joins_what_runs_and_one_that_does_not_fit_waits_for_its_error(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    engine = TransformersEngine(tiny_model(seed=0), tokenizer, batch_size=4, device="cpu")
    long = Request("def", 3, SamplingParameters(max_tokens=40))
    short = Request("x =", 5, SamplingParameters(max_tokens=4))
    alone = {request.seed: answers(engine, [request]) for request in (long, short)}
    with closing(engine.open_session(stream=True)) as session:

        def next_outcome() -> tuple[int, list[tuple[str, int]]]:
            while (delta := session.receive()) is not None:
                if isinstance(delta.outcome, Completion):
                    return delta.index, [(delta.outcome.text, delta.outcome.completion_tokens)]
            raise AssertionError("nothing was left")

        session.submit([long])
        assert session.receive() is not None  # the first piece: it runs
        session.submit([short, Request(TokenIds([999]), 0, long.parameters), long])
        assert next_outcome() == (1, alone[5])  # the short one came later and is done earlier
        assert next_outcome() == (0, alone[3])
        with pytest.raises(PromptError, match="the token 999"):
            session.receive()
        assert next_outcome() == (3, alone[3])
