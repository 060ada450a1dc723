"""What is read of a checkpoint is what transformers loads, in each of these architectures: files, names, values, what
is tied, and what its config means."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, PreTrainedConfig

from alphamix.policies.checkpoints import as_transformers
from alphamix.policies.checkpoints.as_transformers import as_loaded, context_length, resolved_config
from alphamix.policies.checkpoints.safetensors_folder import INDEX, WEIGHTS, describe
from alphamix.policies.checkpoints.tied_weights import ties_embeddings
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.merging.merge import merge
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, about odd sizes

ALPHA = 0.7
TOKENS = torch.arange(3, 33).reshape(2, 15)
SMALL: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 32,
    "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
}  # fmt: skip
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
LATENT = {
    "num_key_value_heads": 2, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2,
    "moe_intermediate_size": 8, "first_k_dense_replace": 1, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4, "v_head_dim": 8, "n_shared_experts": 1, "head_dim": 4,
}  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "llama": SMALL,
    "qwen2": SMALL,
    "qwen3": SMALL,
    "qwen3_moe": SMALL | EXPERTS,
    "mistral": SMALL | {"sliding_window": 8},
    "mixtral": SMALL | EXPERTS,
    "gemma": SMALL,
    "gemma2": SMALL | {"sliding_window": 8, "query_pre_attn_scalar": 8},
    "gemma3_text": SMALL | {"sliding_window": 8, "query_pre_attn_scalar": 8},
    "phi3": SMALL,
    "gpt2": {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32, "bos_token_id": 0,
             "eos_token_id": 1},
    "gpt_neox": SMALL,
    "deepseek_v2": SMALL | LATENT,
    "deepseek_v3": SMALL | LATENT,
}  # fmt: skip
TIED = ("llama", "qwen2", "gemma", "gemma3_text", "gpt2", "gpt_neox")

Change = Callable[[dict[str, Any]], dict[str, Any]]


def tiny(kind: str, **changes: Any) -> PreTrainedConfig:
    return transformers.AutoConfig.for_model(kind, **(SIZES[kind] | changes))


def save(folder: Path, config: PreTrainedConfig, seed: int, shard: str = "1GB") -> Path:
    torch.manual_seed(seed)
    model: Any = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(folder, max_shard_size=shard)
    return folder


def load(folder: Path) -> Any:
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.detach() for name, tensor in load(folder).state_dict().items()}


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(TOKENS).logits


def rewrite_config(folder: Path, change: Change) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    return folder


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]) -> Path:
    changed = {name: tensor.contiguous() for name, tensor in change(load_file(folder / WEIGHTS)).items()}
    save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})
    return folder


def check_merge(low: Path, high: Path, folder: Path) -> None:
    """A merge has the weights and the logits of one made by hand in torch, from what transformers loads."""
    merge(low, high, {ALPHA: folder})
    one, other, merged = weights_of(low), weights_of(high), weights_of(folder)
    by_hand = {name: (one[name].double() + ALPHA * (other[name].double() - one[name].double())).float() for name in one}
    assert merged.keys() == by_hand.keys()
    for name, tensor in merged.items():
        assert torch.equal(tensor, by_hand[name]), name
    model = load(low)
    model.load_state_dict(by_hand)
    assert torch.equal(logits_of(load(folder)), logits_of(model))


@pytest.mark.parametrize("kind", SIZES)
def test_merges_are_those_of_what_transformers_loads(tmp_path: Path, kind: str) -> None:
    low = save(tmp_path / "low", tiny(kind), 1, shard="10KB")
    high = save(tmp_path / "high", tiny(kind), 2)
    assert (low / INDEX).is_file()
    assert not (high / INDEX).is_file()
    check_merge(low, high, tmp_path / "merged")


@pytest.mark.parametrize("kind", SIZES)
def test_names_and_values_are_those_of_parameters(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "low", tiny(kind), 1)
    weights, stored = weights_of(folder), load_file(folder / WEIGHTS)
    read = as_loaded(folder, describe(folder))
    assert {tensor.name for tensor in read.values()} == stored.keys()  # nothing that counts is left out
    parts = {name for name in read if name not in weights}
    assert all(".experts." in name or "block_sparse_moe" in name for name in parts)  # become parts of a parameter
    for name in read.keys() - parts:
        assert torch.equal(stored[read[name].name], weights[name])


@pytest.mark.parametrize("kind", TIED)
def test_tied_weights_merge_whether_the_copy_is_stored_or_not(tmp_path: Path, kind: str) -> None:
    without = save(tmp_path / "without", tiny(kind, tie_word_embeddings=True), 1)
    stored = save(tmp_path / "stored", tiny(kind, tie_word_embeddings=True), 2)
    (head,) = weights_of(stored).keys() - load_file(stored / WEIGHTS).keys()
    rewrite_weights(stored, lambda tensors: tensors | {head: weights_of(stored)[head].clone()})
    check_merge(without, stored, tmp_path / "one")
    check_merge(stored, without, tmp_path / "other")
    both = save(tmp_path / "both", tiny(kind, tie_word_embeddings=True), 3)
    rewrite_weights(both, lambda tensors: tensors | {head: weights_of(both)[head].clone()})
    check_merge(stored, both, tmp_path / "copies")


@pytest.mark.parametrize("kind", SIZES)
def test_ties_are_those_of_transformers_also_without_the_key(tmp_path: Path, kind: str) -> None:
    folder = save(tmp_path / "low", tiny(kind), 1)
    assert ties_embeddings(folder) == load(folder).config.tie_word_embeddings
    rewrite_config(folder, lambda config: {k: v for k, v in config.items() if k != "tie_word_embeddings"})
    assert ties_embeddings(folder) == transformers.AutoConfig.from_pretrained(folder).tie_word_embeddings


def test_a_stored_head_that_its_config_ties_to_another_table_is_refused(tmp_path: Path) -> None:
    low = save(tmp_path / "low", tiny("llama", tie_word_embeddings=False), 1)
    high = save(tmp_path / "high", tiny("llama", tie_word_embeddings=False), 2)
    rewrite_config(low, lambda config: config | {"tie_word_embeddings": True})
    with pytest.raises(PolicyError, match='differ although its config ties them: write "tie_word_embeddings": false'):
        check_mergeable({"low": low, "high": high})
    rewrite_config(low, lambda config: config | {"tie_word_embeddings": False})
    check_merge(low, high, tmp_path / "merged")


# Configs.


def as_version_4(config: dict[str, Any]) -> dict[str, Any]:
    """A config as transformers 4 wrote it: `rope_theta` and `rope_scaling`, `torch_dtype`, and no more than needed."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype", "layer_types")}
    rope = dict(config.get("rope_parameters") or {})
    if "full_attention" in rope:  # Gemma 3 has one for each type of layer
        local, rope = rope["sliding_attention"], dict(rope["full_attention"])
        old["rope_local_base_freq"] = local["rope_theta"]
    if rope:
        old["rotary_emb_base" if config["model_type"] == "gpt_neox" else "rope_theta"] = rope.pop("rope_theta")
        if rope.pop("rope_type", "default") != "default":
            old["rope_scaling"] = rope
        if "partial_rotary_factor" in rope:
            old["rotary_pct" if config["model_type"] == "gpt_neox" else "partial_rotary_factor"] = rope[
                "partial_rotary_factor"
            ]
    return old | {"torch_dtype": "float32", "transformers_version": "4.40.0"}


