"""The embedded engine says what the model says, whatever shares its batch."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, EngineFailure, PolicyError, Prompt, Request, SamplingParameters

from .conftest import MakeCheckpoint, tiny_model

GREEDY = SamplingParameters(temperature=0.0, max_tokens=24)
WARM = SamplingParameters(temperature=1.0, max_tokens=24)
PROMPTS = ["d", "def f(n):\n", "for i in range(10):\n    print", "x = 1\n", "d"]


@pytest.fixture
def engine(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> TransformersEngine:
    return TransformersEngine(model, tokenizer, device="cpu")


def completions(engine: TransformersEngine, requests: list[Request]) -> list[Completion]:
    outcomes = {reply.index: reply.outcome for reply in engine.sample(requests)}
    assert sorted(outcomes) == list(range(len(requests)))
    found = [outcomes[i] for i in range(len(requests))]
    assert all(isinstance(outcome, Completion) for outcome in found)
    return [replace(outcome, seconds=0.0) for outcome in found if isinstance(outcome, Completion)]


def greedy_by_transformers(model: Any, tokenizer: Any, prompt: str, count: int) -> str:
    tokens = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**tokens, do_sample=False, max_new_tokens=count, pad_token_id=1)
    return tokenizer.decode(output[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_greedy_answers_are_those_of_transformers(
    engine: TransformersEngine, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: str
) -> None:
    (completion,) = completions(engine, [Request(prompt, 0, GREEDY)])
    assert completion.text == greedy_by_transformers(model, tokenizer, prompt, 24)


def test_prompts_of_any_length_share_a_batch(engine: TransformersEngine) -> None:
    alone = [completions(engine, [Request(prompt, 0, GREEDY)])[0] for prompt in PROMPTS]
    assert completions(engine, [Request(prompt, 0, GREEDY) for prompt in PROMPTS]) == alone


LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": 288, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
}  # fmt: skip
ENDS: dict[str, Any] = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**LLAMA_LIKE, **ENDS, sliding_window=8),
        Gemma3TextConfig(**LLAMA_LIKE, **ENDS, head_dim=8, sliding_window=8),
        Lfm2Config(**LLAMA_LIKE, **ENDS, layer_types=["conv", "full_attention"]),
        GPT2Config(vocab_size=288, n_embd=32, n_layer=2, n_head=4, n_positions=96, **ENDS),
        BloomConfig(vocab_size=288, hidden_size=32, n_layer=2, n_head=4, **ENDS),
    ],
    ids=lambda config: config.model_type,
)
def test_other_architectures_decode_alike(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    engine = TransformersEngine(model, tokenizer, device="cpu")
    found = completions(engine, [Request(prompt, 0, GREEDY) for prompt in PROMPTS])
    assert [c.text for c in found] == [greedy_by_transformers(model, tokenizer, p, 24) for p in PROMPTS]


def test_a_model_without_a_key_value_cache_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    model: Any = MambaForCausalLM(MambaConfig(vocab_size=288, hidden_size=32, num_hidden_layers=2))
    with pytest.raises(PolicyError, match="mamba models keep no key-value cache"):
        TransformersEngine(model, tokenizer, device="cpu")


def test_the_first_token_follows_the_softmax(
    engine: TransformersEngine, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    count, parameters = 4096, SamplingParameters(temperature=1.5, max_tokens=1)
    found = completions(engine, [Request("def", seed, parameters) for seed in range(count)])
    with torch.no_grad():
        logits = model(tokenizer("def", return_tensors="pt")["input_ids"]).logits[0, -1]
    expected: dict[str, float] = {}
    for token, share in enumerate((logits / 1.5).softmax(0).tolist()):
        text = "" if token == 1 else tokenizer.backend_tokenizer.decode([token])
        expected[text] = expected.get(text, 0.0) + share
    frequent = [text for text, share in expected.items() if share * count >= 5]
    observed = [sum(c.text == text for c in found) for text in frequent]
    wanted = [expected[text] * count for text in frequent]
    chi_square = sum((o - w) ** 2 / w for o, w in zip(observed, wanted, strict=True))
    # The seeds are fixed, so this passes always or never; 5 standard deviations leave room for chance once.
    assert chi_square < len(frequent) + 5 * (2 * len(frequent)) ** 0.5
    assert all(c.completion_tokens == 1 for c in found)


def test_the_same_batch_gives_the_same_samples(engine: TransformersEngine) -> None:
    requests = [Request(prompt, seed, WARM) for seed, prompt in enumerate(PROMPTS)]
    assert completions(engine, requests) == completions(engine, requests)


def test_equal_prompts_with_other_seeds_differ(engine: TransformersEngine) -> None:
    found = completions(engine, [Request("def", seed, WARM) for seed in range(32)])
    assert len({c.text for c in found}) == 32
    assert len({c.text for c in completions(engine, [Request("def", 7, WARM)] * 4)}) == 1


def test_neighbours_change_nothing(engine: TransformersEngine) -> None:
    request = Request("def f(n):\n", 11, WARM)
    alone = completions(engine, [request])[0]
    crowd = [Request(prompt, seed, WARM) for seed, prompt in enumerate(PROMPTS * 6)]
    for place in (0, 13, 30):
        assert completions(engine, [*crowd[:place], request, *crowd[place:]])[place] == alone


def test_rows_that_finish_early_leave_the_others_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine = TransformersEngine(model, tokenizer, device="cpu")
    requests = [
        Request(PROMPTS[i % 4], i, SamplingParameters(temperature=1.0, max_tokens=1 + (i * 7) % 40)) for i in range(40)
    ]
    together = completions(engine, requests)
    assert together == [completions(engine, [request])[0] for request in requests]
    assert len({c.completion_tokens for c in together}) > 20


def test_more_requests_than_the_batch_holds_are_all_answered(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    requests = [Request("def", seed, WARM) for seed in range(10)]
    small = TransformersEngine(model, tokenizer, batch_size=3, device="cpu")
    large = TransformersEngine(model, tokenizer, batch_size=10, device="cpu")
    assert completions(small, requests) == completions(large, requests)
    assert list(small.sample([])) == []


@pytest.mark.parametrize(("batch_size", "finished_before_the_last"), [(3, 6), (7, 0)])
def test_the_rows_of_a_batch_are_an_option(
    batch_size: int, finished_before_the_last: int, make_checkpoint: MakeCheckpoint
) -> None:
    options = EngineOptions(batch_size=batch_size, device="cpu")
    engine = TransformersEngine.from_checkpoint(make_checkpoint("low"), options)
    deltas = list(engine.stream([Request("def", 0, GREEDY)] * 7))
    first_of_last = next(place for place, delta in enumerate(deltas) if delta.index == 6)
    assert sum(delta.outcome is not None for delta in deltas[:first_of_last]) == finished_before_the_last


def test_every_end_token_of_the_generation_config_ends(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model(seed=0)
    only = tokenizer.get_vocab()["n"]
    model.generation_config.eos_token_id = [token for token in range(288) if token != only]
    engine = TransformersEngine(model, tokenizer, device="cpu")
    for completion in completions(engine, [Request("def", seed, WARM) for seed in range(256)]):
        assert completion.finish_reason == "stop"
        assert completion.text == "n" * (completion.completion_tokens - 1)


def test_usage_counts_and_reasons(engine: TransformersEngine, tokenizer: PreTrainedTokenizerFast) -> None:
    found = completions(engine, [Request(prompt, 0, GREEDY) for prompt in PROMPTS])
    for prompt, completion in zip(PROMPTS, found, strict=True):
        assert completion.prompt_tokens == len(tokenizer(prompt)["input_ids"])
        assert completion.finish_reason == ("length" if completion.completion_tokens == 24 else "stop")


def test_a_stop_string_ends_the_answer_before_it(engine: TransformersEngine) -> None:
    whole = completions(engine, [Request("def", 3, WARM)])[0]
    assert whole.finish_reason == "length"
    stop = whole.text[6:9]
    cut = completions(engine, [Request("def", 3, replace(WARM, stop=("never said", stop)))])[0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.completion_tokens < whole.completion_tokens


def test_the_stream_is_the_sample_in_pieces(engine: TransformersEngine) -> None:
    parameters = replace(WARM, stop=("a", "\n"))
    requests = [Request(prompt, seed, parameters if seed % 2 else WARM) for seed, prompt in enumerate(PROMPTS * 4)]
    texts = [""] * len(requests)
    outcomes: dict[int, Completion] = {}
    pieces = [0] * len(requests)
    for delta in engine.stream(requests):
        assert delta.index not in outcomes
        texts[delta.index] += delta.text
        pieces[delta.index] += bool(delta.text)
        if delta.outcome is not None:
            assert isinstance(delta.outcome, Completion)
            outcomes[delta.index] = replace(delta.outcome, seconds=0.0)
    sampled = completions(engine, requests)
    assert [outcomes[i] for i in range(len(requests))] == sampled
    assert texts == [c.text for c in sampled]
    assert max(pieces) > 10


def test_a_stream_that_is_left_early_harms_nothing(engine: TransformersEngine) -> None:
    request = Request("def", 5, WARM)
    before = completions(engine, [request])
    stream = engine.stream([request] * 3)
    next(stream)
    assert not torch.is_inference_mode_enabled()
    del stream
    assert completions(engine, [request]) == before


def test_messages_go_through_the_chat_template(engine: TransformersEngine) -> None:
    prompt: Prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    as_chat = completions(engine, [Request(prompt, 0, GREEDY)])
    assert as_chat == completions(engine, [Request("<system>s\n<user>u\n<assistant>", 0, GREEDY)])


def test_no_chat_template_is_told(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint("bare")
    (folder / "chat_template.jinja").unlink()
    engine = TransformersEngine.from_checkpoint(folder, EngineOptions(device="cpu"))
    assert completions(engine, [Request("plain text", 0, GREEDY)])
    with pytest.raises(PolicyError, match="bare has no chat template for messages: ask with plain text"):
        list(engine.sample([Request([{"role": "user", "content": "u"}], 0, GREEDY)]))


def test_a_prompt_beyond_the_context_is_rejected_alone(engine: TransformersEngine) -> None:
    requests = [
        Request("d" * 96, 0, GREEDY),
        Request("d" * 90, 0, replace(GREEDY, max_tokens=50)),
        Request("", 0, GREEDY),
        Request("d", 0, GREEDY),
    ]
    outcomes = {reply.index: reply.outcome for reply in engine.sample(requests)}
    too_long, bounded, empty, good = (outcomes[i] for i in range(4))
    assert isinstance(too_long, EngineFailure)
    assert too_long.cause == "rejected"
    assert "has 96 tokens and the model's context holds 96: shorten the prompt" in too_long.message
    assert isinstance(bounded, Completion)
    assert bounded.completion_tokens <= 6
    assert isinstance(empty, EngineFailure)
    assert "no tokens" in empty.message
    assert isinstance(good, Completion)


def test_broken_weights_fail_and_are_no_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model(seed=0)
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    engine = TransformersEngine(model, tokenizer, device="cpu")
    (reply,) = engine.sample([Request("def", 0, WARM)])
    assert isinstance(reply.outcome, EngineFailure)
    assert "scores are not finite at token 1" in reply.outcome.message


def test_a_checkpoint_is_loaded_in_silence(make_checkpoint: MakeCheckpoint, capfd: pytest.CaptureFixture[str]) -> None:
    folder = make_checkpoint("low", dtype=torch.bfloat16)
    capfd.readouterr()
    level = logging.getLogger("transformers").level
    engine = TransformersEngine.from_checkpoint(folder, EngineOptions(device="cpu"))
    assert completions(engine, [Request("def", 0, GREEDY)])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("transformers").level == level  # what the user had set is set again
    assert torch.get_num_threads() == 1


def test_what_cannot_be_loaded_is_told(make_checkpoint: MakeCheckpoint) -> None:
    folder = make_checkpoint("low")
    options = EngineOptions(device="cpu")
    with pytest.raises(PolicyError, match=r"transformers cannot load .*nowhere") as told:
        TransformersEngine.from_checkpoint(folder / "nowhere", options)
    assert "\n" not in str(told.value)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(PolicyError, match=r"lacks 9 weights of its architecture, first 'model\.layers\.2"):
        TransformersEngine.from_checkpoint(folder, options)


def test_a_closed_engine_says_so(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    engine = TransformersEngine(model, tokenizer, device="cpu")
    engine.close()
    engine.close()
    with pytest.raises(PolicyError, match="is closed"):
        list(engine.sample([Request("def", 0, GREEDY)]))
