"""All α of two adapters in one server, each scored as transformers scores the merged weights."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from alphamix.policies.engines.vllm.family import Member, VllmFamily
from alphamix.policies.lora.merge_adapters import merge_adapters
from alphamix.policies.lora.peft_folder import ADAPTER_WEIGHTS, CONFIG, PREFIX, read_adapter, read_matrix
from alphamix.policies.types import PolicyError
from tests.vllm.conftest import LOW, TEXT, complete, logprobs, options, requests

MODULES = {
    "model.layers.0.self_attn.q_proj": (128, 128),
    "model.layers.1.self_attn.v_proj": (128, 128),
    "model.layers.2.mlp.down_proj": (128, 256),
}
ALPHAS = (0.25, 1.5)


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Path]:
    """Two adapters of ranks 3 and 4, merged at each α."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, (name, rank) in enumerate({"low": 3, "high": 4}.items()):
        write_adapter(folder / name, seed, rank)
    merged = {alpha: folder / f"{alpha}" for alpha in ALPHAS}
    merge_adapters(folder / "low", folder / "high", merged)
    return {0.0: folder / "low", 1.0: folder / "high", **merged}


def write_adapter(folder: Path, seed: int, rank: int) -> None:
    generator = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for module, (out, width) in MODULES.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = generator.normal(size=(rank, width)).astype(np.float32)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = 0.01 * generator.normal(size=(out, rank)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / ADAPTER_WEIGHTS)
    names = sorted({module.rpartition(".")[2] for module in MODULES})
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": "low",
        "lora_alpha": 6,
        "r": rank,
        "target_modules": names,
    }
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.fixture(scope="module")
def family(adapters: dict[float, Path]) -> Iterator[VllmFamily]:
    members = {f"alpha={alpha}": Member(LOW, adapter=folder) for alpha, folder in adapters.items()}
    family = VllmFamily({"base": Member(LOW), **members}, options("adapters", "--dtype", "float32"))
    yield family
    family.close()


def scored_by_transformers(changes: list[tuple[float, Path]]) -> list[float]:
    """Log-probabilities under the base plus the weighted changes, each computed in full."""
    model: Any = AutoModelForCausalLM.from_pretrained(LOW, dtype=torch.float32)
    for share, folder in changes:
        for name, module in read_adapter(folder).modules.items():
            change = share * module.scale * read_matrix(module.b) @ read_matrix(module.a)
            weight = model.get_submodule(name).weight
            weight.data = (weight.data.double() + torch.from_numpy(change)).float()
    tokens = AutoTokenizer.from_pretrained(LOW)(TEXT, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.inference_mode():
        every = model(input_ids=tokens).logits[0].log_softmax(dim=-1)
    return every[:-1].gather(1, tokens[0, 1:, None])[:, 0].tolist()


def test_each_adapter_scores_as_the_merged_weights_do(family: VllmFamily, adapters: dict[float, Path]) -> None:
    references: list[list[float]] = []
    for alpha in adapters:
        reference = scored_by_transformers([(1 - alpha, adapters[0.0]), (alpha, adapters[1.0])])
        assert logprobs(family.open(f"alpha={alpha}")) == pytest.approx(reference, abs=2e-3), alpha
        references.append(reference)
    assert logprobs(family.open("base")) == pytest.approx(scored_by_transformers([]), abs=2e-3)
    spread = np.ptp(references, axis=0).max()
    assert spread > 0.1, "else the comparison would not tell one α from another"


def test_policies_are_sampled_side_by_side(family: VllmFamily) -> None:
    low, beyond = family.open("alpha=0.0"), family.open("alpha=1.5")
    answers, others = low.sample(requests(8)), beyond.sample(requests(8))
    assert len([reply for pair in zip(answers, others, strict=True) for reply in pair]) == 16


def test_a_changed_adapter_is_served_anew(family: VllmFamily, adapters: dict[float, Path]) -> None:
    before = family.open("alpha=0.0")
    complete(before, requests(1))
    kept = (adapters[0.0] / ADAPTER_WEIGHTS).read_bytes()
    (adapters[0.0] / ADAPTER_WEIGHTS).write_bytes((adapters[1.5] / ADAPTER_WEIGHTS).read_bytes())
    kept_config = (adapters[0.0] / CONFIG).read_bytes()
    (adapters[0.0] / CONFIG).write_bytes((adapters[1.5] / CONFIG).read_bytes())
    try:
        after = family.open("alpha=0.0")
        assert after.model != before.model
        assert logprobs(after) == logprobs(family.open("alpha=1.5"))
    finally:
        (adapters[0.0] / ADAPTER_WEIGHTS).write_bytes(kept)
        (adapters[0.0] / CONFIG).write_bytes(kept_config)


def test_members_that_do_not_fit_the_way_are_refused(adapters: dict[float, Path], tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match='is an adapter: use serve = "adapters"'):
        VllmFamily({"a": Member(LOW, adapter=adapters[0.0])}, options("servers"))
    with pytest.raises(PolicyError, match='is a merge of weights: use serve = "switch"'):
        VllmFamily({"a": Member(LOW, ((tmp_path, 1.0),))}, options("adapters"))
    with pytest.raises(PolicyError, match="needs one base for all"):
        VllmFamily({"a": Member(LOW), "b": Member(tmp_path)}, options("switch"))
    with pytest.raises(PolicyError, match="this family has no policy 'c': open one of a"):
        VllmFamily({"a": Member(LOW)}, options("switch")).open("c")
