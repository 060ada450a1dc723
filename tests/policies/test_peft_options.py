"""Every option of PEFT's LoraConfig: folded, with the logits of PEFT, or refused by its name with a cure that works."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from alphamix.policies.checkpoints.safetensors_folder import describe
from alphamix.policies.lora import peft_folder
from alphamix.policies.lora.extract_adapter import extract_adapter
from alphamix.policies.lora.fold_into_base import fold_adapter
from alphamix.policies.lora.merge_adapters import merge_adapters
from alphamix.policies.lora.peft_folder import CONFIG, PREFIX, read_adapter
from alphamix.policies.types import PolicyError

from .conftest import MakeCheckpoint

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # of PEFT's own, about inits and tied weights

TOKENS = torch.arange(2, 26).reshape(2, 12)
SQUARE, ODD = ["q_proj", "o_proj"], ["k_proj", "down_proj"]


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(TOKENS).logits


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trained(base: Any, config: Any, move: Callable[[Any], None] | None = None) -> Any:
    """A model of PEFT whose trainable weights have moved away from where they started."""
    model = peft.get_peft_model(base, config)
    move_weights(model)
    if move is not None:
        with torch.no_grad():
            move(model)
    return model


def move_weights(model: Any) -> None:
    """Move the trainable weights, in place of training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) / 8)


def lora(**options: Any) -> Any:
    return peft.LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": [*SQUARE, *ODD]} | options))


def check_folded(base: Path, model: Any, folder: Path) -> None:
    """The fold has the logits of PEFT as the model was trained and as it is loaded again, and not those of the base."""
    model.save_pretrained(folder / "adapter")
    fold_adapter(base, folder / "adapter", folder / "folded")
    folded = logits_of(loaded(folder / "folded"))
    torch.testing.assert_close(folded, logits_of(model), rtol=1e-4, atol=1e-4)
    again = peft.PeftModel.from_pretrained(loaded(base), folder / "adapter")
    torch.testing.assert_close(folded, logits_of(again), rtol=1e-4, atol=1e-4)
    assert (folded - logits_of(loaded(base))).abs().max() > 0.05


FOLDED: list[dict[str, Any]] = [
    {},
    *({"init_lora_weights": start} for start in (False, "Gaussian", "orthogonal", "mica", "eva")),
    {"use_rslora": True},
    {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 5}},
    {"rank_pattern": {r"model\.layers\.[01]\.mlp\.down_proj": 7}, "alpha_pattern": {"down_proj": 1, "o_proj": 9}},
    {"layers_to_transform": [1]},
    {"layers_to_transform": 0, "layers_pattern": "layers"},
    {"target_modules": "all-linear", "exclude_modules": ["v_proj"]},
    {"target_modules": r".*\.1\..*(q|v)_proj"},
    {"modules_to_save": ["norm", "lm_head"]},
    {"modules_to_save": ["embed_tokens", "mlp"], "target_modules": SQUARE},
    {"target_modules": ["embed_tokens", "lm_head", "q_proj"]},
    {"lora_dropout": 0.5, "fan_in_fan_out": True, "task_type": "CAUSAL_LM", "revision": "main"},
]


@pytest.mark.parametrize("options", FOLDED, ids=str)
def test_what_is_plain_has_the_logits_of_peft(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, options: dict[str, Any]
) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False)
    check_folded(base, trained(loaded(base), lora(**options)), tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": ["embed_tokens", "q_proj"]},
        {"target_modules": SQUARE, "modules_to_save": ["embed_tokens"]},
    ],
    ids=str,
)
def test_tied_weights_that_peft_keeps_tied_are_folded_once(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, options: dict[str, Any]
) -> None:
    base = make_checkpoint("base")
    check_folded(base, trained(loaded(base), lora(ensure_weight_tying=True, **options)), tmp_path)


def test_a_tied_table_follows_the_cure(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    base = make_checkpoint("base")
    options = lora(target_modules=SQUARE, modules_to_save=["embed_tokens"])
    model = trained(loaded(base), options)
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PolicyError, match="untie them in the base"):
        fold_adapter(base, tmp_path / "adapter", tmp_path / "folded")
    untied = loaded(base)
    untied.config.tie_word_embeddings = False
    untied.lm_head.weight = torch.nn.Parameter(untied.model.embed_tokens.weight.detach().clone())
    untied.save_pretrained(tmp_path / "untied")
    check_folded(tmp_path / "untied", model, tmp_path)


