"""Decoding of Llama, and of models built like it, faster than by their own `forward`.

The time of a small model goes into moving keys and values, and into the layers of Python around each operation. Here
the keys and values of a prompt serve all rows that continue it, those of answers are written in place, and a step is a
plain sequence of operations. Prompts are computed by transformers.

Axes: `B` rows, `P` blocks of at most `N` rows that continue the same prompt, `K` heads of keys and values, `Q` heads of
queries for one head of keys, `L` positions, `D` size of a head, `H` hidden size, `V` vocabulary.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from alphamix.policies.engines.transformers.decoding import DecodingBatch

_KINDS = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Values of `model_type` that this module knows. They differ only in biases and in norms of queries and keys."""

_ROOM = 16
"""Positions by which the tensors of answers grow. Products are fastest on whole tensors of such sizes, so the free
positions take part in them, masked."""

_LARGE = 2**18
"""Number of weights from which oneDNN multiplies faster than the library that torch asks for float32."""

_ONEDNN: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
"""Product by oneDNN, by the operator that `torch.compile` uses as well. On some processors it takes two thirds of the
time."""


def is_like_llama(model: PreTrainedModel) -> bool:
    """Return whether `LlamaWeights` knows what the model computes: a known kind, without sliding windows, whose layers
    are neither quantised nor adapted."""
    config: Any = model.config
    types = getattr(config, "layer_types", None)
    slides = "sliding_attention" in types if types else getattr(config, "sliding_window", None) is not None
    return config.model_type in _KINDS and not slides and all(type(linear) is nn.Linear for linear in _linears(model))


def _linears(model: Any) -> list[nn.Module]:
    names = (
        "self_attn.q_proj self_attn.k_proj self_attn.v_proj self_attn.o_proj mlp.gate_proj mlp.up_proj mlp.down_proj"
    )
    return [layer.get_submodule(name) for layer in model.model.layers for name in names.split()] + [model.lm_head]


_Linear = Callable[[Tensor], Tensor]


def _linear(*linears: Any) -> _Linear:
    """Return the product with the weights of layers that have the same input."""
    weight, bias = linears[0].weight, linears[0].bias
    if len(linears) > 1:
        weight = _joined([linear.weight for linear in linears])
        bias = None if bias is None else _joined([linear.bias for linear in linears])
    if _ONEDNN and weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() >= _LARGE:
        return lambda values: _ONEDNN(values, weight, bias, "none", [], "")
    return lambda values: functional.linear(values, weight, bias)