@pytest.mark.parametrize("kind", SIZES)
def test_a_config_of_version_4_means_what_it_did(tmp_path: Path, kind: str) -> None:
    low = save(tmp_path / "low", tiny(kind), 1)
    expected = logits_of(load(low))
    rewrite_config(low, as_version_4)
    assert torch.equal(logits_of(load(low)), expected)
    check_merge(low, save(tmp_path / "high", tiny(kind), 2), tmp_path / "merged")


@pytest.mark.parametrize("kind", ["llama", "qwen3_moe", "gpt_neox"])
def test_another_rotation_is_found_across_versions(tmp_path: Path, kind: str) -> None:
    rope = dict(tiny(kind).rope_parameters) | {"rope_theta": 1e6}
    low, high = save(tmp_path / "low", tiny(kind), 1), save(tmp_path / "high", tiny(kind, rope_parameters=rope), 2)
    rewrite_config(low, as_version_4)
    with pytest.raises(PolicyError, match=r"rope_parameters of config.json is \{.* in low and \{.*1000000.0.* in high"):
        check_mergeable({"low": low, "high": high})
    with pytest.raises(PolicyError, match=r"or write into both config.json what holds for both"):
        check_mergeable({"high": high, "low": low})
    key = "rotary_emb_base" if kind == "gpt_neox" else "rope_theta"
    rewrite_config(low, lambda config: config | {key: 1e6})
    check_merge(low, high, tmp_path / "merged")