@pytest.mark.parametrize("modules", [["c_attn", "c_proj"], ["c_proj", "lm_head"], ["c_fc", "wte"]], ids=str)
def test_the_class_of_a_module_decides_how_it_is_stored(tmp_path: Path, modules: list[str]) -> None:
    """PEFT saves one `fan_in_fan_out` for all modules: that of the last. `c_proj` is square, so no shape tells."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32, tie_word_embeddings=False)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "base")
    model = trained(loaded(tmp_path / "base"), lora(target_modules=modules))
    check_folded(tmp_path / "base", model, tmp_path)


def test_gpt2_of_the_hub_takes_adapters_and_gives_them(tmp_path: Path) -> None:
    """Its tensors have no prefix, and adapters name the modules that PEFT sees."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=70, n_embd=16, n_layer=2, n_head=2, n_positions=32)
    base, tuned = tmp_path / "base", tmp_path / "tuned"
    GPT2LMHeadModel(config).save_pretrained(base)
    stored = load_file(base / "model.safetensors")
    hub = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    save_file(hub, base / "model.safetensors", metadata={"format": "pt"})
    trained(loaded(base), lora(target_modules=["c_attn", "c_proj"])).merge_and_unload().save_pretrained(tuned)
    extract_adapter(base, tuned, tmp_path / "extracted", rank=4)
    applied = peft.PeftModel.from_pretrained(loaded(base), tmp_path / "extracted")
    torch.testing.assert_close(logits_of(applied), logits_of(loaded(tuned)), rtol=1e-4, atol=1e-4)
    check_folded(base, trained(loaded(base), lora(target_modules=["c_attn", "c_proj"])), tmp_path)


def test_experts_of_a_checkpoint_take_adapters_of_old_names(tmp_path: Path) -> None:
    """Adapters of transformers 4 have factors for each expert; PEFT converts them where experts are one parameter."""
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=2, num_experts_per_tok=1, max_position_embeddings=32,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    stored = describe(tmp_path / "base")
    tensors: dict[str, torch.Tensor] = {}
    for name in (name for name in stored if re.search(r"\.w[123]\.weight$|q_proj\.weight$", name)):
        module = PREFIX + name.removesuffix(".weight")
        out, width = stored[name].shape
        tensors |= {f"{module}.lora_A.weight": torch.randn(2, width), f"{module}.lora_B.weight": torch.randn(out, 2)}
    assert len(tensors) == 2 * 2 * (3 * 2 + 1)
    (tmp_path / "adapter").mkdir()
    save_file(tensors, tmp_path / "adapter" / "adapter_model.safetensors")
    peft.LoraConfig(r=2, lora_alpha=1, target_modules=["w1", "w2", "w3", "q_proj"]).save_pretrained(
        tmp_path / "adapter"
    )
    fold_adapter(tmp_path / "base", tmp_path / "adapter", tmp_path / "folded")
    folded = logits_of(loaded(tmp_path / "folded"))
    applied = peft.PeftModel.from_pretrained(loaded(tmp_path / "base"), tmp_path / "adapter")
    torch.testing.assert_close(folded, logits_of(applied), rtol=1e-4, atol=1e-4)
    assert (folded - logits_of(loaded(tmp_path / "base"))).abs().max() > 0.05


# What is refused. Each entry: an option, and whether PEFT can make a checkpoint of it, which is then the cure.

MERGED_BY_PEFT: dict[str, dict[str, Any]] = {
    "use_dora": {"use_dora": True},
    "bias": {"bias": "all"},
    "lora_bias": {"lora_bias": True},
    "trainable_token_indices": {"trainable_token_indices": [3, 4]},
    "target_parameters": {"target_modules": [], "target_parameters": ["q_proj.weight"]},
}
if hasattr(peft, "VeloraConfig"):
    MERGED_BY_PEFT["velora_config"] = {"velora_config": peft.VeloraConfig(num_groups=4)}
for _name, _option in (("KasaConfig", "kasa_config"), ("MontecloraConfig", "monteclora_config")):
    if hasattr(peft, _name):
        MERGED_BY_PEFT[_option] = {_option: getattr(peft, _name)()}
if hasattr(peft, "BdLoraConfig"):
    _blocks = peft.BdLoraConfig(target_modules_bd_a=["o_proj"], target_modules_bd_b=["q_proj"], nblocks=2)
    MERGED_BY_PEFT["use_bdlora"] = {"use_bdlora": _blocks, "target_modules": SQUARE}


