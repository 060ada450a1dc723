"""Prompts of tokens on the embedded engine."""

import pytest
from transformers import PreTrainedTokenizerFast

from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, PromptError, Request, SamplingParameters, TokenIds

from .conftest import tiny_model

WARM = SamplingParameters(max_tokens=12)


def test_tokens_are_continued_as_their_text_is(tokenizer: PreTrainedTokenizerFast) -> None:
    engine = TransformersEngine(tiny_model(seed=0), tokenizer, device="cpu")
    tokens = TokenIds(tokenizer("def")["input_ids"])
    text, ids = (next(iter(engine.sample([Request(prompt, 3, WARM)]))).outcome for prompt in ("def", tokens))
    assert isinstance(text, Completion)
    assert isinstance(ids, Completion)
    assert (text.text, text.prompt_tokens) == (ids.text, ids.prompt_tokens)
    with pytest.raises(PromptError, match="the token 288: send tokens from 0 to 287"):
        list(engine.sample([Request(TokenIds([5, 288]), 3, WARM)]))
