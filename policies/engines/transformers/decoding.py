"""One batch of token sequences on one model, or on two in lock-step: prefill, step, drop rows, draw the next tokens.

This module handles only tensors: no text, requests or chats. Axes: `B` rows, `L` positions, `V` vocabulary.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicCache

from alphamix.policies.types import PolicyError

NO_TOKEN = -1
"""Token that is drawn where no logit of a row is finite."""

_BLOCK = 1024
"""Tokens whose probabilities are summed up together in a draw."""

_BELOW_ONE = 1 - 2**-53

_CACHE_ARGUMENTS = ("cache", "past_key_values")
"""Names of the key-value cache in the signature of `forward`: since transformers 5.24, and before."""


def cache_argument(model: PreTrainedModel) -> str:
    """Return the name of the argument by which a model takes a key-value cache.

    The name alone proves nothing: models with a recurrent state, such as Mamba, take their state by the same name.

    Raises:
        PolicyError: the model keeps no such cache.
    """
    parameters = inspect.signature(model.forward).parameters
    name = next((name for name in _CACHE_ARGUMENTS if name in parameters), None)
    layers = DynamicCache(config=model.config).layers
    holds_keys = not layers or any(isinstance(layer, CacheLayerMixin) for layer in layers)
    if name is None or not holds_keys:
        raise PolicyError(
            f"{model.config.model_type} models keep no key-value cache, which this engine decodes with: "
            "serve the model, with vLLM for instance, and give its url."
        )
    return name


@dataclass(frozen=True, slots=True)
class ModelPair:
    """Two models over one vocabulary, sampled as one with the logits low + alpha * (high - low)."""

    low: PreTrainedModel
    high: PreTrainedModel
    alpha: float


class DecodingBatch:
    """Left-padded sequences that advance together by one token a step, with their key-value cache.

    Equal prompts are computed once and their cache is copied to each row, so many samples of one problem cost one
    prefill.
    """

    can_add = False

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        self._model = model
        self._accepted = inspect.signature(model.forward).parameters
        self._cache_argument = cache_argument(model)
        self.cache: Any = DynamicCache(config=model.config)
        self.logits_BV = self._prefill(prompts)

    @torch.inference_mode()
    def _prefill(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        distinct = list(dict.fromkeys(map(tuple, prompts)))
        row_of = {prompt: row for row, prompt in enumerate(distinct)}
        length = max(map(len, distinct))
        device = self._model.device
        tokens = torch.tensor([(0,) * (length - len(p)) + p for p in distinct], device=device)
        mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in distinct], device=device)
        # Without padding no mask is passed: attention then takes its fastest kernel.
        self._mask_BL = mask if any(len(p) < length for p in distinct) else None
        self._position_B = mask.sum(dim=1)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        logits_BV = self._forward(tokens, positions)
        rows = [row_of[tuple(p)] for p in prompts]
        return logits_BV if rows == list(range(len(distinct))) else self._take(logits_BV, rows)

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> None:
        """Append one token to each row and compute the logits of the next."""
        if self._mask_BL is not None:
            self._mask_BL = torch.cat([self._mask_BL, self._mask_BL.new_ones(len(tokens_B), 1)], dim=1)
        self.logits_BV = self._forward(tokens_B[:, None], self._position_B[:, None])
        self._position_B = self._position_B + 1

    def add(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuse: the cache of a model of any kind has no common way to take in rows."""
        raise NotImplementedError

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self.logits_BV = self._take(self.logits_BV, rows)

    def _forward(self, tokens_BL: Tensor, positions_BL: Tensor) -> Tensor:
        # Not every architecture takes positions, and a few old ones always return the logits of all positions.
        optional = {"position_ids": positions_BL, "logits_to_keep": 1}
        output = self._model(
            input_ids=tokens_BL,
            attention_mask=self._mask_BL,
            use_cache=True,
            **{self._cache_argument: self.cache},
            **{name: value for name, value in optional.items() if name in self._accepted},
        )
        return output.logits[:, -1].float()

    def _take(self, logits_BV: Tensor, rows: Sequence[int]) -> Tensor:
        index = torch.tensor(rows, device=logits_BV.device)
        self.cache.reorder_cache(index)
        self._position_B = self._position_B[index]
        if self._mask_BL is not None:
            self._mask_BL = self._mask_BL[index]
        return logits_BV[index]