@pytest.mark.parametrize("key", MERGED_BY_PEFT)
def test_what_is_more_than_plain_is_refused_and_merges_in_peft(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, key: str
) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False, attention_bias=True, mlp_bias=True)
    model = trained(loaded(base), lora(**MERGED_BY_PEFT[key]))
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PolicyError, match=rf"has {key} = .*: fold the adapter into its base with PEFT's merge_and_unl"):
        fold_adapter(base, tmp_path / "adapter", tmp_path / "folded")
    with pytest.raises(PolicyError, match=f"has {key} = "):
        merge_adapters(tmp_path / "adapter", tmp_path / "adapter", {0.5: tmp_path / "merged"})
    expected = logits_of(model)
    model.merge_and_unload().save_pretrained(tmp_path / "cured")
    torch.testing.assert_close(logits_of(loaded(tmp_path / "cured")), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_2", "olora"])
def test_an_init_that_changes_the_base_is_refused_and_both_cures_work(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, start: str
) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False)
    fresh = peft.get_peft_model(loaded(base), lora(init_lora_weights=start))
    fresh.peft_config["default"].init_lora_weights = True  # as PEFT's guide of the conversion asks
    fresh.save_pretrained(tmp_path / "initial")
    fresh.peft_config["default"].init_lora_weights = start
    move_weights(fresh)
    fresh.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PolicyError, match=rf"has init_lora_weights = '{start}', which changes the base's weights"):
        fold_adapter(base, tmp_path / "adapter", tmp_path / "folded")
    expected = logits_of(fresh)
    fresh.save_pretrained(tmp_path / "plain", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    fold_adapter(base, tmp_path / "plain", tmp_path / "folded")
    torch.testing.assert_close(logits_of(loaded(tmp_path / "folded")), expected, rtol=1e-3, atol=1e-3)
    fresh.merge_and_unload().save_pretrained(tmp_path / "cured")
    torch.testing.assert_close(logits_of(loaded(tmp_path / "cured")), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("start", ["corda", "loftq", "lora_ga", "Pissa", "a later one"])
def test_other_inits_that_change_the_base_are_refused(tmp_path: Path, start: str) -> None:
    peft.LoraConfig(target_modules=SQUARE).save_pretrained(tmp_path)
    set_config(tmp_path, init_lora_weights=start)
    with pytest.raises(PolicyError, match=f"init_lora_weights = '{start}'"):
        read_adapter(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("alora_invocation_tokens", [1, 2]), ("layer_replication", [[0, 2], [1, 2]]), ("arrow_config", {"top_k": 1}),
     ("use_qalora", True)],
)  # fmt: skip
def test_what_no_checkpoint_holds_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    peft.LoraConfig(target_modules=SQUARE).save_pretrained(tmp_path)
    set_config(tmp_path, **{key: value})
    with pytest.raises(PolicyError, match=rf"has {key} = .*: serve base and adapter with a server that knows it"):
        read_adapter(tmp_path)


def test_a_key_of_a_later_peft_is_refused_only_if_it_is_set(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False)
    model = trained(loaded(base), lora())
    model.save_pretrained(tmp_path / "later")
    set_config(tmp_path / "later", use_newlora=True, other_config=None, third={}, fourth="none")
    with pytest.raises(PolicyError, match=r"has use_newlora = True.*or delete the key if it is not one of PEFT's"):
        read_adapter(tmp_path / "later")
    set_config(tmp_path / "later", use_newlora=False)
    assert read_adapter(tmp_path / "later").modules


@pytest.mark.skipif(not peft.__version__.startswith("0.21."), reason="a later PEFT's new options are refused unknown")
def test_every_option_of_peft_is_known() -> None:
    """Each is known to change nothing, or has a test above that refuses it."""
    refused = {*MERGED_BY_PEFT, *peft_folder._NOT_MERGED_BY_PEFT, "megatron_config"}  # pyright: ignore[reportPrivateUsage]
    known = peft_folder._WITHOUT_EFFECT | refused  # pyright: ignore[reportPrivateUsage]
    assert {field.name for field in dataclasses.fields(peft.LoraConfig)} <= known


def test_other_kinds_of_adapters_are_refused_and_merge_in_peft(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False)
    model = trained(loaded(base), peft.LoHaConfig(r=2, target_modules=SQUARE))
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(PolicyError, match="of type LOHA: give a LORA adapter, or as a checkpoint what PEFT's merge"):
        fold_adapter(base, tmp_path / "adapter", tmp_path / "folded")
    expected = logits_of(model)
    model.merge_and_unload().save_pretrained(tmp_path / "cured")
    torch.testing.assert_close(logits_of(loaded(tmp_path / "cured")), expected, rtol=1e-4, atol=1e-4)


def test_a_rank_that_is_not_that_of_the_factors_is_refused(tmp_path: Path, make_checkpoint: MakeCheckpoint) -> None:
    base = make_checkpoint("base", tie_word_embeddings=False)
    trained(loaded(base), lora()).save_pretrained(tmp_path / "adapter")
    set_config(tmp_path / "adapter", r=8)
    with pytest.raises(PolicyError, match=r"states rank 8 for '.*' and its factors have 4"):
        read_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("start", ["orthogonal", "mica", "eva"])
def test_merges_of_adapters_load_whatever_their_init(
    tmp_path: Path, make_checkpoint: MakeCheckpoint, start: str
) -> None:
    """PEFT repeats an init when it loads: "orthogonal" refuses odd ranks, "mica" those above the size of a matrix."""
    base = make_checkpoint("base", tie_word_embeddings=False)
    trained(loaded(base), lora(init_lora_weights=start, r=4)).save_pretrained(tmp_path / "low")
    trained(loaded(base), lora(r=21)).save_pretrained(tmp_path / "high")
    merge_adapters(tmp_path / "low", tmp_path / "high", {0.5: tmp_path / "merged"})
    fold_adapter(base, tmp_path / "merged", tmp_path / "folded")
    applied = peft.PeftModel.from_pretrained(loaded(base), tmp_path / "merged")
    torch.testing.assert_close(logits_of(loaded(tmp_path / "folded")), logits_of(applied), rtol=1e-4, atol=1e-4)


def set_config(folder: Path, **values: Any) -> None:
    (folder / "adapter_model.safetensors").touch()
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
