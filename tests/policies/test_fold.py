"""A folded adapter against brute force, bit for bit, and against PEFT itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from alphamix.policies.checkpoints.dtypes import from_float64, to_float64
from alphamix.policies.checkpoints.safetensors_folder import describe, read_bytes
from alphamix.policies.lora import fold_into_base as fold
from alphamix.policies.lora.fold_into_base import fold_adapter
from alphamix.policies.lora.merge_adapters import merge_adapters
from alphamix.policies.lora.peft_folder import CONFIG, PREFIX
from alphamix.policies.types import PolicyError

from .conftest import MakeCheckpoint

DOWN, TABLE, NORM = "model.layers.1.mlp.down_proj", "model.embed_tokens", "model.norm.weight"


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir()
    save_file({PREFIX + name: tensor for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 3} | config))
    return folder


def factors(module: str, shape: tuple[int, int], rank: int, kind: str = "lora_") -> dict[str, torch.Tensor]:
    torch.manual_seed(rank)
    end = "" if kind == "lora_embedding_" else ".weight"
    return {
        f"{module}.{kind}A{end}": torch.randn(rank, shape[1]),
        f"{module}.{kind}B{end}": torch.randn(shape[0], rank),
    }


def rounded_once(values: NDArray[np.float64], folder: Path, name: str) -> bytes:
    return from_float64(values.ravel(), describe(folder)[name].dtype).tobytes()


def values_of(folder: Path, name: str) -> NDArray[np.float64]:
    tensor = describe(folder)[name]
    return to_float64(read_bytes(tensor), tensor.dtype).reshape(tensor.shape)


@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_what_changes_is_rounded_once_and_all_else_is_as_it_was(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, shard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fold, "_VALUES_AT_ONCE", 100)  # some rows at a time
    base = make_checkpoint("base", dtype=torch.bfloat16, shard=shard, tie_word_embeddings=False)
    tensors = factors(DOWN, (32, 48), 2) | factors(TABLE, (32, 288), 4, "lora_embedding_")
    adapter = write_adapter(tmp_path / "adapter", tensors | {NORM: torch.full((32,), 1 / 3)})
    (adapter / "chat_template.jinja").write_text("of the adapter")
    (adapter / "added_tokens.json").write_text("{}")
    fold_adapter(base, adapter, tmp_path / "folded")
    double = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    expected = {
        f"{DOWN}.weight": values_of(base, f"{DOWN}.weight")
        + 3 / 2 * double[f"{DOWN}.lora_B.weight"] @ double[f"{DOWN}.lora_A.weight"],
        f"{TABLE}.weight": values_of(base, f"{TABLE}.weight")
        + 3 / 4 * (double[f"{TABLE}.lora_embedding_B"] @ double[f"{TABLE}.lora_embedding_A"]).T,
        NORM: torch.full((32,), 1 / 3).double().numpy(),
    }
    was, folded = describe(base), describe(tmp_path / "folded")
    assert list(folded) == list(was)
    for name, tensor in folded.items():
        assert (tensor.file.name, tensor.dtype) == (was[name].file.name, "BF16")
        if name in expected:
            assert read_bytes(tensor).tobytes() == rounded_once(expected[name], base, name)
        else:
            assert read_bytes(tensor).tobytes() == read_bytes(was[name]).tobytes()
    kept = {path.name for path in base.iterdir()}
    assert {path.name for path in (tmp_path / "folded").iterdir()} == kept | {"fold.json", "added_tokens.json"}
    assert (tmp_path / "folded" / "chat_template.jinja").read_text() == (base / "chat_template.jinja").read_text()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of PEFT's own
@pytest.mark.parametrize("rslora", [False, True])
def test_the_model_is_that_of_peft(tmp_path: Path, make_checkpoint: MakeCheckpoint, rslora: bool) -> None:
    peft = pytest.importorskip("peft")
    base = make_checkpoint("base", tie_word_embeddings=False)
    config = peft.LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=["q_proj", "down_proj", "embed_tokens"],
        rank_pattern={"down_proj": 2},
        alpha_pattern={"layers.0.self_attn.q_proj": 7},
        use_rslora=rslora,
        modules_to_save=["norm"],
    )
    model: Any = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) / 4)
    model.save_pretrained(tmp_path / "adapter")
    fold_adapter(base, tmp_path / "adapter", tmp_path / "folded")
    merged = model.merge_and_unload().state_dict()
    folded = load_file(tmp_path / "folded" / "model.safetensors")
    assert set(folded) == set(merged)
    for name, tensor in folded.items():
        torch.testing.assert_close(tensor, merged[name], rtol=1e-5, atol=1e-6)
    changed = {name for name, tensor in load_file(base / "model.safetensors").items() if not tensor.equal(folded[name])}
    assert len(changed) == 2 * 2 + 1 + 5  # two modules in two layers, the table, all norms


def test_a_tied_table_is_changed_whole_or_not_at_all(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    base = make_checkpoint("base")
    table = torch.ones(288, 32)
    for n, tensors in enumerate(
        (
            factors(TABLE, (32, 288), 2, "lora_embedding_"),
            factors("lm_head", (288, 32), 2),
            factors(DOWN, (32, 48), 2) | {f"{TABLE}.weight": table},
            factors(DOWN, (32, 48), 2) | {f"{TABLE}.weight": table, "lm_head.weight": 2 * table},
        )
    ):
        with pytest.raises(PolicyError, match="is embeddings and output layer in one; untie them"):
            fold_adapter(base, write_adapter(tmp_path / f"{n}", tensors), tmp_path / "folded")
    both = factors(DOWN, (32, 48), 2) | {f"{TABLE}.weight": table, "lm_head.weight": table.clone()}
    fold_adapter(base, write_adapter(tmp_path / "both", both), tmp_path / "folded")
    folded = load_file(tmp_path / "folded" / "model.safetensors")
    assert torch.equal(folded[f"{TABLE}.weight"], table)
    assert "lm_head.weight" not in folded


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        (
            factors("model.layers.9.mlp.down_proj", (32, 48), 2),
            r"layers.9.mlp.down_proj.weight' is not in the base and",
        ),
        (factors(DOWN, (32, 40), 2), r"is F32 \[32, 48\] in the base and \[32, 40\] for the adapter"),
        (
            factors(DOWN, (32, 48), 2) | {NORM: torch.ones(8)},
            r"'model.norm.weight' is F32 \[32\] in the base and \[8\]",
        ),
        (
            factors(TABLE, (32, 288), 2, "lora_embedding_") | {f"{TABLE}.base_layer.weight": torch.ones(288, 32)},
            "its copy of the base's 'model.embed_tokens.weight' differs",
        ),
        (
            {n: t * 1e30 for n, t in factors(DOWN, (32, 48), 2).items()},
            "leaves the range of F32: lower the adapter's lora_alpha",
        ),
    ],
)
def test_what_does_not_fit_leaves_nothing(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, tensors: dict[str, torch.Tensor], told: str
) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False)
    adapter = write_adapter(tmp_path / "adapter", tensors)
    with pytest.raises(PolicyError, match=told):
        fold_adapter(base, adapter, tmp_path / "folded")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_merged_adapters_of_peft_are_loaded_by_it_and_folded_alike(
    tmp_path: Path, make_checkpoint: MakeCheckpoint
) -> None:
    peft = pytest.importorskip("peft")
    base = make_checkpoint("base")
    for seed, (name, modules) in enumerate((("low", ["q_proj", "down_proj"]), ("high", ["q_proj", "v_proj"]))):
        config = peft.LoraConfig(r=2 + seed, lora_alpha=5, target_modules=modules)
        model: Any = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.randn_like(parameter) / 4)
        model.save_pretrained(tmp_path / name)
    merge_adapters(tmp_path / "low", tmp_path / "high", {1.5: tmp_path / "merged"})
    fold_adapter(base, tmp_path / "merged", tmp_path / "folded")
    applied: Any = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "merged")
    folded: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "folded")
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        torch.testing.assert_close(folded(tokens).logits, applied(tokens).logits, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(folded(tokens).logits, AutoModelForCausalLM.from_pretrained(base)(tokens).logits)
