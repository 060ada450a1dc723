"""The advice in refusals is good: each test is refused, does what the message says, and gets what it wanted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from alphamix.ensemble.cli.commands.merge import merge as merge_command
from alphamix.policies.checkpoints import as_transformers
from alphamix.policies.checkpoints.safetensors_folder import WEIGHTS, describe
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.lora.fold_into_base import fold_adapter
from alphamix.policies.lora.merge_adapters import merge_adapters
from alphamix.policies.merging.compatibility import check_mergeable, check_mixable
from alphamix.policies.merging.merge import merge
from alphamix.policies.merging.trajectory import extrapolate
from alphamix.policies.registry import Registry
from alphamix.policies.types import Completion, PolicyError, Request, SamplingParameters

from .conftest import CHAT_TEMPLATE, LINE, MakeCheckpoint
from .test_fold import DOWN, factors, write_adapter

NORM = "model.norm.weight"


def change(folder: Path, **tensors: torch.Tensor) -> None:
    save_file(load_file(folder / WEIGHTS) | tensors, folder / WEIGHTS, metadata={"format": "pt"})


def command(*arguments: object) -> None:
    result = CliRunner().invoke(merge_command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


# What differs between checkpoints.


@pytest.mark.filterwarnings("ignore")
def test_a_vocabulary_that_was_enlarged(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high", vocab_size=290)
    tokenizer: Any = AutoTokenizer.from_pretrained(high)
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.save_pretrained(high)
    with pytest.raises(
        PolicyError, match=r"give the one with 288 rows the other's tokenizer and resize_token_emb.*290"
    ):
        merge(low, high, {0.5: tmp_path / "m"})
    model: Any = AutoModelForCausalLM.from_pretrained(low)
    model.resize_token_embeddings(290)
    model.save_pretrained(low)
    AutoTokenizer.from_pretrained(high).save_pretrained(low)
    merge(low, high, {0.5: tmp_path / "m"})
    assert describe(tmp_path / "m")["model.embed_tokens.weight"].shape == (290, 32)


def test_two_dtypes_in_a_policies_file(make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    make_checkpoint("low", dtype=torch.bfloat16)
    high = make_checkpoint("high", seed=1)
    (tmp_path / "policies.toml").write_text(LINE)
    with pytest.raises(
        PolicyError, match="store both in one dtype: alphamix policies merge --dtype does, also with one"
    ):
        Registry.load(tmp_path / "policies.toml").check()
    command("--low", high, "--high", high, "--alpha", 1, "--dtype", "bfloat16", "--out", tmp_path / "short")
    (tmp_path / "policies.toml").write_text(LINE.replace('"high"\n', '"short"\n', 1))
    registry = Registry.load(tmp_path / "policies.toml")
    registry.check()
    assert describe(registry.materialise("beyond"))[NORM].dtype == "BF16"


def as_slow(folder: Path) -> Path:
    """A folder with the tokenizer as transformers 4 stored it: vocab.json and merges.txt."""
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n")
    ends = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"} | ends))
    return folder


def with_other_tokens(folder: Path) -> Path:
    path = folder / "vocab.json"
    vocabulary = json.loads(path.read_text())
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(vocabulary))
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tokenizers, where transformers reads vocab.json
@pytest.mark.parametrize("check", [lambda low, high: check_mergeable({"low": low, "high": high}), check_mixable])
def test_tokenizers_without_tokenizer_json_are_compared(
    make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch, check: Callable[[Path, Path], object]
) -> None:
    low, high, fast = (make_checkpoint(name) for name in ("low", "high", "fast"))
    check(as_slow(low), as_slow(high))
    check(low, fast)
    other = with_other_tokens(as_slow(make_checkpoint("other")))
    for one in (low, fast):
        with pytest.raises(PolicyError, match=r"token \d+ is 'a' in low and 'b' in high"):
            check(one, other)
    with monkeypatch.context() as patch:
        patch.setattr(as_transformers, "_is_installed", lambda *_: False)
        check(low, high)  # equal files need nobody to read them
        with pytest.raises(PolicyError, match=r"the tokenizer is vocab\.json in low and tokenizer\.json in high"):
            check(low, fast)
    AutoTokenizer.from_pretrained(low).save_pretrained(low)  # the cure
    assert (low / "tokenizer.json").is_file()
    check(low, fast)


def test_no_tokenizer(make_checkpoint: MakeCheckpoint, tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    make_checkpoint("high")
    low = make_checkpoint("low")
    (low / "tokenizer.json").unlink()
    (tmp_path / "policies.toml").write_text(LINE)
    with pytest.raises(PolicyError, match=r"has no tokenizer: save it there with tokenizer\.save_pretrained"):
        Registry.load(tmp_path / "policies.toml").check()
    tokenizer.save_pretrained(low)
    Registry.load(tmp_path / "policies.toml").check()


def test_no_safetensors(make_checkpoint: MakeCheckpoint) -> None:
    low = make_checkpoint("low")
    torch.save(load_file(low / WEIGHTS), low / "pytorch_model.bin")
    (low / WEIGHTS).unlink()
    with pytest.raises(
        PolicyError, match=r"has no model.safetensors: give a checkpoint in safetensors \(save_pretrain"
    ):
        describe(low)
    AutoModelForCausalLM.from_pretrained(low).save_pretrained(low)
    assert describe(low)


def test_an_adapter_of_another_base(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base, wide = make_checkpoint("base"), make_checkpoint("wide", intermediate_size=64)
    adapter = write_adapter(tmp_path / "adapter", factors(DOWN, (32, 48), 2))
    with pytest.raises(PolicyError, match="name the policy that it was trained on"):
        fold_adapter(wide, adapter, tmp_path / "folded")
    fold_adapter(base, adapter, tmp_path / "folded")


def test_quantized_weights(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high", seed=1)
    whole = load_file(high / WEIGHTS)[NORM]
    for folder, values in ((low, torch.ones(32)), (high, torch.zeros(32))):
        change(folder, **{NORM: values.to(torch.uint8)})
    with pytest.raises(PolicyError, match="only float tensors can be merged, give both as they were before quantizat"):
        merge(low, high, {0.5: tmp_path / "m"})
    change(low, **{NORM: whole})
    with pytest.raises(PolicyError, match="give both in a float format, as they were before quantization"):
        merge(low, high, {0.5: tmp_path / "m"})
    change(high, **{NORM: whole})
    merge(low, high, {0.5: tmp_path / "m"})


# Values.


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_an_input_that_is_not_finite_is_named_and_not_alpha(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, broken: float
) -> None:
    low, high, last = (make_checkpoint(name, seed) for seed, name in enumerate(("low", "high", "last")))
    shutil.copytree(high, tmp_path / "whole")
    change(high, **{NORM: torch.tensor([1.0] * 31 + [broken])})
    told = rf"tensor '{NORM}' of .*high/model\.safetensors has values that are not finite: copy that checkpoint again"
    run = {0: low, 1: high, 2: last}
    with pytest.raises(PolicyError, match=told):
        merge(low, high, {0.5: tmp_path / "m"})
    with pytest.raises(PolicyError, match=told):
        extrapolate(run, 3, tmp_path / "t")
    shutil.copytree(tmp_path / "whole", high, dirs_exist_ok=True)
    merge(low, high, {0.5: tmp_path / "m"})
    extrapolate(run, 3, tmp_path / "t")


def test_an_adapter_that_is_not_finite_is_named_and_not_alpha(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base = make_checkpoint("base")
    whole = factors(DOWN, (32, 48), 2)
    low = write_adapter(tmp_path / "low", whole)
    high = write_adapter(tmp_path / "high", {name: t * torch.nan for name, t in whole.items()})
    told = r"of .*high/adapter_model\.safetensors has values that are not finite"
    with pytest.raises(PolicyError, match=told):
        merge_adapters(low, high, {0.5: tmp_path / "m"})
    with pytest.raises(PolicyError, match=told):
        fold_adapter(base, high, tmp_path / "f")
    change(base, **{f"{DOWN}.weight": torch.full((32, 48), torch.inf)})
    with pytest.raises(PolicyError, match=r"of .*base/model\.safetensors has values that are not finite"):
        fold_adapter(base, low, tmp_path / "f")


def test_a_range_that_is_left(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low = make_checkpoint("low", dtype=torch.float16)
    high = make_checkpoint("high", seed=1, dtype=torch.float16)
    change(high, **{NORM: torch.full((32,), 60_000.0).half()})
    told = r"choose alpha nearer to 0 or 1, or write it as float32 \(alphamix policies merge --dtype float32\)\.$"
    with pytest.raises(PolicyError, match=told):
        merge(low, high, {4.0: tmp_path / "m"})
    merge(low, high, {1.05: tmp_path / "m"})
    command("--low", low, "--high", high, "--alpha", 4, "--dtype", "float32", "--out", tmp_path / "n")


def test_a_range_that_is_left_although_it_is_float32(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high", seed=1)
    change(high, **{NORM: torch.full((32,), 1e38)})
    with pytest.raises(PolicyError, match=r"leaves the range of F32 at alpha = 9: choose alpha nearer to 0 or 1\.$"):
        merge(low, high, {9.0: tmp_path / "m"})
    merge(low, high, {2.0: tmp_path / "m"})


def test_an_adapter_that_leaves_the_range(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    base = make_checkpoint("base", dtype=torch.float16)
    adapter = write_adapter(tmp_path / "adapter", factors(DOWN, (32, 48), 2), lora_alpha=1e6)
    with pytest.raises(PolicyError, match="leaves the range of F16: lower the adapter's lora_alpha"):
        fold_adapter(base, adapter, tmp_path / "folded")
    write_adapter(tmp_path / "lower", factors(DOWN, (32, 48), 2), lora_alpha=1e3)
    fold_adapter(base, tmp_path / "lower", tmp_path / "folded")


def test_a_range_that_is_left_by_the_dtype_alone(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", dtype=torch.bfloat16), make_checkpoint("high", seed=1, dtype=torch.bfloat16)
    change(high, **{NORM: torch.full((32,), 1e6).bfloat16()})
    with pytest.raises(PolicyError, match="at alpha = 1: keep the dtype of the inputs, or write it as float32"):
        merge(low, high, {1.0: tmp_path / "m"}, dtype="float16")
    merge(low, high, {1.0: tmp_path / "m"})
    merge(low, high, {1.0: tmp_path / "n"}, dtype="float32")


# Sampling.


def test_no_chat_template(make_checkpoint: MakeCheckpoint) -> None:
    low, options = make_checkpoint("low"), EngineOptions(device="cpu")
    (low / "chat_template.jinja").unlink()
    request = Request([{"role": "user", "content": "u"}], 0, SamplingParameters(max_tokens=2))
    with pytest.raises(PolicyError, match=r"ask with plain text, or put chat_template\.jinja beside the tokenizer"):
        list(TransformersEngine.from_checkpoint(low, options).sample([request]))
    (low / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    (reply,) = TransformersEngine.from_checkpoint(low, options).sample([request])
    assert isinstance(reply.outcome, Completion)


def test_a_device_that_is_not_there(make_checkpoint: MakeCheckpoint) -> None:
    low = make_checkpoint("low")
    with pytest.raises(PolicyError, match="give cpu, or leave the device out"):
        TransformersEngine.from_checkpoint(low, EngineOptions(device="cuda:77"))
    for device in ("cpu", None):
        TransformersEngine.from_checkpoint(low, EngineOptions(device=device)).close()
