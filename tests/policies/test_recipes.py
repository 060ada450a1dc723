"""Trajectories, adapters and logits in a file of policies: read, checked, made once, opened, written again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from alphamix.policies import build as materialise
from alphamix.policies.engines.load import load_engine
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.lora.peft_folder import CONFIG, PREFIX
from alphamix.policies.merging.affine_form import AdaptedForm
from alphamix.policies.registry import Registry
from alphamix.policies.types import Completion, PolicyError, Request, SamplingParameters

from .conftest import MakeCheckpoint

Q = "model.layers.0.self_attn.q_proj"
STEPS = {"zero": 1, "half": 2, "full": 3}
"""Checkpoints and their seeds."""
ENDS = '[policies.low]\ncheckpoint = "low"\n[policies.high]\ncheckpoint = "high"\n'
BODY = """
[policies.low]
checkpoint = "zero"
[policies.later]
trajectory = { checkpoints = { 400 = "./full", 0 = "low", 200 = "half" }, step = 700 }
[policies.denoised]
trajectory = { checkpoints = { 0 = "low", 200 = "half", 400 = "full" }, step = 700, method = "rank-1", norms = "copy" }
[policies.one]
adapter = "adapters/one"
base = "low"
[policies.two]
adapter = "adapters/two"
base = "low"
[sweeps.both]
merge = { low = "one", high = "two" }
alphas = [-0.5, 1.5]
[sweeps.sharper]
logits = { low = "low", high = "later" }
alphas = [0.5, 2]
[policies.mixed]
logits = { low = "both@+1.50", high = "one", alpha = 3 }
"""


def write_adapter(
    folder: Path, seed: int, rank: int = 2, whole: dict[str, NDArray[np.float32]] | None = None, **config: Any
) -> Path:
    generator = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {
        f"{PREFIX}{Q}.lora_A.weight": generator.normal(size=(rank, 32)).astype(np.float32),
        f"{PREFIX}{Q}.lora_B.weight": generator.normal(size=(32, rank)).astype(np.float32),
    }
    tensors |= {PREFIX + name: tensor for name, tensor in (whole or {}).items()}
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "base_model_name_or_path": "base", "lora_alpha": 3, "r": rank}
    (folder / CONFIG).write_text(json.dumps(settings | config))
    return folder


def change(folder: Path) -> NDArray[np.float64]:
    tensors = {name: tensor.astype(float) for name, tensor in load_file(folder / "adapter_model.safetensors").items()}
    a, b = tensors[f"{PREFIX}{Q}.lora_A.weight"], tensors[f"{PREFIX}{Q}.lora_B.weight"]
    return json.loads((folder / CONFIG).read_text())["lora_alpha"] / len(a) * b @ a


def q_of(folder: Path) -> NDArray[np.float64]:
    return load_file(folder / "model.safetensors")[f"{Q}.weight"].astype(float)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path, make_checkpoint: MakeCheckpoint, cache: Path) -> Path:
    for name, seed in STEPS.items():
        make_checkpoint(name, seed=seed)
    for seed, name in enumerate(("one", "two")):
        write_adapter(tmp_path / "adapters" / name, seed, rank=2 + seed)
    (tmp_path / "policies.toml").write_text(BODY)
    return tmp_path / "policies.toml"


def load(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "p.toml"
    path.write_text(text)
    return Registry.load(path)


def test_a_check_writes_nothing_and_alphas_are_those_of_lines(file: Path, cache: Path) -> None:
    with Registry.load(file) as registry:
        registry.check()
        assert not cache.exists()
        alphas = {name: registry.alpha(name) for name in registry.names}
    assert alphas == {
        "low": 0,
        "later": 1,
        "denoised": None,
        "one": None,  # an end at 0 and at 1
        "two": 1,
        "both@-0.50": -0.5,
        "both@+1.50": 1.5,
        "sharper@+0.50": 0.5,
        "sharper@+2.00": 2,
        "mixed": 3,
    }


def test_a_trajectory_is_made_once_and_follows_the_line(file: Path) -> None:
    folder = Registry.load(file).materialise("later")
    values = np.stack([q_of(file.parent / name).ravel() for name in STEPS])
    slope, intercept = np.polyfit([0, 200, 400], values, 1)
    np.testing.assert_allclose(q_of(folder).ravel(), intercept + 700 * slope, rtol=1e-5, atol=1e-5)
    made = (folder / "model.safetensors").stat().st_ino
    assert (Registry.load(file).materialise("later") / "model.safetensors").stat().st_ino == made
    denoised = Registry.load(file).materialise("denoised")
    assert json.loads((denoised / "trajectory.json").read_text())["method"] == "rank-1"
    norm = "model.norm.weight"
    last = load_file(file.parent / "full" / "model.safetensors")[norm]
    assert np.array_equal(load_file(denoised / "model.safetensors")[norm], last)


def test_an_adapter_is_folded_and_two_are_merged_before(file: Path, cache: Path) -> None:
    registry = Registry.load(file)
    base, one, two = q_of(file.parent / "zero"), *(change(file.parent / "adapters" / n) for n in ("one", "two"))
    np.testing.assert_array_equal(q_of(registry.materialise("one")), (base + one).astype(np.float32))
    for alpha, name in ((-0.5, "both@-0.50"), (1.5, "both@+1.50")):
        np.testing.assert_allclose(q_of(registry.materialise(name)), base + (1 - alpha) * one + alpha * two, atol=1e-5)
    assert len(list((cache / "adapters").iterdir())) == 2
    assert len(list((cache / "merges").iterdir())) == 3


def test_an_adapter_and_its_base_are_one_adapter_and_with_another_checkpoint_it_is_folded(file: Path) -> None:
    more = '[policies.more]\nmerge = { low = "low", high = "one", alpha = 2 }\n'
    more += '[policies.three]\nmerge = { weights = { low = 0.25, "both@+1.50" = 0.25, one = 0.5 } }\n'
    more += '[policies.odd]\nmerge = { low = "later", high = "one", alpha = 2 }\n'
    file.write_text(BODY + more)
    registry = Registry.load(file)
    registry.check()
    base, one, two = q_of(file.parent / "zero"), *(change(file.parent / "adapters" / n) for n in ("one", "two"))
    np.testing.assert_allclose(q_of(registry.materialise("more")), base + 2 * one, atol=1e-5)
    shares = (0.5 - 0.25 * 0.5, 0.25 * 1.5)
    np.testing.assert_allclose(q_of(registry.materialise("three")), base + shares[0] * one + shares[1] * two, atol=1e-5)
    made = registry.family()["three"]
    assert isinstance(made, AdaptedForm)
    assert json.loads((made.adapter / "adapter.json").read_text())["shares"] == {"one": shares[0], "two": shares[1]}
    later, folded = q_of(registry.materialise("later")), q_of(registry.materialise("one"))
    np.testing.assert_array_equal(q_of(registry.materialise("odd")), (later + 2 * (folded - later)).astype(np.float32))


def test_whole_tensors_of_an_adapter_are_not_scaled(file: Path) -> None:
    write_adapter(file.parent / "whole", 3, whole={"model.norm.weight": np.ones(32, np.float32)})
    more = '[policies.whole]\nadapter = "whole"\nbase = "low"\n'
    file.write_text(BODY + more + '[policies.more]\nmerge = { low = "low", high = "whole", alpha = 2 }\n')
    with pytest.raises(PolicyError, match=r"'more': .* has the whole tensor .*norm.weight', and shares that sum to 2 "):
        Registry.load(file).check()


def test_a_sweep_is_checked_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Path]] = []
    monkeypatch.setattr(materialise, "check_mergeable", seen.append)
    alphas = [n / 8 for n in range(40)]
    file.write_text(BODY + f'[sweeps.many]\nmerge = {{ low = "low", high = "later" }}\nalphas = {alphas}\n')
    Registry.load(file).check()
    assert len(seen) == 3  # both trajectories and the line


def test_a_full_disk_is_told_before_anything_is_written(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 7))  # type: ignore[attr-defined]
    registry = Registry.load(file)
    size = (file.parent / "zero" / "model.safetensors").stat().st_size
    for name in ("later", "one"):
        with pytest.raises(PolicyError, match=rf"policy '{name}': .* would take \d+ bytes, .* has 7 free") as told:
            registry.materialise(name)
        needed = int(str(told.value).partition("take ")[2].partition(" ")[0])
        assert size * 0.9 < needed < size
    assert not cache.exists()


def test_fingerprints_tell_policies_apart_and_follow_content_not_paths(file: Path) -> None:
    registry = Registry.load(file)
    prints = {name: registry.fingerprint(name) for name in registry.names}
    assert len(set(prints.values())) == len(prints)
    (file.parent / "adapters" / "one").rename(file.parent / "adapters" / "moved")
    config = file.parent / "adapters" / "moved" / CONFIG
    config.write_text(config.read_text().replace('"base"', '"elsewhere"'))
    file.write_text(BODY.replace("adapters/one", "adapters/moved"))
    moved = Registry.load(file)
    assert {name: moved.fingerprint(name) for name in moved.names} == prints
    config.write_text(config.read_text().replace('"lora_alpha": 3', '"lora_alpha": 4'))
    again = Registry.load(file)
    changed = {name for name in prints if again.fingerprint(name) != prints[name]}
    assert changed == {"one", "both@-0.50", "both@+1.50", "mixed"}


def test_the_resolved_form_reads_back_the_same(file: Path, tmp_path: Path) -> None:
    registry = Registry.load(file)
    run = tmp_path / "results" / "run"
    run.mkdir(parents=True)
    (run / "policies.toml").write_text(tomli_w.dumps(registry.to_toml(run)))
    again = Registry.load(run / "policies.toml")
    assert set(again.names) == set(registry.names)
    for name in registry.names:
        assert again.fingerprint(name) == registry.fingerprint(name)
    small = registry.select(["mixed"]).to_toml(run)["policies"]
    assert set(small) == {"low", "one", "two", "both@+1.50", "mixed"}
    assert small["one"] == {"adapter": "../../adapters/one", "base": "low"}
    trajectory = registry.to_toml(tmp_path)["policies"]["later"]["trajectory"]
    assert trajectory["checkpoints"] == {"0": "low", "200": "./half", "400": "./full"}


def test_the_name_of_a_policy_is_that_policy_and_a_path_its_folder(file: Path) -> None:
    file.write_text(BODY.replace('"half"', '"one"'))  # one is a policy, and there is no folder of the name
    registry = Registry.load(file)
    registry.check()
    assert set(registry.select(["later"]).to_toml(file.parent)["policies"]) == {"later", "low", "one"}
    file.write_text(BODY.replace('"half"', '"./one"'))
    with pytest.raises(PolicyError, match=r"policy 'later': there is no folder .*one: correct its path"):
        Registry.load(file).check()


def test_logits_are_mixed_from_two_folders(file: Path) -> None:
    registry, options = Registry.load(file), EngineOptions(batch_size=4, device="cpu")
    ends = registry.materialise("both@+1.50"), registry.materialise("one")
    request = Request("def f", 0, SamplingParameters(max_tokens=8))
    texts: list[str] = []
    for engine in (registry.open("mixed", options), load_engine("transformers").from_checkpoints(*ends, 3.0, options)):
        (reply,) = engine.sample([request])
        assert isinstance(reply.outcome, Completion)
        texts.append(reply.outcome.text)
        engine.close()
    assert texts[0] == texts[1] != ""
    with pytest.raises(PolicyError, match="policy 'mixed' mixes logits"):
        registry.materialise("mixed")


def test_a_folded_adapter_is_opened_and_sampled(file: Path) -> None:
    engine = Registry.load(file).open("both@-0.50", EngineOptions(batch_size=4, device="cpu"))
    (reply,) = engine.sample([Request("def f", 0, SamplingParameters(max_tokens=3))])
    assert reply.index == 0
    engine.close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[policies.a]\nadapter = "x"', "adapter and base go together"),
        ('[policies.a]\nadapter = "x"\nbase = "b"', "is made from the unknown policy 'b' (base): known are 'low'"),
        ('[policies.a]\ntrajectory = { checkpoints = { 0 = "x" }, step = 1 }', "a trajectory needs a direction"),
        ('[policies.a]\ntrajectory = { checkpoints = { 0 = "x", y = "x" }, step = 1 }', "the step 'y' is not a whole"),
        (
            '[policies.a]\ntrajectory = { checkpoints = { 0 = "x", 01 = "x" }, step = 1 }',
            "the step '01' is not a whole",
        ),
        (
            '[policies.a]\ntrajectory = { checkpoints = { 0 = "x", 1 = "x" } }',
            "key 'step' is missing in [policies.a.tra",
        ),
        (
            '[policies.a]\ntrajectory = { checkpoints = { 0 = "x", 1 = "x" }, step = 1, metod = "lines" }',
            "did you mean 'method'?",
        ),
        (
            '[policies.a]\ntrajectory = { checkpoints = { 0 = "x", 1 = "x" }, step = 1, method = "svd" }',
            "it should be 'lines' or 'rank-1'",
        ),
        (
            '[policies.a]\ntrajectory = { checkpoints = { 0 = "a", 1 = "x" }, step = 1 }',
            "are made from each other (a → a)",
        ),
        ('[policies.a]\nlogits = { low = "low", high = "high" }', "key 'alpha' is missing in [policies.a.logits]"),
        ('[policies.a]\nlogits = { low = "low", high = "hig", alpha = 1 }', "'hig' (high): did you mean 'high'?"),
        (
            '[policies.a]\nlogits = { low = "low", high = "high", alpha = 1 }\n'
            '[policies.b]\nmerge = { low = "low", high = "a", alpha = 1 }',
            "is made from 'a' (high), which mixes logits: name a policy with weights here.",
        ),
        ("[sweeps.s]\nalphas = [1]", "a sweep is of merge or of logits, and here is neither"),
        (
            '[sweeps.s]\nalphas = [1]\nlogits = { low = "low", hihg = "high" }',
            "unknown key 'hihg' in [sweeps.s.logits]",
        ),
    ],
)
def test_a_fault_of_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PolicyError) as told:
        load(tmp_path, ENDS + text)
    assert message in str(told.value)
    assert str(tmp_path / "p.toml") in str(told.value)
    assert "\n" not in str(told.value)


def test_what_does_not_fit_is_told_before_anything_is_made(
    file: Path, make_checkpoint: MakeCheckpoint, cache: Path
) -> None:
    make_checkpoint("half", seed=2, intermediate_size=40)
    with pytest.raises(PolicyError, match=r"policy 'later': .*\(step 400\) and .*\(step 200\) cannot be merged"):
        Registry.load(file).check()
    make_checkpoint("half", seed=2)
    make_checkpoint("zero", seed=1, hidden_size=16)
    with pytest.raises(PolicyError, match=r"policy 'one': .*q_proj.weight' is F32 .* and \[32, 32\] for the adapter"):
        Registry.load(file).select(["one"]).check()
    make_checkpoint("zero", seed=1)
    write_adapter(file.parent / "other", 3, base_model_name_or_path="another")
    file.write_text(BODY.replace("adapters/two", "other"))
    with pytest.raises(PolicyError, match=r"policy 'both@[+]1.50': .*base_model_name_or_path is 'base' in one"):
        Registry.load(file).check()
    tokenizer = file.parent / "half" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text().replace('"a"', '"ä"'))
    file.write_text(ENDS.replace("low", "zero").replace('"high"', '"half"') + LOGITS)
    with pytest.raises(PolicyError, match=r"policy 'l': the logits of .* cannot be mixed: token \d+ is 'a' in low and"):
        Registry.load(file).check()
    assert not cache.exists()


LOGITS = '[policies.l]\nlogits = { low = "zero", high = "high", alpha = 2 }'


def test_the_examples_of_the_documentation_load(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "policies.md").read_text()
    family, engine = (block.partition("```")[0] for block in text.split("```toml\n")[1:3])
    registry = load(tmp_path, engine + family)
    kinds = {next(iter(table)) for table in registry.to_toml(tmp_path)["policies"].values()}
    assert kinds == {"checkpoint", "merge", "trajectory", "adapter", "logits", "url"}
    assert registry.engine.serve == "switch"
