"""Batches that an engine advances token by token, and the choice of the one that suits a model."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel

from alphamix.policies.engines.transformers.decoding import DecodingBatch, ModelPair, mix_logits
from alphamix.policies.engines.transformers.llama import LlamaBatch, LlamaWeights, is_like_llama


class Batch(Protocol):
    """Sequences that advance together by one token a step."""

    logits_BV: Tensor
    """`[B, V]` scores of the next token of each row, in float32."""
    can_add: bool
    """Whether rows can be added later."""

    def add(self, prompts: Sequence[Sequence[int]]) -> None:
        """Append a row for each prompt, where this is possible."""
        ...

    def step(self, tokens_B: Tensor) -> None:
        """Append one token to each row and compute the logits of the next."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        ...


StartBatch = Callable[[Sequence[Sequence[int]]], Batch]
"""Function that computes prompts, and returns the batch whose rows continue them."""


def batches_of(model: PreTrainedModel | ModelPair) -> StartBatch:
    """Return what starts batches of a model. Of a pair at α = 0 or 1, only the model that counts is run."""
    if isinstance(model, ModelPair):
        if model.alpha in (0, 1):
            return batches_of(model.high if model.alpha else model.low)
        return partial(PairBatch, batches_of(model.low), batches_of(model.high), model.alpha)
    return partial(LlamaBatch, LlamaWeights(model)) if is_like_llama(model) else partial(DecodingBatch, model)


class PairBatch:
    """The same rows on both models of a pair, each with its own cache; the logits are mixed."""

    def __init__(self, low: StartBatch, high: StartBatch, alpha: float, prompts: Sequence[Sequence[int]]) -> None:
        self._low = low(prompts)
        self._high = high(prompts)
        self._alpha = alpha
        self.can_add = self._low.can_add and self._high.can_add
        self._mix()

    def add(self, prompts: Sequence[Sequence[int]]) -> None:
        """Append the same rows to both."""
        self._low.add(prompts)
        self._high.add(prompts)
        self._mix()

    def step(self, tokens_B: Tensor) -> None:
        """Append the same tokens on both models."""
        self._low.step(tokens_B)
        self._high.step(tokens_B)
        self._mix()

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows in both caches, in this order."""
        self._low.keep(rows)
        self._high.keep(rows)
        self._mix()

    def _mix(self) -> None:
        self.logits_BV = mix_logits(self._low.logits_BV, self._high.logits_BV, self._alpha)
