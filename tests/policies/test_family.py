"""What a family shares: exact coefficients over checkpoints, and which policies one server can run."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from alphamix.policies.merging.affine_form import AdaptedForm, AffineForm, LogitPair, WholeForm, coefficients
from alphamix.policies.policy_file.recipes import Checkpoint, EngineChoice, Merge, Recipe, Trajectory, combination
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError

from .conftest import LINE, MakeCheckpoint
from .test_recipes import write_adapter

FAMILY = (
    LINE
    + """
[policies.back]
merge = { base = "beyond", weights = { low = 0.1, high = 0.3 } }
[policies.later]
trajectory = { checkpoints = { 0 = "low", 100 = "high", 300 = "third" }, step = 400 }
[policies.remote]
url = "http://127.0.0.1:1/v1"
model = "m"
"""
)
ADAPTERS = """
[policies.one]
adapter = "one"
base = "low"
[policies.two]
adapter = "two"
base = "low"
[policies.both]
merge = { low = "one", high = "two", alpha = 2 }
"""
ALONE = '[policies.low]\ncheckpoint = "low"\n'
DENOISED = '[policies.odd]\ntrajectory = { checkpoints = { 0 = "low", 1 = "high" }, step = 2, method = "rank-1" }\n'
LOGITS = '[policies.odd]\nlogits = { low = "low", high = "high", alpha = 2 }\n'
OVER = '[policies.odd]\nmerge = { low = "low", high = "one", alpha = 2 }\n'


@pytest.fixture
def folder(tmp_path: Path, make_checkpoint: MakeCheckpoint, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    for seed, name in enumerate(("low", "high", "third")):
        make_checkpoint(name, seed=seed)
    for seed, name in enumerate(("one", "two")):
        write_adapter(tmp_path / name, seed)
    return tmp_path


def load(folder: Path, text: str, serve: str | None = None) -> Registry:
    engine = "" if serve is None else f'[engine]\nname = "vllm"\nserve = "{serve}"\n'
    (folder / "p.toml").write_text(engine + text)
    return Registry.load(folder / "p.toml")


def test_weights_are_flattened_exactly_and_nothing_affine_is_made(folder: Path) -> None:
    family = load(folder, FAMILY).family()
    low, high, third = (folder / name for name in ("low", "high", "third"))
    tenth, three_tenths = Fraction(0.1), Fraction(0.3)
    rest = 1 - tenth - three_tenths
    assert family == {
        "low": AffineForm({low: Fraction(1)}),
        "high": AffineForm({high: Fraction(1)}),
        "beyond": AffineForm({low: Fraction(-1, 2), high: Fraction(3, 2)}),
        "back": AffineForm({low: tenth - rest / 2, high: three_tenths + rest * 3 / 2}),
        "later": AffineForm({low: Fraction(-3, 7), high: Fraction(1, 7), third: Fraction(9, 7)}),
    }
    assert not (folder / "cache").exists()
    beyond = family["beyond"]
    assert isinstance(beyond, AffineForm)
    assert (beyond.around(low), beyond.around(third)) == (((high, 1.5),), ((low, -0.5), (high, 1.5)))


def test_a_flattened_merge_of_merges_comes_near_to_the_one_on_disk(folder: Path) -> None:
    registry = load(folder, FAMILY)
    (member, made) = registry.family()["back"], load_file(registry.materialise("back") / "model.safetensors")
    assert isinstance(member, AffineForm)
    inputs = {f: load_file(f / "model.safetensors") for f in member.coefficients}
    for name, tensor in made.items():
        exact = sum(float(share) * inputs[f][name].astype(float) for f, share in member.coefficients.items())
        np.testing.assert_allclose(tensor, exact, atol=1e-6)


alphas = st.floats(-4, 4, allow_subnormal=False)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.sampled_from("mct"), alphas, st.integers(0, 99), st.integers(0, 99)), max_size=8))
def test_coefficients_always_sum_to_one_exactly(steps: list[tuple[str, float, int, int]]) -> None:
    recipes: dict[str, Recipe] = {"a": Checkpoint("a"), "b": Checkpoint("b"), "c": Checkpoint("c")}
    for kind, alpha, one, other in steps:
        known = list(recipes)
        low, high = known[one % len(known)], known[other % len(known)]
        if kind == "m":
            recipes[f"{len(recipes)}"] = Merge(low, high, alpha)
        elif kind == "c":
            recipes[f"{len(recipes)}"] = combination("a", {high: alpha, "b": 0.1}, "here")
        else:
            recipes[f"{len(recipes)}"] = Trajectory({0: low, 3: Checkpoint("c"), 10: high}, alpha)
    for name in recipes:
        shares = coefficients(recipes, name)
        assert shares is not None
        assert sum(shares.values()) == 1
        assert all(shares.values())


def test_members_that_are_no_combination_have_their_folders(folder: Path) -> None:
    registry = load(folder, FAMILY + ADAPTERS + DENOISED + LOGITS.replace("odd", "mixed"))
    family = registry.select(["one", "both", "odd", "mixed"]).family()
    low, high = folder / "low", folder / "high"
    both = family["both"]
    assert isinstance(both, AdaptedForm)
    assert (both.base, both.adapter.parent) == (low, folder / "cache" / "adapters")
    assert (both.adapter / "adapter_model.safetensors").is_file()
    assert family["one"] == AdaptedForm(low, folder / "one")
    assert family["odd"] == WholeForm(registry.materialise("odd"))
    assert family["mixed"] == LogitPair(low, high, 2.0)
    assert len(list((folder / "cache" / "merges").iterdir())) == 1


@pytest.mark.parametrize(
    ("text", "serve", "told"),
    [
        (FAMILY, "switch", None),
        (FAMILY, "servers", None),
        (
            FAMILY + DENOISED,
            "switch",
            "'odd' cannot be served with serve = \"switch\": its trajectory has other weights",
        ),
        (FAMILY + LOGITS, "switch", "'odd' .*: it mixes logits"),
        (FAMILY + ADAPTERS, "switch", "'one' .*: it is an adapter, and weights are switched between affine"),
        (FAMILY + LOGITS, "servers", None),
        (FAMILY.replace('"third"', '"other"'), "switch", "of 'low'.* and .* \\(of 'later'\\) cannot be merged"),
        (FAMILY, "adapters", "'low' .*: no policy is an adapter"),
        (FAMILY + ADAPTERS, "adapters", "'high' .*: it is neither 'low' nor an adapter on it"),
        (ALONE + ADAPTERS, "adapters", None),
        (ALONE + ADAPTERS + OVER, "adapters", None),
        (ALONE + ADAPTERS + DENOISED.replace('"high"', '"one"'), "adapters", "'odd' .*: it is neither 'low'"),
    ],
)
def test_what_one_server_cannot_run_is_told_in_the_check(
    folder: Path, make_checkpoint: MakeCheckpoint, text: str, serve: str, told: str | None
) -> None:
    make_checkpoint("other", seed=5, rope_theta=5.0)
    if told is None:
        load(folder, text, serve).check()
        return
    if "other" in text:  # alone, its trajectory is refused before
        text = text.replace('{ 0 = "low", 100 = "high", 300 = "other" }', '{ 0 = "./other", 1 = "./other" }')
    with pytest.raises(PolicyError, match=rf"\[engine\] of .*p.toml: .*{told}"):
        load(folder, text, serve).check()


def test_only_factors_are_served_as_adapters(folder: Path) -> None:
    norm = {"model.norm.weight": np.ones(32, np.float32)}
    write_adapter(folder / "whole", 3, whole=norm)
    text = ALONE + ADAPTERS.replace('"two"\nbase', '"whole"\nbase')
    with pytest.raises(PolicyError, match=r"policy 'two' has whole tensors in its adapter"):
        load(folder, text, "adapters").select(["two"]).check()


@pytest.mark.parametrize(
    ("table", "engine"),
    [
        ("", EngineChoice()),
        ('name = "transformers"', EngineChoice()),
        ('name = "vllm"\ninterpreter = "python3.12"', EngineChoice("vllm", "servers", "python3.12")),
        (
            'name = "vllm"\nserve = "switch"\narguments = ["--max-model-len", "64"]',
            EngineChoice("vllm", "switch", None, ("--max-model-len", "64")),
        ),
    ],
)
def test_the_engine_is_read_and_written(tmp_path: Path, table: str, engine: EngineChoice) -> None:
    (tmp_path / "p.toml").write_text(f"[engine]\n{table}\n" + FAMILY)
    registry = Registry.load(tmp_path / "p.toml")
    assert registry.engine == engine
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "p.toml").write_text(tomli_w.dumps(registry.to_toml(tmp_path / "run")))
    assert Registry.load(tmp_path / "run" / "p.toml").engine == engine


def test_the_interpreter_of_an_environment_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "python").symlink_to("/usr/bin/env")
    (tmp_path / "p.toml").write_text('[engine]\nname = "vllm"\ninterpreter = "env/python"\n' + FAMILY)
    registry = Registry.load(tmp_path / "p.toml")
    assert registry.engine.interpreter == tmp_path / "env" / "python"
    assert registry.to_toml(tmp_path)["engine"]["interpreter"] == "./env/python"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('name = "vlm"', "engine.name of"),
        ('name = "vllm"\nserve = "swich"', "engine.serve of"),
        ('serve = "switch"', 'serve goes with name = "vllm"; write that'),
        ('dtype = "bf16"', "engine.dtype of"),
        ('name = "vllm"\ndtype = "bfloat16"', 'for vLLM write arguments = ["--dtype", "bfloat16"]'),
        ('name = "vllm"\nargumets = []', "unknown key 'argumets' in [engine]"),
        ('name = "vllm"\narguments = [1]', "engine.arguments.0 of"),
    ],
)
def test_a_fault_of_the_engine_is_one_line(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(f"[engine]\n{table}\n" + FAMILY)
    with pytest.raises(PolicyError) as told:
        Registry.load(tmp_path / "p.toml")
    assert message in str(told.value)
    assert "\n" not in str(told.value)
