"""The folder of a pair is low's in all but its weights and its architecture. vLLM is not needed."""

import json
from pathlib import Path
from typing import Any

import pytest

from alphamix.policies.checkpoints.safetensors_folder import companions, describe
from alphamix.policies.engines.vllm.pair import ARCHITECTURE, write_pair
from alphamix.policies.types import PolicyError

from .conftest import MakeCheckpoint


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def test_a_pair_is_low_with_two_sets_of_weights(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low = make_checkpoint("low")
    high = make_checkpoint("high", seed=1, num_hidden_layers=1, max_position_embeddings=40)
    pair = tmp_path / "pair"
    write_pair(low, high, pair)
    config, before = (json.loads((folder / "config.json").read_text()) for folder in (pair, low))
    assert config.pop("alphamix_pair") == {"low": str(low), "high": str(high)}
    assert config == before | {"architectures": [ARCHITECTURE], "max_position_embeddings": 40}
    assert [path.name for path in companions(pair)] == [path.name for path in companions(low)]
    for path in companions(low):
        if path.name != "config.json":
            assert (pair / path.name).read_bytes() == path.read_bytes()
    assert describe(pair) == {}


def test_the_context_is_the_shorter_under_the_name_that_low_has_for_it(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high", max_position_embeddings=40)
    change_config(low, model_type="gpt2", n_positions=64, max_position_embeddings=None)
    write_pair(low, high, tmp_path / "one")
    assert json.loads((tmp_path / "one/config.json").read_text())["n_positions"] == 40
    write_pair(high, low, tmp_path / "other")
    assert json.loads((tmp_path / "other/config.json").read_text())["max_position_embeddings"] == 40


def test_paths_in_the_folder_hold_from_anywhere(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = make_checkpoint("low")
    monkeypatch.chdir(tmp_path)
    write_pair(Path("low"), Path("low"), Path("pair"))
    assert json.loads((tmp_path / "pair/config.json").read_text())["alphamix_pair"]["low"] == str(low)


def test_what_cannot_be_served_as_a_pair_is_told(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high", vocab_size=300)
    with pytest.raises(PolicyError, match="vocab_size is 288 in low and 300 in high"):
        write_pair(low, high, tmp_path / "pair")
    with pytest.raises(PolicyError, match="low already exists: give another folder"):
        write_pair(low, low, low)
    other = make_checkpoint("other")
    change_config(other, quantization_config={"quant_method": "fp8"})
    with pytest.raises(PolicyError, match=r"quantization_config of config\.json is None in low and \{'quant_method'"):
        write_pair(low, other, tmp_path / "pair")
    assert not (tmp_path / "pair").exists()
