"""The tokenizer and the untrained model of the ladder, as transformers objects that any engine can load.

Tokens are byte-level BPE. Merges may cross spaces, but neither digits nor line ends, so a line of a program is a few
tokens and no number merges with its surroundings. A part takes about 13 tokens to ask and 30 to answer.
"""

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 768
CONTEXT = 512
PAD, EOS = "<|pad|>", "<|end|>"
PAD_ID, EOS_ID = 0, 1
"""Special tokens come first in the vocabulary."""
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}{{ 'Q:\\n' + message['content'] + '\\nA:\\n' }}"
    "{%- elif message['role'] == 'assistant' -%}{{ message['content'] + '" + EOS + "' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
"""The user's message is the statement. System messages are left out, since the model has never seen any."""


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Train a tokenizer on texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[0-9]|[^\n0-9]*\n|[^\n0-9]+"), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def render_prompt(tokenizer: PreTrainedTokenizerFast, statement: str) -> str:
    """Return the text that the model continues."""
    messages = [{"role": "user", "content": statement}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)  # because of tokenize=False
    return text


def untrained_model(seed: int) -> LlamaForCausalLM:
    """Return a Llama of 0.6 M parameters with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )
    return LlamaForCausalLM(config)
