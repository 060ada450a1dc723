"""An adapter of full rank is the tuned checkpoint; one of lower rank is the nearest, and says what it lacks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from alphamix.policies.lora.extract_adapter import extract_adapter, truncated
from alphamix.policies.lora.peft_folder import CONFIG, PREFIX
from alphamix.policies.types import PolicyError

from .conftest import MakeCheckpoint

LADDER = Path(__file__).parents[2] / "examples" / "ladder" / "checkpoints"


@pytest.mark.parametrize("rank", [2, 7, 20, 40])
def test_truncation_is_the_best_approximation(rank: int) -> None:
    change = np.random.default_rng(0).normal(size=(30, 24))
    a, b = truncated(change, rank)
    assert (a.shape, b.shape) == ((rank, 24), (30, rank))
    rest = np.linalg.svd(change, compute_uv=False)[rank:]
    assert np.linalg.norm(change - b @ a) == pytest.approx(np.linalg.norm(rest), abs=1e-12)


def test_a_change_of_low_rank_is_recovered_to_rounding(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base, tuned = make_checkpoint("base"), make_checkpoint("tuned")
    tensors = load_file(tuned / "model.safetensors")
    name = "model.layers.1.mlp.up_proj"
    generator = torch.Generator().manual_seed(1)
    change = torch.randn(48, 2, generator=generator) @ torch.randn(2, 32, generator=generator)
    tensors[f"{name}.weight"] += change
    save_file(tensors, tuned / "model.safetensors", metadata={"format": "pt"})
    (entry,) = extract_adapter(base, tuned, tmp_path / "adapter", rank=3)  # 3 of 32: by Lanczos
    assert (entry.tensor, entry.how) == (f"{name}.weight", "factors")
    assert entry.kept == pytest.approx(1, abs=1e-12)
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    product = adapter[f"{PREFIX}{name}.lora_B.weight"] @ adapter[f"{PREFIX}{name}.lora_A.weight"]
    assert torch.allclose(product, change, atol=1e-5)
    assert json.loads((tmp_path / "adapter" / CONFIG).read_text())["target_modules"] == [name]


def test_what_is_not_covered_is_named_with_its_energy(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base, tuned = make_checkpoint("base", seed=1), make_checkpoint("tuned", seed=2)
    report = {entry.tensor: entry for entry in extract_adapter(base, tuned, tmp_path / "a", rank=4, target="q_proj")}
    one, other = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    assert report.keys() == one.keys()
    for name, entry in report.items():
        change = other[name].double() - one[name].double()
        assert entry.energy == pytest.approx(float((change**2).sum()))
        assert entry.how == ("factors" if "q_proj" in name else "lost")
        if "q_proj" in name:
            squares = torch.linalg.svdvals(change) ** 2
            assert entry.kept == pytest.approx(float(squares[:4].sum() / squares.sum()), abs=1e-6)
    again = extract_adapter(base, tuned, tmp_path / "a", rank=4, target="q_proj")
    assert {entry.tensor: entry for entry in again} == report


def test_wrong_inputs_are_told(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base, tuned = make_checkpoint("base", seed=1), make_checkpoint("tuned", seed=2)
    with pytest.raises(PolicyError, match="rank of an adapter is 0"):
        extract_adapter(base, tuned, tmp_path / "a", rank=0)
    with pytest.raises(PolicyError, match="no linear module differs"):
        extract_adapter(base, base, tmp_path / "a", rank=1)
    with pytest.raises(PolicyError, match="matches 'conv'"):
        extract_adapter(base, tuned, tmp_path / "a", rank=1, target="conv")
    assert not (tmp_path / "a").exists()


@pytest.mark.filterwarnings("ignore")
def test_peft_loads_it_and_at_full_rank_it_is_the_tuned_checkpoint(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base, tuned = LADDER / "low", LADDER / "high"
    report = extract_adapter(base, tuned, tmp_path / "adapter", rank=10**6, save_rest=True)
    assert {entry.how for entry in report} == {"factors", "saved"}
    assert all(entry.kept == pytest.approx(1, abs=1e-9) for entry in report)
    expected = AutoModelForCausalLM.from_pretrained(tuned)
    model = AutoModelForCausalLM.from_pretrained(base)
    tokens = torch.arange(2, 42)[None]
    with torch.no_grad():
        before = model(tokens).logits
        adapted = peft.PeftModel.from_pretrained(model, tmp_path / "adapter")(tokens).logits
        logits = expected(tokens).logits
    assert (before - logits).abs().max() > 0.1
    assert torch.allclose(adapted, logits, atol=1e-4)