def otherwise(value: Any) -> list[Any]:
    """Other values of a key, as far as its value shows."""
    match value:
        case bool():
            return [not value]
        case int():
            return [value + 1, 2 * value, max(1, value // 2)]
        case float():
            return [2 * value + 0.25, value / 2]
        case str():
            return ["relu"]
        case list():
            return [list(reversed(value)), ["full_attention"] * len(value)]
        case dict():
            return [value | {key: other} for key in value for other in otherwise(value[key])[:1]]
        case _:
            return [2, 0.5, True]


@pytest.mark.parametrize("kind", SIZES)
def test_every_key_that_changes_logits_is_compared(tmp_path: Path, kind: str) -> None:
    """Each key of the resolved config gets other values: what then loads and computes something else must not merge."""
    low = save(tmp_path / "low", tiny(kind), 1)
    config, expected = transformers.AutoConfig.from_pretrained(low), logits_of(load(low))
    weights, changes = weights_of(low), set[str]()
    (high := tmp_path / "high").mkdir()
    (high / WEIGHTS).symlink_to(low / WEIGHTS)
    for key, value in sorted(config.to_dict().items()):
        for other in otherwise(value):
            (high / "config.json").write_text(json.dumps(config.to_dict() | {key: other}, default=str))
            try:
                changed: Any = AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(high)).eval()
                changed.load_state_dict(weights)
                is_same = torch.equal(logits_of(changed), expected)
            except Exception:  # no model: another value is tried
                continue
            if not is_same:
                changes.add(key)
                with pytest.raises(PolicyError, match=r"of config.json is|its config ties them"):
                    check_mergeable({"low": low, "high": high})
    assert len(changes) >= 3, changes


def test_what_no_model_reads_is_not_compared(tmp_path: Path) -> None:
    low, high = save(tmp_path / "low", tiny("qwen2"), 1), save(tmp_path / "high", tiny("qwen2"), 2)
    rewrite_config(
        high,
        lambda config: (
            config
            | {"max_position_embeddings": 999, "sliding_window": 5, "use_sliding_window": False, "max_window_layers": 1}
            | {"unsloth_version": "1", "torch_dtype": "bfloat16", "eos_token_id": 3, "attention_dropout": 0.5}
        ),
    )
    check_merge(low, high, tmp_path / "merged")


def test_the_context_is_compared_where_the_rotation_depends_on_it(tmp_path: Path) -> None:
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    low, high = (
        save(tmp_path / name, tiny("llama", rope_parameters=rope, max_position_embeddings=length), 1)
        for name, length in (("low", 32), ("high", 64))
    )
    with pytest.raises(PolicyError, match=r"max_position_embeddings of config.json is 32 in low and 64 in high"):
        check_mergeable({"low": low, "high": high})


def test_without_transformers_files_are_compared_strictly_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low, high = save(tmp_path / "low", tiny("llama"), 1), save(tmp_path / "high", tiny("llama"), 2)
    monkeypatch.setattr(as_transformers, "_is_installed", lambda *_: False)
    assert resolved_config(low) is None
    merge(low, high, {0.5: tmp_path / "merged"})  # nothing differs, so nothing needs to be asked
    rewrite_config(low, as_version_4)
    with pytest.raises(PolicyError, match=r"rope_parameters of config\.json is None .*pip install 'alphamix\[local\]'"):
        check_mergeable({"low": low, "high": high})
    rewrite_config(low, lambda _: json.loads((high / "config.json").read_text()))
    rewrite_weights(low, lambda tensors: tensors | {"model.rotary_emb.inv_freq": torch.ones(4)})
    with pytest.raises(PolicyError, match=r"inv_freq' is in low but not in high \(files are compared as they stand"):
        check_mergeable({"low": low, "high": high})


@pytest.mark.parametrize("kind", SIZES)
def test_the_context_is_that_of_transformers_also_by_default(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "low"
    tiny(kind).save_pretrained(folder)
    assert context_length(folder) == 32
    names = ("max_position_embeddings", "n_positions")
    rewrite_config(folder, lambda config: {k: v for k, v in config.items() if k not in names})
    assert context_length(folder) == transformers.AutoConfig.from_pretrained(folder).max_position_embeddings


# Names.


def test_buffers_that_transformers_computes_are_left_out(tmp_path: Path) -> None:
    low, high = save(tmp_path / "low", tiny("llama"), 1), save(tmp_path / "high", tiny("llama"), 2)
    old = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": torch.full((4,), float(n)) for n in range(2)}
    rewrite_weights(low, lambda tensors: tensors | old)
    check_merge(low, high, tmp_path / "one")
    check_merge(high, low, tmp_path / "other")
    assert not old.keys() & load_file(tmp_path / "one" / WEIGHTS).keys()
    rewrite_weights(high, lambda tensors: tensors | {"model.layers.0.unheard_of": torch.ones(1)})
    with pytest.raises(PolicyError, match="unheard_of' is in high but not in low; merge only checkpoints"):
        check_mergeable({"low": low, "high": high})


def test_gpt2_of_the_hub_merges_with_one_that_was_saved_anew(tmp_path: Path) -> None:
    low, high = save(tmp_path / "low", tiny("gpt2"), 1), save(tmp_path / "high", tiny("gpt2"), 2)
    masks = {f"h.{n}.attn.bias": torch.ones(1, 1, 32, 32).tril() for n in range(2)}
    masks |= {f"h.{n}.attn.masked_bias": torch.tensor(-1e4) for n in range(2)}
    rewrite_weights(low, lambda t: {name.removeprefix("transformer."): v for name, v in t.items()} | masks)
    check_merge(low, high, tmp_path / "one")
    check_merge(high, low, tmp_path / "other")
    assert "h.0.attn.c_attn.weight" in describe(tmp_path / "one")
    assert "transformer.h.0.attn.c_attn.weight" in describe(tmp_path / "other")


def test_a_model_that_was_saved_without_its_head_merges(tmp_path: Path) -> None:
    low = save(tmp_path / "low", tiny("llama", tie_word_embeddings=True), 1)
    high = save(tmp_path / "high", tiny("llama", tie_word_embeddings=True), 2)
    rewrite_weights(high, lambda tensors: {name.removeprefix("model."): v for name, v in tensors.items()})
    check_merge(low, high, tmp_path / "merged")


# Files.


def test_a_single_file_beside_shards_is_refused_and_either_cure_works(tmp_path: Path) -> None:
    low, high = save(tmp_path / "low", tiny("llama"), 1, shard="10KB"), save(tmp_path / "high", tiny("llama"), 2)
    single, index = low / WEIGHTS, low / INDEX
    save_file(load_file(high / WEIGHTS), single, metadata={"format": "pt"})
    both = rf"has both model\.safetensors and {INDEX}, and engines differ in which they read: remove the one"
    with pytest.raises(PolicyError, match=both):
        describe(low)
    (tmp_path / "policies.toml").write_text('[policies.low]\ncheckpoint = "low"')
    with pytest.raises(PolicyError, match=both):
        Registry.load(tmp_path / "policies.toml").open("low", EngineOptions(device="cpu"))
    text = index.read_text()
    index.unlink()
    with pytest.raises(PolicyError, match=r"has both model\.safetensors and model-00001-of-\d+\.safetensors"):
        describe(low)
    index.write_text(text)
    single.unlink()
    check_merge(low, high, tmp_path / "merged")
    named = dict.fromkeys(describe(high), WEIGHTS)
    (high / INDEX).write_text(json.dumps({"weight_map": named}))  # names the single file: all engines agree
    assert {tensor.file.name for tensor in describe(high).values()} == {WEIGHTS}


def test_weights_that_only_a_key_of_the_config_names_are_refused(tmp_path: Path) -> None:
    low = save(tmp_path / "low", tiny("llama"), 1)
    (low / WEIGHTS).rename(low / "others.safetensors")
    rewrite_config(low, lambda config: config | {"transformers_weights": "others.safetensors"})
    with pytest.raises(PolicyError, match=r"names others\.safetensors as its weights.*: rename the file to model"):
        describe(low)
    (low / "others.safetensors").rename(low / WEIGHTS)
    rewrite_config(low, lambda config: {k: v for k, v in config.items() if k != "transformers_weights"})
    assert describe(low)


# Without torch, without transformers.

MERGE_WITHOUT = """
import sys
sys.modules |= dict.fromkeys(sys.argv[3:])  # as if they were not installed
from pathlib import Path
import alphamix
from alphamix.policies.merging.merge import merge
low, high = Path(sys.argv[1]), Path(sys.argv[2])
try:
    merge(low, high, {0.5: low.parent / "-".join(sys.argv[3:])})
except alphamix.AlphamixError as error:
    print(error)
"""


def test_the_core_merges_without_torch_and_without_transformers(tmp_path: Path) -> None:
    low, high = save(tmp_path / "low", tiny("llama"), 1), save(tmp_path / "high", tiny("llama"), 2)

    def merge_without(*packages: str) -> str:
        command = [sys.executable, "-c", MERGE_WITHOUT, low, high, *packages]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        assert ended.stderr == ""
        return ended.stdout

    assert merge_without("torch", "transformers") == ""
    rewrite_config(low, as_version_4)
    assert "rope_parameters of config.json is None in low" in merge_without("transformers", "torch")
    assert merge_without("torch") == ""
    assert {path.name for path in tmp_path.iterdir()} == {"low", "high", "torch-transformers", "torch"}
