"""Tiny real checkpoints, made on the spot: random Llamas with a byte-level tokenizer. No network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)  # with more, small models get slower, and very much so when the cores are busy

CHAT_TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LINE = """
[policies.low]
checkpoint = "low"
[policies.high]
checkpoint = "high"
[policies.beyond]
merge = { low = "low", high = "high", alpha = 1.5 }
"""
CORPUS = ["def f(n):\n    return sum(range(n))\n", "for i in range(10):\n    print(i)\n"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=288,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=CHAT_TEMPLATE
    )


def tiny_config(**changes: Any) -> LlamaConfig:
    settings: dict[str, Any] = {
        "vocab_size": 288,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 96,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return LlamaConfig(**(settings | changes))


def tiny_model(seed: int, **changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(tiny_config(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)  # peaked enough that greedy answers do not hang on rounding
    return model.eval()


@pytest.fixture(scope="session")
def model() -> LlamaForCausalLM:
    return tiny_model(seed=0)


MakeCheckpoint = Callable[..., Path]


@pytest.fixture
def make_checkpoint(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> MakeCheckpoint:
    """Write a checkpoint: `make_checkpoint("low", seed=1, dtype=torch.bfloat16, shard="20KB", **config)`."""

    def make(name: str, seed: int = 0, dtype: torch.dtype = torch.float32, shard: str = "1GB", **changes: Any) -> Path:
        folder = tmp_path / name
        model: Any = tiny_model(seed, **changes)
        model.to(dtype).save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder)
        return folder

    return make
