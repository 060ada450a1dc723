"""A merge of two adapters changes every weight by the weighted sum of the two changes, and PEFT loads it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from alphamix.policies.lora.merge_adapters import merge_adapters
from alphamix.policies.lora.peft_folder import CONFIG, PREFIX, read_adapter
from alphamix.policies.types import PolicyError

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
SHAPES = {Q: (6, 5), DOWN: (5, 7)}


def write_adapter(folder: Path, seed: int, ranks: dict[str, int], **config: Any) -> Path:
    generator = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    for module, rank in ranks.items():
        out, width = SHAPES[module]
        tensors[f"{PREFIX}{module}.lora_A.weight"] = generator.normal(size=(rank, width)).astype(np.float32)
        tensors[f"{PREFIX}{module}.lora_B.weight"] = generator.normal(size=(out, rank)).astype(np.float32)
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "base", "lora_alpha": 3, "rank_pattern": ranks}
    (folder / CONFIG).write_text(json.dumps(settings | config))
    return folder


def changes(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Brute force: ΔW of every module of `SHAPES`."""
    config = json.loads((folder / CONFIG).read_text())
    tensors = {n: t.astype(np.float64) for n, t in load_file(folder / "adapter_model.safetensors").items()}
    result = {name: np.zeros(shape) for name, shape in SHAPES.items()}
    for name in SHAPES:
        if f"{PREFIX}{name}.lora_A.weight" in tensors:
            a, b = tensors[f"{PREFIX}{name}.lora_A.weight"], tensors[f"{PREFIX}{name}.lora_B.weight"]
            alpha = config.get("alpha_pattern", {}).get(name.rpartition(".")[2], config["lora_alpha"])
            result[name] = alpha / (len(a) ** 0.5 if config.get("use_rslora") else len(a)) * b @ a
    return result


@settings(max_examples=30, deadline=None)
@given(
    alpha=st.floats(-3, 3, allow_subnormal=False),
    ranks=st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    rslora=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_the_change_of_weights_is_the_weighted_sum(
    tmp_path_factory: pytest.TempPathFactory, alpha: float, ranks: tuple[int, int, int], rslora: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("adapters")
    one, both, other = ranks
    low = write_adapter(folder / "low", seed, {Q: one, DOWN: both}, use_rslora=rslora, alpha_pattern={"q_proj": 5})
    high = write_adapter(folder / "high", seed + 1, {Q: other}, lora_alpha=8)
    merge_adapters(low, high, {alpha: folder / "merged"})
    merged, low_changes, high_changes = changes(folder / "merged"), changes(low), changes(high)
    for name in SHAPES:
        expected = (1 - alpha) * low_changes[name] + alpha * high_changes[name]
        size = abs(1 - alpha) * np.abs(low_changes[name]).max() + abs(alpha) * np.abs(high_changes[name]).max()
        np.testing.assert_allclose(merged[name], expected, atol=1e-5 * size + 1e-30)
    config = json.loads((folder / "merged" / CONFIG).read_text())
    assert config["r"] == config["lora_alpha"] == max(one, both) + other


def test_factors_are_bit_for_bit_where_the_scale_is_one(tmp_path: Path) -> None:
    low = write_adapter(tmp_path / "low", 1, {Q: 2}, lora_alpha=2)
    high = write_adapter(tmp_path / "high", 2, {Q: 3}, lora_alpha=3)
    merge_adapters(low, high, {0.5: tmp_path / "half"})
    one, other, half = (load_file(f / "adapter_model.safetensors") for f in (low, high, tmp_path / "half"))
    a, b = f"{PREFIX}{Q}.lora_A.weight", f"{PREFIX}{Q}.lora_B.weight"
    assert np.array_equal(half[a], np.concatenate([one[a], other[a]]))
    assert np.array_equal(half[b], np.concatenate([one[b], other[b]], axis=1) / 2)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"use_dora": True}, "use_dora = True.*merge_and_unload"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"peft_type": "IA3"}, "type IA3"),
        ({"base_model_name_or_path": "another"}, "base_model_name_or_path is 'base' in low and 'another'"),
        ({"lora_alpha": None}, "lora_alpha = None"),
    ],
)
def test_what_cannot_be_merged_is_refused(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    low = write_adapter(tmp_path / "low", 1, {Q: 2})
    high = write_adapter(tmp_path / "high", 2, {Q: 2}, **config)
    with pytest.raises(PolicyError, match=told):
        merge_adapters(low, high, {0.5: tmp_path / "merged"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["high", "low"]


def test_saved_modules_are_interpolated_or_refused(tmp_path: Path) -> None:
    low, high = write_adapter(tmp_path / "low", 1, {Q: 2}), write_adapter(tmp_path / "high", 2, {Q: 2})
    norm = f"{PREFIX}model.norm.weight"
    add_tensor(low, norm, np.array([1, 2], np.float32))
    with pytest.raises(PolicyError, match=r"the saved tensor .*norm.weight' is F32 .2. in low and None in high"):
        merge_adapters(low, high, {2.0: tmp_path / "merged"})
    add_tensor(high, norm, np.array([2, 0], np.float32))
    merge_adapters(low, high, {2.0: tmp_path / "merged"})
    assert load_file(tmp_path / "merged" / "adapter_model.safetensors")[norm].tolist() == [3, -2]
    assert json.loads((tmp_path / "merged" / CONFIG).read_text())["modules_to_save"] == ["model.norm"]


def test_a_copy_of_the_base_stays_as_it_is(tmp_path: Path) -> None:
    low, high = write_adapter(tmp_path / "low", 1, {Q: 2}), write_adapter(tmp_path / "high", 2, {Q: 2})
    copy = f"{PREFIX}model.embed_tokens.base_layer.weight"
    add_tensor(low, copy, np.array([0.1, 2], np.float32))
    add_tensor(high, copy, np.array([0.1, 2], np.float32))
    merge_adapters(low, high, {1 / 3: tmp_path / "merged"})
    merged = load_file(tmp_path / "merged" / "adapter_model.safetensors")[copy]
    assert np.array_equal(merged, np.array([0.1, 2], np.float32))
    assert json.loads((tmp_path / "merged" / CONFIG).read_text())["modules_to_save"] is None
    add_tensor(high, copy, np.array([0, 2], np.float32))
    with pytest.raises(PolicyError, match=r"their copies of the base's .* differ"):
        merge_adapters(low, high, {0.5: tmp_path / "half"})


def add_tensor(folder: Path, name: str, value: NDArray[np.float32]) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({**load_file(path), name: value}, path)


def test_a_folder_without_an_adapter_is_told(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no adapter_config\.json.*save_pretrained"):
        read_adapter(tmp_path)