@torch.inference_mode()
def mix_logits(low_BV: Tensor, high_BV: Tensor, alpha: float | Tensor) -> Tensor:
    """Mix scores: low + alpha * (high - low). Scores that are the same infinity in both stay so.

    The computation is in float32, as the models' own logits are: it rounds far less than their kernels do.

    Args:
        low_BV: `[B, V]` float32 scores of one model.
        high_BV: `[B, V]` float32 scores of the other.
        alpha: One number for all rows, or `[B, 1]` float32.
    """
    return torch.where(low_BV == high_BV, low_BV, low_BV + alpha * (high_BV - low_BV))


@torch.inference_mode()
def draw_tokens(logits_BV: Tensor, temperature_B: Tensor, top_p_B: Tensor, uniform_B: Tensor) -> Tensor:
    """Draw one token per row by the inverse of its cumulative distribution.

    Args:
        logits_BV: `[B, V]` float32 scores.
        temperature_B: `[B]` divides the scores; 0 takes the best token.
        top_p_B: `[B]` keeps the fewest most likely tokens that together reach this mass; 1 keeps all.
        uniform_B: `[B]` float64 in [0, 1), one number from each row's own stream, so a row's draw does not depend on
            its neighbours.

    Returns:
        `[B]` token ids, `NO_TOKEN` where a row has no finite maximum.
    """
    top_B = logits_BV.amax(dim=-1)
    divisor_B = torch.where(temperature_B > 0, temperature_B, 1.0)
    # The maximum is subtracted first: a tiny temperature must not overflow.
    probability_BV = (logits_BV - top_B[:, None]).div_(divisor_B[:, None]).softmax(dim=-1)
    if bool((top_p_B < 1).any()):
        probability_BV = _nucleus(probability_BV, top_p_B)
    tokens_B = _invert(probability_BV, uniform_B)
    if bool((temperature_B <= 0).any()):
        tokens_B = torch.where(temperature_B > 0, tokens_B, logits_BV.argmax(dim=-1))
    return torch.where(top_B.isfinite(), tokens_B, NO_TOKEN)


def _invert(mass_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """Return the first token of each row at which the share of the mass so far exceeds a number in [0, 1).

    In a large vocabulary a block of tokens is found first, and then the token within it: to sum up all tokens one by
    one in float64 would take longer than anything else.
    """
    if mass_BV.shape[1] <= _BLOCK:
        return _find(mass_BV.cumsum(dim=-1, dtype=torch.float64), uniform_B)
    mass_BNW = functional.pad(mass_BV, (0, -mass_BV.shape[1] % _BLOCK)).unflatten(1, (-1, _BLOCK))
    sum_BN = mass_BNW.sum(dim=-1)
    cumulative_BN = sum_BN.cumsum(dim=-1, dtype=torch.float64)
    block_B = _find(cumulative_BN, uniform_B)
    rows_B = torch.arange(len(mass_BV), device=mass_BV.device)
    sum_B = sum_BN[rows_B, block_B]
    left_B = uniform_B * cumulative_BN[:, -1] - (cumulative_BN[rows_B, block_B] - sum_B)
    cumulative_BW = mass_BNW[rows_B, block_B].cumsum(dim=-1, dtype=torch.float64)
    return block_B * _BLOCK + _find(cumulative_BW, (left_B / sum_B).clamp(0, _BELOW_ONE))


def _find(cumulative_BX: Tensor, share_B: Tensor) -> Tensor:
    """Return the first index at which a cumulative sum exceeds a share of its total."""
    # A float64 below 1 times the total rounds to less than the total, so an index with mass is found.
    target_B = share_B * cumulative_BX[:, -1]
    index_B = torch.searchsorted(cumulative_BX, target_B[:, None], right=True)[:, 0]
    return index_B.clamp_(max=cumulative_BX.shape[1] - 1)  # where a sum is not a number, nothing is found


def _nucleus(probability_BV: Tensor, top_p_B: Tensor) -> Tensor:
    """Set the probabilities outside the smallest set of most likely tokens whose mass reaches top-p to zero."""
    sorted_BV, order_BV = probability_BV.sort(dim=-1, descending=True, stable=True)
    mass_before_BV = sorted_BV.cumsum(dim=-1, dtype=torch.float64) - sorted_BV
    # The most likely token always stays, also at top-p 0.
    outside_BV = mass_before_BV >= top_p_B.clamp(min=1e-300)[:, None]
    return probability_BV.scatter(-1, order_BV, sorted_BV.masked_fill(outside_BV, 0.0))