def _joined(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Join parameters at the first axis. They become parts of the whole, which so takes no memory twice, and has what a
    training step changes."""
    whole = torch.cat([parameter.data for parameter in parameters])
    for parameter, part in zip(parameters, whole.split([len(parameter) for parameter in parameters]), strict=True):
        parameter.data = part
    return whole


class _Layer(NamedTuple):
    """Weights of one layer, in the order in which they are used."""

    attention_norm: Tensor
    queries_keys_values: _Linear
    head_norms: Tensor | None
    """`[2, D]`, for queries and for keys, for kinds that normalise them."""
    attended: _Linear
    mlp_norm: Tensor
    gate_up: _Linear
    down: _Linear


class LlamaWeights:
    """Weights of a model as `LlamaBatch` uses them."""

    @torch.no_grad()  # a model whose weights are made in inference mode cannot be trained on
    def __init__(self, model: PreTrainedModel) -> None:
        whole: Any = model
        config: Any = model.config
        first = whole.model.layers[0].self_attn
        self.model = model
        self.embed = whole.model.embed_tokens
        self.rotary = whole.model.rotary_emb
        self.layers = [_layer(layer) for layer in whole.model.layers]
        self.norm: Tensor = whole.model.norm.weight
        self.head = _linear(whole.lm_head)
        self.epsilon: float = config.rms_norm_eps
        self.head_size: int = first.head_dim
        self.num_key_heads: int = config.num_key_value_heads
        self.num_query_heads: int = config.num_attention_heads
        self.scaling: float = first.scaling
        of_keys = [0] * self.num_query_heads + [1] * self.num_key_heads
        self.is_key_X = torch.tensor(of_keys, device=model.device)
        """`[heads of queries and keys]` 0 for queries, 1 for keys."""


def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    norms = None
    if hasattr(attention, "q_norm"):
        norms = _joined([attention.q_norm.weight, attention.k_norm.weight]).view(2, -1)
    return _Layer(
        layer.input_layernorm.weight,
        _linear(attention.q_proj, attention.k_proj, attention.v_proj),
        norms,
        _linear(attention.o_proj),
        layer.post_attention_layernorm.weight,
        _linear(mlp.gate_proj, mlp.up_proj),
        _linear(mlp.down_proj),
    )


class LlamaBatch:
    """Sequences that advance together by one token a step, and that others may join at any step."""

    can_add = True

    def __init__(self, weights: LlamaWeights, prompts: Sequence[Sequence[int]]) -> None:
        self._weights = weights
        self._prompts = _Prompts(weights.model)
        self._answers = _Answers(len(weights.layers))
        self.logits_BV = torch.empty(0, device=weights.norm.device)
        self.add(prompts)

    @torch.inference_mode()
    def add(self, prompts: Sequence[Sequence[int]]) -> None:
        """Append a row for each prompt."""
        self.logits_BV = torch.cat([self.logits_BV, self._prompts.add([tuple(prompt) for prompt in prompts])])
        self._answers.add(len(prompts))
        self._index()

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, in this order."""
        self.logits_BV = self.logits_BV[list(rows)]
        self._prompts.keep(rows)
        self._answers.keep(rows)
        self._index()

    def _index(self) -> None:
        """Compute what stays the same until rows come or go, or the answers need more room.

        The mask, `[B or 1, 1, 1, L]`, is minus infinity at padding, at positions before a row joined, and at those that
        are still free.
        """
        device, prompts, answers = self.logits_BV.device, self._prompts, self._answers
        length_B1 = torch.tensor(prompts.lengths_B, device=device)[:, None]
        start_B1 = torch.tensor(answers.start_B, device=device)[:, None]
        self._shift_B1 = length_B1 - start_B1
        if min(prompts.lengths_B) == prompts.length and max(answers.start_B) == answers.first:
            length_B1, start_B1 = length_B1[:1], start_B1[:1]
        is_padding_BL = torch.arange(prompts.length, device=device) < prompts.length - length_B1
        steps_L = torch.arange(answers.first, answers.first + answers.room, device=device)
        is_outside_BL = torch.cat([is_padding_BL, (steps_L < start_B1) | (steps_L > answers.last)], dim=1)
        self._mask_B11L = torch.zeros(is_outside_BL.shape, device=device).masked_fill_(is_outside_BL, -torch.inf)
        self._mask_B11L = self._mask_B11L[:, None, None]

    @torch.inference_mode()
    def step(self, tokens_B: Tensor) -> None:
        """Append one token to each row and compute the logits of the next."""
        weights, num_rows = self._weights, len(tokens_B)
        if self._answers.begin_step():
            self._index()
        self._mask_B11L[..., self._prompts.length + self._answers.place] = 0
        hidden_BH = weights.embed(tokens_B)
        cos_B1D, sin_B1D = weights.rotary(hidden_BH[:, None], self._shift_B1 + self._answers.last)
        sin_B1D[..., : weights.head_size // 2] *= -1
        num_keys, num_rotated = weights.num_key_heads, weights.num_query_heads + weights.num_key_heads
        for number, layer in enumerate(weights.layers):
            normed_BH = functional.rms_norm(hidden_BH, hidden_BH.shape[1:], layer.attention_norm, weights.epsilon)
            heads_BXD = layer.queries_keys_values(normed_BH).view(num_rows, -1, weights.head_size)
            rotated_BXD, value_BKD = heads_BXD.tensor_split([num_rotated], dim=1)
            if layer.head_norms is not None:
                rotated_BXD = functional.rms_norm(rotated_BXD, rotated_BXD.shape[2:], None, weights.epsilon)
                rotated_BXD = rotated_BXD * layer.head_norms[weights.is_key_X]
            # Rolled by half a head, each half meets the sine of the other: the rotation of one against the other.
            halves_BXD = rotated_BXD.roll(weights.head_size // 2, -1)
            query_BXD, key_BKD = (rotated_BXD * cos_B1D).addcmul_(halves_BXD, sin_B1D).tensor_split([-num_keys], dim=1)
            self._answers.write(number, key_BKD, value_BKD)
            query_BKQD = query_BXD.reshape(num_rows, num_keys, -1, weights.head_size)
            hidden_BH += layer.attended(self._attend(number, query_BKQD).reshape(num_rows, -1))
            normed_BH = functional.rms_norm(hidden_BH, hidden_BH.shape[1:], layer.mlp_norm, weights.epsilon)
            gate, up = layer.gate_up(normed_BH).chunk(2, dim=1)
            hidden_BH += layer.down(functional.silu(gate).mul_(up))
        normed_BH = functional.rms_norm(hidden_BH, hidden_BH.shape[1:], weights.norm, weights.epsilon)
        self.logits_BV = weights.head(normed_BH).float()

    def _attend(self, layer: int, query_BKQD: Tensor) -> Tensor:
        scores = self._prompts.scores(layer, query_BKQD), self._answers.scores(layer, query_BKQD)
        scores_BKQL = torch.add(self._mask_B11L, torch.cat(scores, dim=-1), alpha=self._weights.scaling)
        weights_BKQL = scores_BKQL.softmax(dim=-1).to(query_BKQD.dtype)
        for_prompt, for_answer = weights_BKQL.tensor_split([self._prompts.length], dim=-1)
        return self._answers.mix(layer, for_answer).add_(self._prompts.mix(layer, for_prompt))


class _Prompts:
    """First logits, keys and values of prompts, `[P, K, L, D]` in each layer, padded left.

    To use each key for many rows at once, queries are laid out in blocks, `[P, N]`, whose rows continue one prompt. N
    is the mean number of rows of a prompt. A prompt with more has several blocks, and is held for each; a block with
    fewer repeats row 0, and what is computed there is dropped. So there are at most twice as many blocks as prompts,
    however unequal their shares.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._prompt_P: list[tuple[int, ...]] = []
        self._prompt_B: list[tuple[int, ...]] = []
        self._layers: list[list[Tensor]] = []
        self._logits_PV = torch.empty(0, device=model.device)

    @property
    def length(self) -> int:
        """Positions of the longest prompt."""
        return self._layers[0][0].shape[2]

    @property
    def lengths_B(self) -> list[int]:
        """Positions of each row's prompt."""
        return list(map(len, self._prompt_B))

    def add(self, prompts: Sequence[tuple[int, ...]]) -> Tensor:
        """Append rows; return the logits of their first tokens, `[new rows, V]`."""
        if unknown := list(dict.fromkeys(prompts).keys() - set(self._prompt_P)):
            computed = DecodingBatch(self._model, unknown)
            layers = [[layer.keys, layer.values] for layer in computed.cache.layers]
            both = zip(self._layers or [[]] * len(layers), layers, strict=True)
            self._layers = [list(map(_stack, *pair)) if pair[0] else pair[1] for pair in both]
            self._logits_PV = torch.cat([self._logits_PV, computed.logits_BV])
            self._prompt_P += unknown
        block_of = dict(zip(self._prompt_P, range(len(self._prompt_P)), strict=True))
        logits_BV = self._logits_PV[[block_of[prompt] for prompt in prompts]]
        self._lay_out([*self._prompt_B, *prompts])
        return logits_BV

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, and the prompts that they have."""
        self._lay_out([self._prompt_B[row] for row in rows])

    def _lay_out(self, prompt_B: list[tuple[int, ...]]) -> None:
        """Form the blocks anew, from those that are held."""
        rows_of: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
        for row, prompt in enumerate(prompt_B):
            rows_of[prompt].append(row)
        size = -(-len(prompt_B) // len(rows_of))
        blocks = [
            (prompt, rows[at : at + size]) for prompt, rows in rows_of.items() for at in range(0, len(rows), size)
        ]
        held = dict(zip(self._prompt_P, range(len(self._prompt_P)), strict=True))
        source_P = [held[prompt] for prompt, _ in blocks]
        if source_P != list(range(len(self._prompt_P))):
            unused = self.length - max(map(len, rows_of))
            self._layers = [[each[source_P, :, unused:].contiguous() for each in pair] for pair in self._layers]
            self._logits_PV = self._logits_PV[source_P]
        self._prompt_B, self._prompt_P = prompt_B, [prompt for prompt, _ in blocks]
        place_of = {row: size * block + rank for block, (_, rows) in enumerate(blocks) for rank, row in enumerate(rows)}
        row_of = {place: row for row, place in place_of.items()}
        device = self._logits_PV.device
        self._row_PN = torch.tensor([row_of.get(place, 0) for place in range(size * len(blocks))], device=device)
        self._place_B = torch.tensor([place_of[row] for row in range(len(prompt_B))], device=device)
        self._is_in_order = torch.equal(self._row_PN, self._place_B)

    def scores(self, layer: int, query_BKQD: Tensor) -> Tensor:
        """Return the products of queries with the keys of their prompts, `[B, K, Q, L]`."""
        return self._multiply(query_BKQD, self._layers[layer][0].transpose(2, 3))

    def mix(self, layer: int, weights_BKQL: Tensor) -> Tensor:
        """Return the weighted sums of the values of prompts, `[B, K, Q, D]`."""
        return self._multiply(weights_BKQL, self._layers[layer][1])

    def _multiply(self, rows_BKQX: Tensor, factors_PKXY: Tensor) -> Tensor:
        _, heads, queries, size = rows_BKQX.shape
        count = len(factors_PKXY)
        placed = rows_BKQX if self._is_in_order else rows_BKQX[self._row_PN]
        by_prompt = placed.reshape(count, -1, heads, queries, size).transpose(1, 2).reshape(count, heads, -1, size)
        product = by_prompt @ factors_PKXY
        placed = product.view(count, heads, -1, queries, product.shape[-1]).transpose(1, 2).flatten(0, 1)
        return placed if self._is_in_order else placed[self._place_B]


class _Answers:
    """Keys and values of what has been appended to the prompts, `[B, K, L, D]` in each layer, one position a step."""

    def __init__(self, num_layers: int) -> None:
        self.start_B: list[int] = []
        """The step at which each row joined."""
        self.first = 0
        """The step of the first position."""
        self.last = -1
        """The step of the last position in use."""
        self.room = 0
        """Positions, used and free."""
        self._layers: list[list[Tensor]] = [[] for _ in range(num_layers)]

    @property
    def place(self) -> int:
        """The last position in use."""
        return self.last - self.first

    def add(self, count: int) -> None:
        """Append rows, whose positions before now count for nothing."""
        self.start_B += [self.last + 1] * count
        # Not empty but zero: these positions get weight 0, and 0 times NaN is NaN.
        self._change(lambda each: functional.pad(each, (0, 0, 0, 0, 0, 0, 0, count)))

    def keep(self, rows: Sequence[int]) -> None:
        """Keep these rows, in this order, and the positions that they have."""
        self.start_B = [self.start_B[row] for row in rows]
        passed = (min(self.start_B) - self.first) // _ROOM * _ROOM
        self.first += passed
        self.room -= passed
        index = list(rows)
        self._change(lambda each: each[index, :, passed:])

    def _change(self, change: Callable[[Tensor], Tensor]) -> None:
        self._layers = [[change(each).contiguous() for each in pair] for pair in self._layers]

    def begin_step(self) -> bool:
        """Go to the next position, in all layers; return whether this needed more room."""
        self.last += 1
        if self.place < self.room:
            return False
        self.room += _ROOM
        self._change(lambda each: functional.pad(each, (0, 0, 0, _ROOM)))
        return True

    def write(self, layer: int, key_BKD: Tensor, value_BKD: Tensor) -> None:
        """Write the keys and values of the step."""
        new = key_BKD, value_BKD
        if not self._layers[layer]:
            self._layers[layer] = [each.new_zeros(*each.shape[:2], self.room, each.shape[2]) for each in new]
        for held, each in zip(self._layers[layer], new, strict=True):
            held[:, :, self.place] = each

    def scores(self, layer: int, query_BKQD: Tensor) -> Tensor:
        """Return the products of queries with the keys, `[B, K, Q, L]`."""
        return query_BKQD @ self._layers[layer][0].transpose(2, 3)

    def mix(self, layer: int, weights_BKQL: Tensor) -> Tensor:
        """Return the weighted sums of the values, `[B, K, Q, D]`."""
        return weights_BKQL @ self._layers[layer][1]


def _stack(one_PKLD: Tensor, other_PKLD: Tensor) -> Tensor:
    """Put prompts below each other, padded on the left to the same length."""
    length = max(one_PKLD.shape[2], other_PKLD.shape[2])
    return torch.cat([functional.pad(each, (0, 0, length - each.shape[2], 0)) for each in (one_PKLD, other_PKLD)])
