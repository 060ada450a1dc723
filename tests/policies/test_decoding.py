"""Tokens are drawn from exactly the distribution that the parameters describe."""

import inspect
import math
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from alphamix.policies.engines.transformers.decoding import NO_TOKEN, DecodingBatch, draw_tokens, mix_logits
from alphamix.policies.types import PolicyError


def draw(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> list[int]:
    """Draw once for every uniform number from one row of logits."""
    count = len(uniform)
    return draw_tokens(
        logits.expand(count, -1),
        torch.full((count,), temperature),
        torch.full((count,), top_p, dtype=torch.float64),
        uniform.double(),
    ).tolist()


# Evenly spaced numbers hit each token as often as its probability says, up to one: no randomness is needed.
GRID = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_are_those_of_the_softmax(temperature: float) -> None:
    logits = torch.tensor([0.3, -1.0, 2.0, -math.inf, 0.0])
    expected = (logits.double() / temperature).softmax(0)
    shares = torch.bincount(torch.tensor(draw(logits, GRID, temperature)), minlength=5) / len(GRID)
    assert torch.allclose(shares.double(), expected, atol=1.01 / len(GRID))


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0.0, [0]), (0.39, [0]), (0.41, [0, 1]), (0.69, [0, 1]), (0.71, [0, 1, 2]), (1.0, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p: float, kept: list[int]) -> None:
    probabilities = torch.tensor([0.4, 0.3, 0.2, 0.1])
    order = torch.tensor([2, 0, 3, 1])  # the likeliest token need not come first
    tokens = torch.tensor(draw(probabilities.log()[order], GRID, top_p=top_p))
    shares = torch.bincount(order[tokens], minlength=4) / len(GRID)
    expected = torch.zeros(4)
    expected[kept] = probabilities[kept] / probabilities[kept].sum()
    assert torch.allclose(shares, expected, atol=1.01 / len(GRID))


def test_temperature_comes_before_top_p() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert set(draw(logits, GRID, temperature=1.0, top_p=0.5)) == {0, 1}
    assert set(draw(logits, GRID, temperature=0.1, top_p=0.5)) == {0}  # sharpened, the first reaches it alone


def test_temperature_zero_takes_the_best() -> None:
    logits = torch.tensor([0.0, 3.0, 2.9])
    assert set(draw(logits, GRID, temperature=0.0)) == {1}
    assert set(draw(logits, GRID, temperature=1e-40)) == {1}


@given(
    logits=st.lists(st.floats(-1e4, 1e4, width=32) | st.just(-math.inf), min_size=1, max_size=8),
    uniform=st.sampled_from([0.0, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True),
    top_p=st.floats(0, 1),
)
def test_no_token_without_probability_is_drawn(logits: list[float], uniform: float, top_p: float) -> None:
    row = torch.tensor(logits)
    (token,) = draw(row, torch.tensor([uniform], dtype=torch.float64), top_p=top_p)
    if all(value == -math.inf for value in logits):
        assert token == NO_TOKEN
    else:
        assert row.softmax(0)[token] > 0


def test_broken_logits_draw_nothing_and_leave_neighbours_alone() -> None:
    logits = torch.tensor([[math.nan, 0.0], [0.0, 5.0], [math.inf, 0.0]])
    zeros = torch.zeros(3)
    tokens = draw_tokens(logits, zeros, torch.ones(3, dtype=torch.float64), zeros.double())
    assert tokens.tolist() == [NO_TOKEN, 1, NO_TOKEN]


@given(
    low=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    shift=st.floats(-1e3, 1e3, width=32),
    alpha=st.floats(-4, 4, width=32),
)
def test_a_mixture_is_the_formula_up_to_float32(low: list[float], shift: float, alpha: float) -> None:
    one = torch.tensor([low])
    other = one.flip(-1) + shift
    exact = one.double() + alpha * (other.double() - one.double())
    scale = (1 + abs(alpha)) * max(one.abs().max().item(), other.abs().max().item())
    smallest = 2**-149  # of float32: below it, rounding is absolute
    assert (mix_logits(one, other, alpha).double() - exact).abs().max().item() <= 4 * 2**-24 * scale + smallest


def test_what_both_models_exclude_stays_excluded() -> None:
    low, high = torch.tensor([[1.0, -math.inf, 0.0]]), torch.tensor([[2.0, -math.inf, 5.0]])
    assert mix_logits(low, high, 1.5).tolist() == [[2.5, -math.inf, 7.5]]


def test_each_row_may_have_its_own_alpha() -> None:
    low, high = torch.zeros(3, 2), torch.tensor([[1.0, 2.0]]).expand(3, -1)
    mixed = mix_logits(low, high, torch.tensor([[0.0], [1.0], [-0.5]]))
    assert mixed.tolist() == [[0.0, 0.0], [1.0, 2.0], [-0.5, -1.0]]


class Renamed:
    """A Llama whose `forward` gives its cache a name, whichever the installed transformers has."""

    def __init__(self, model: PreTrainedModel, name: str) -> None:
        self.config, self.device = model.config, model.device
        own = next(own for own in ("cache", "past_key_values") if own in inspect.signature(model.forward).parameters)

        def forward(**given: Any) -> Any:
            given[own] = given.pop(name)
            return model(**given)

        parameters = [inspect.Parameter(each, inspect.Parameter.KEYWORD_ONLY) for each in ("position_ids", name)]
        self.forward = forward
        forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]

    def __call__(self, **given: Any) -> Any:
        return self.forward(**given)


@pytest.fixture(scope="module")
def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)).eval()


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_is_given_by_the_name_that_the_model_has_for_it(llama: PreTrainedModel, name: str) -> None:
    """transformers 5.24 renamed `past_key_values` to `cache`; steps with a cache equal one pass over everything."""
    batch = DecodingBatch(cast("PreTrainedModel", Renamed(llama, name)), [[1, 2, 3], [4, 5]])
    sequences = [[1, 2, 3], [4, 5]]
    for _ in range(4):
        tokens = batch.logits_BV.argmax(dim=1)
        sequences = [[*row, int(token)] for row, token in zip(sequences, tokens, strict=True)]
        batch.step(tokens)
    with torch.inference_mode():
        whole = torch.stack([llama(input_ids=torch.tensor([row])).logits[0, -1] for row in sequences])
    assert torch.allclose(batch.logits_BV, whole, atol=1e-4)


def test_a_model_that_takes_no_cache_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(PolicyError, match="llama models keep no key-value cache"):
        DecodingBatch(cast("PreTrainedModel", Renamed(llama, "state")), [[1]])
