"""A policies file becomes policies; each fault is one line with cause and cure."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tomli_w
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from alphamix.policies.engines.load import load_engine
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.policy_file.recipes import alpha_suffix
from alphamix.policies.registry import Registry
from alphamix.policies.types import PolicyError, Request, SamplingParameters

from .conftest import LINE, MakeCheckpoint

SECRETS = ("sk-proj-abc123", "hf_AbC123", "sk_live_abc", "AKIAIOSFODNN7EXAMPLE")
FAMILY = (
    LINE
    + """
[sweeps.coverage]
merge = { low = "low", high = "high" }
alphas = [-0.5, 0, 0.25, 1.375]
[policies.remote]
url = "http://127.0.0.1:1/v1"
model = "m"
api_key_env = "ALPHAMIX_TEST_KEY"
[mixtures.both]
weights = { low = 1, "coverage@+0.25" = 3.0 }
"""
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "merges"


@pytest.fixture
def family(tmp_path: Path, make_checkpoint: MakeCheckpoint, cache: Path) -> Path:
    make_checkpoint("low", seed=1)
    make_checkpoint("high", seed=2)
    path = tmp_path / "policies.toml"
    path.write_text(FAMILY)
    return path


def load(tmp_path: Path, text: str) -> Registry:
    path = tmp_path / "p.toml"
    path.write_text(text)
    return Registry.load(path)


def test_names_come_in_order_with_sweeps_expanded(family: Path) -> None:
    registry = Registry.load(family)
    assert registry.names == (
        "low",
        "high",
        "beyond",
        "remote",
        "coverage@-0.50",
        "coverage@+0.00",
        "coverage@+0.25",
        "coverage@+1.375",
    )
    assert registry.mixtures == {"both": {"low": 1.0, "coverage@+0.25": 3.0}}
    alphas = {name: registry.alpha(name) for name in registry.names}
    assert alphas == {
        "low": 0.0,
        "high": 1.0,
        "beyond": 1.5,
        "remote": None,
        "coverage@-0.50": -0.5,
        "coverage@+0.00": 0.0,
        "coverage@+0.25": 0.25,
        "coverage@+1.375": 1.375,
    }


def test_a_policy_at_both_ends_has_no_alpha(tmp_path: Path) -> None:
    text = "".join(f'[policies.{n}]\ncheckpoint = "./{n}"\n' for n in ("a", "b", "c"))
    text += '[sweeps.x]\nmerge = { low = "a", high = "b" }\nalphas = [2]\n'
    text += '[sweeps.y]\nmerge = { low = "b", high = "c" }\nalphas = [2]\n'
    registry = load(tmp_path, text)
    assert [registry.alpha(n) for n in ("a", "b", "c")] == [0.0, None, 1.0]


@pytest.mark.parametrize(
    ("alpha", "label"),
    [(0, "+0.00"), (-0.0, "+0.00"), (-0.5, "-0.50"), (1.375, "+1.375"), (0.1, "+0.10"), (1e-20, "+1e-20")],
)
def test_alpha_labels_are_short_and_exact(alpha: float, label: str) -> None:
    assert alpha_suffix(alpha) == label
    assert float(label) == alpha


ENDS = '[policies.a]\ncheckpoint = "./a"\n[policies.b]\ncheckpoint = "./b"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "defines no policy: add a table such as [policies.NAME]"),
        (
            "[policies.a]\n",
            "a policy is one of checkpoint, merge, trajectory, adapter, logits or url, and here is none of them",
        ),
        ('[policies.a]\ncheckpoint = "x"\nurl = "http://x"\nmodel = "m"', "here is checkpoint and url"),
        ('[policies.a]\nurl = "http://x"', "url and model go together"),
        ('[policies.a]\nurl = "ftp://x"\nmodel = "m"', "policies.a.url of"),
        ('[policies.a]\ncheckpoint = "x"\napi_key_env = "K"', "api_key_env goes with a url"),
        ('[policies.a]\nurl = []\nmodel = "m"', "policies.a.url of"),
        ('[policies.a]\nurl = ["http://x", "http://x"]\nmodel = "m"', "names each once"),
        ('[policies.a]\ncheckpont = "x"', "unknown key 'checkpont' in [policies.a]"),
        ('[polices.a]\ncheckpoint = "x"', "did you mean 'policies'?"),
        ('[policies.a]\ncheckpoint = "x"\n[policies.a]\ncheckpoint = "y"', "is not valid TOML"),
        ('[policies."a b"]\ncheckpoint = "x"', "has the name 'a b': use letters"),
        (ENDS + '[policies.m]\nmerge = { low = "a", high = "bb", alpha = 1 }', "the unknown policy 'bb'"),
        (ENDS + '[policies.m]\nmerge = { low = "a", high = "b", alpha = "1" }', "is '1': it should be a"),
        (
            ENDS + '[policies.m]\nmerge = { low = "a", high = "b", alpha = nan }',
            "is nan: it should be a finite",
        ),
        (
            ENDS + '[policies.m]\nmerge = { low = "a", high = "b", alpha = inf }',
            "is inf: it should be a finite",
        ),
        (ENDS + '[policies.m]\nmerge = { low = "a", high = "b", alpha = true }', "is True: it should be a"),
        (
            ENDS + '[policies.m]\nmerge = { low = "a", high = "b" }',
            "key 'alpha' is missing in [policies.m.merge]",
        ),
        (ENDS + "[policies.m]\nmerge = { weights = { a = 0.5, b = 0.4 } }", "has weights that sum to 0.9: make it 1"),
        (ENDS + "[policies.m]\nmerge = { weights = { a = 1 } }", "merges 'a' with nothing"),
        (ENDS + '[policies.m]\nmerge = { base = "a", weights = { bb = 1 } }', "the unknown policy 'bb'"),
        (ENDS + '[policies.m]\nmerge = { bas = "a", weights = { b = 1 } }', "did you mean 'base'?"),
        (ENDS + '[policies.m]\nmerge = { base = "m", weights = { b = 1 } }', "are made from each other (m → m)"),
        (ENDS + '[sweeps.s]\nmerge = { low = "a", high = "b" }\nalphas = []', "sweeps.s.alphas of"),
        (
            ENDS + '[sweeps.s]\nmerge = { low = "a", high = "b" }\nalphas = [0.5, 0.50]',
            "defines the policy 's@+0.50' twice",
        ),
        (ENDS + '[sweeps.a]\nmerge = { low = "a", high = "b" }\nalphas = [2]', "of the name 'a': rename"),
        (ENDS + "[mixtures.x]\nweights = { a = 1, bb = 1 }", "'x' of"),
        (ENDS + "[mixtures.x]\nweights = { a = 0 }", "all weights are 0"),
        (ENDS + "[mixtures.x]\nweights = { a = -1 }", "is -1: it should be 0 or more"),
        (ENDS + "[mixtures.a]\nweights = { a = 1 }", "a policy and a mixture of the name 'a'"),
        (
            '[policies.a]\nmerge = { low = "b", high = "b", alpha = 1 }\n'
            '[policies.b]\nmerge = { low = "a", high = "a", alpha = 1 }',
            "are made from each other (a → b → a)",
        ),
        (
            ENDS + '[policies.r]\nurl = "http://x"\nmodel = "m"\n'
            '[policies.m]\nmerge = { low = "a", high = "r", alpha = 1 }',
            "whose weights are behind a URL",
        ),
    ],
)
def test_a_fault_of_the_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PolicyError) as told:
        load(tmp_path, text)
    assert message in str(told.value)
    assert str(tmp_path / "p.toml") in str(told.value)
    assert "\n" not in str(told.value)


def test_selecting_keeps_what_merging_needs(family: Path) -> None:
    registry = Registry.load(family).select(["beyond", "low"])
    assert registry.names == ("low", "beyond")
    assert registry.mixtures == {}
    assert (registry.materialise("beyond") / "model.safetensors").is_file()
    everything = Registry.load(family)
    assert everything.select(None).names == everything.names
    assert everything.select(["coverage"]).names == everything.names[4:]
    with pytest.raises(PolicyError, match=r"unknown policy 'beyand' for .*: did you mean 'beyond'"):
        registry.select(["beyand"])
    with pytest.raises(PolicyError, match=r"no policy of .* is selected"):
        registry.select([])


def test_a_good_family_passes_its_check_and_nothing_is_written(
    family: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALPHAMIX_TEST_KEY", "secret")
    Registry.load(family).check()
    assert not cache.exists()


def test_check_names_what_is_missing(
    family: Path, make_checkpoint: MakeCheckpoint, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry.load(family)
    monkeypatch.delenv("ALPHAMIX_TEST_KEY", raising=False)
    with pytest.raises(PolicyError, match=r"'remote' needs an API key, .* export ALPHAMIX_TEST_KEY"):
        registry.check()
    make_checkpoint("high", seed=2, intermediate_size=40)
    with pytest.raises(PolicyError, match=r"policy 'beyond': .*'model.layers.0.mlp.down_proj.weight' is F32"):
        registry.check()
    for file in (family.parent / "low").glob("tokenizer*"):
        file.unlink()
    with pytest.raises(PolicyError, match=r"policy 'low': .* has no tokenizer"):
        registry.check()
    assert not cache.exists()


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    registry = load(tmp_path, '[policies.a]\ncheckpoint = "./nowhere"')
    with pytest.raises(PolicyError, match=r"policy 'a': there is no folder .*nowhere: correct"):
        registry.check()


def test_a_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    # A process of its own: the hub's library reads its variables once.
    program = (
        "import sys\nfrom pathlib import Path\nfrom alphamix.policies.registry import Registry\n"
        "Registry.load(Path(sys.argv[1])).check()"
    )
    (tmp_path / "p.toml").write_text('[policies.a]\ncheckpoint = "nobody/nothing"')
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "p.toml")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last_line = ended.stderr.splitlines()[-1]
    assert "policy 'a': 'nobody/nothing' is not a folder, and the hub does not give it" in last_line
    assert last_line.endswith("correct the path or the id, or check network access and HF_TOKEN.")


def test_merges_of_one_pair_are_made_together_and_once(family: Path, cache: Path) -> None:
    registry = Registry.load(family)
    folder = registry.materialise("coverage@+0.25")
    assert len(list(cache.iterdir())) == 5  # the sweep and `beyond`
    before = (folder / "model.safetensors").stat().st_ino
    again = Registry.load(family)
    assert (again.materialise("coverage@+0.25") / "model.safetensors").stat().st_ino == before
    low, high = (load_file(family.parent / n / "model.safetensors") for n in ("low", "high"))
    for name, tensor in load_file(registry.materialise("beyond") / "model.safetensors").items():
        exact = low[name].double() + 1.5 * (high[name].double() - low[name].double())
        assert torch.equal(tensor, exact.float())


def test_other_weights_make_another_merge(family: Path, make_checkpoint: MakeCheckpoint) -> None:
    first, print_before = (
        Registry.load(family).materialise("beyond"),
        Registry.load(family).fingerprint("beyond"),
    )
    make_checkpoint("high", seed=3)
    assert Registry.load(family).materialise("beyond") != first
    assert Registry.load(family).fingerprint("beyond") != print_before


def test_a_merge_of_a_merge_is_checked_before_and_made(tmp_path: Path, family: Path, cache: Path) -> None:
    family.write_text(FAMILY + '[policies.back]\nmerge = { low = "low", high = "beyond", alpha = 0.5 }\n')
    registry = Registry.load(family).select(["back"])
    registry.check()
    assert not cache.exists()
    assert (registry.materialise("back") / "model.safetensors").is_file()


def test_fingerprints_tell_policies_apart(family: Path) -> None:
    registry = Registry.load(family)
    prints = {registry.fingerprint(name) for name in registry.names}
    assert len(prints) == len(registry.names)
    assert all(len(p) == 64 for p in prints)


def test_the_resolved_form_reads_back_the_same(family: Path, tmp_path: Path) -> None:
    family.write_text(FAMILY + '[policies.hub]\ncheckpoint = "someone/something"\n')
    registry = Registry.load(family)
    run = tmp_path / "results" / "run"
    run.mkdir(parents=True)
    table = registry.to_toml(run)
    assert table["policies"]["low"] == {"checkpoint": "../../low"}
    assert table["policies"]["hub"] == {"checkpoint": "someone/something"}
    assert table["policies"]["remote"]["api_key_env"] == "ALPHAMIX_TEST_KEY"
    (run / "policies.toml").write_text(tomli_w.dumps(table))
    again = Registry.load(run / "policies.toml")
    assert set(again.names) == set(registry.names)
    assert again.mixtures == registry.mixtures
    for name in registry.names:
        assert again.alpha(name) == registry.alpha(name)
        if name != "hub":
            assert again.fingerprint(name) == registry.fingerprint(name)
    small = registry.select(["coverage@+0.25"]).to_toml(run)
    assert set(small["policies"]) == {"low", "high", "coverage@+0.25"}


def test_a_merge_is_opened_and_sampled(family: Path) -> None:
    registry = Registry.load(family)
    engine = registry.open("coverage@-0.50", EngineOptions(batch_size=4, device="cpu"))
    request = Request("def f", 0, SamplingParameters(max_tokens=3))
    (reply,) = engine.sample([request])
    assert reply.index == 0
    engine.close()
    with pytest.raises(PolicyError, match="policy 'remote' is served at"):
        registry.materialise("remote")


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "alphamix.policies.engines.transformers.engine", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PolicyError, match=r"needs the package .*: pip install 'alphamix\[local\]'"):
        load_engine("transformers")


def test_reading_policies_needs_no_torch(family: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom alphamix.policies.registry import Registry\n"
        "Registry.load(Path(sys.argv[1])).select(['low', 'coverage']).check()\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", program, str(family)], env=environment, check=True)


def test_any_affine_combination_is_made_once(tmp_path: Path, family: Path, cache: Path) -> None:
    make = "[policies.soup]\nmerge = { weights = { low = 0.2, high = 0.5, beyond = 0.3 } }\n"
    make += '[policies.sum]\nmerge = { base = "low", weights = { high = 0.7, beyond = 0.4 } }\n'
    family.write_text(FAMILY + make)
    registry = Registry.load(family).select(["soup", "sum"])
    registry.check()
    assert not cache.exists()
    assert registry.alpha("soup") is None
    inputs = [load_file(registry.materialise(n) / "model.safetensors") for n in ("low", "high", "beyond")]
    for name, weights in (("soup", (0.5, 0.3)), ("sum", (0.7, 0.4))):
        folder = registry.materialise(name)
        for key, tensor in load_file(folder / "model.safetensors").items():
            base, high, beyond = (of_input[key].double() for of_input in inputs)
            assert torch.equal(tensor, (weights[0] * (high - base) + weights[1] * (beyond - base) + base).float())
    made = registry.materialise("sum").stat().st_ino
    table = registry.to_toml(tmp_path)
    (tmp_path / "again.toml").write_text(tomli_w.dumps(table))
    again = Registry.load(tmp_path / "again.toml")
    assert again.materialise("sum").stat().st_ino == made
    assert again.fingerprint("soup") == registry.fingerprint("soup")


def test_one_policy_may_have_several_urls(tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text('[policies.r]\nurl = ["http://b/v1", "http://a/v1"]\nmodel = "m"\n')
    registry = Registry.load(path)
    written = registry.to_toml(tmp_path)
    assert written["policies"]["r"] == {"url": ["http://b/v1", "http://a/v1"], "model": "m"}
    path.write_text('[policies.r]\nurl = ["http://a/v1", "http://b/v1"]\nmodel = "m"\n')
    assert Registry.load(path).fingerprint("r") == registry.fingerprint("r")
    path.write_text('[policies.r]\nurl = "http://a/v1"\nmodel = "m"\n')
    assert Registry.load(path).fingerprint("r") != registry.fingerprint("r")


def test_a_sweep_takes_members_at_any_alpha(family: Path, cache: Path) -> None:
    registry = Registry.load(family)
    assert registry.open_sweeps == {"coverage": (-0.5, 0.0, 0.25, 1.375)}
    listed = registry.names
    assert registry.at("coverage", 1.3) == registry.at("coverage", 1.30) == "coverage@+1.30"
    assert registry.at("coverage", -0.0) == "coverage@+0.00"
    assert (registry.names, registry.alpha("coverage@+1.30")) == (listed, 1.3)
    assert registry.is_made("coverage@+1.30")
    assert not registry.is_made("low")
    made = load_file(registry.materialise("coverage@+1.30") / "model.safetensors")
    (name, *_) = made
    low, high = (load_file(registry.materialise(end) / "model.safetensors")[name].double() for end in ("low", "high"))
    torch.testing.assert_close(made[name].double(), low + 1.3 * (high - low), rtol=1e-2, atol=1e-2)
    with pytest.raises(PolicyError, match="no member can be added to the sweep 'nothing': add one to coverage"):
        registry.at("nothing", 1.3)


@pytest.mark.parametrize(("serve", "is_open"), [("servers", False), ("switch", True)])
def test_a_sweep_of_single_servers_takes_no_more_members(family: Path, serve: str, is_open: bool) -> None:
    text = f'[engine]\nname = "vllm"\nserve = "{serve}"\n' + family.read_text()
    registry = load(family.parent, text)
    assert list(registry.open_sweeps) == (["coverage"] if is_open else [])
    assert registry.is_made("coverage@+0.25") != is_open


def test_pairs_of_logits_take_members_without_a_checkpoint(family: Path) -> None:
    registry = load(family.parent, family.read_text().replace("[sweeps.coverage]\nmerge", "[sweeps.coverage]\nlogits"))
    assert registry.alpha(registry.at("coverage", 0.7)) == 0.7
    assert not registry.is_made("coverage@+0.70")


FAR = '[policies.far]\nurl = "http://h/v1"\nmodel = "m"\n'


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "line",
    [
        'api_key_env = "{}"',
        'api_key_env = ["{}"]',
        'headers_env = {{ api-key = "{}" }}',
        'headers_env = "{}"',
        'headers = "{}"',
        'headers = {{ api-key = ["{}"] }}',
        'headers = {{ api-key = "Bearer {}\\n" }}',
        '[keys]\nann = "{}"',
    ],
)
def test_a_secret_in_place_of_its_variable_is_never_shown(line: str, secret: str, tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(FAR + line.format(secret))
    with pytest.raises(PolicyError, match=r"never the secret|it should|cannot be sent") as caught:
        Registry.load(path).check()
    assert secret not in str(caught.value)


@pytest.mark.parametrize("line", ['api_key_env = "UNSET_KEY"', 'headers_env = { api-key = "UNSET_KEY" }'])
def test_a_variable_must_be_set_to_what_can_be_sent(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(FAR + line)
    registry = Registry.load(path)
    with pytest.raises(PolicyError, match=r"the variable UNSET_KEY is unset: export UNSET_KEY=… first\.$"):
        registry.check()
    monkeypatch.setenv("UNSET_KEY", "se\ncret")
    with pytest.raises(PolicyError, match="the value of UNSET_KEY cannot be sent") as caught:
        registry.check()
    assert "cret" not in str(caught.value)
    monkeypatch.setenv("UNSET_KEY", "secret\n")
    registry.check()


def test_the_alpha_of_an_end_outlives_its_line(tmp_path: Path) -> None:
    path = tmp_path / "policies.toml"
    path.write_text(
        '[policies.low]\ncheckpoint = "./a"\n[policies.high]\ncheckpoint = "./b"\n'
        '[policies.other]\ncheckpoint = "./c"\n[sweeps.line]\nmerge = { low = "low", high = "high" }\nalphas = [0.5]\n'
    )
    ends = Registry.load(path).select(["low", "high", "other"])
    again = tmp_path / "again.toml"
    again.write_text(tomli_w.dumps(ends.to_toml(tmp_path)))
    copied = Registry.load(again)
    assert copied.names == ("low", "high", "other")
    assert [copied.alpha(name) for name in copied.names] == [0.0, 1.0, None]
    assert copied.to_toml(tmp_path) == ends.to_toml(tmp_path)
    again.write_text('[policies.low]\nmerge = { low = "a", high = "b", alpha = 1 }\nalpha = 2\n')
    with pytest.raises(PolicyError, match="leave alpha out"):
        Registry.load(again)


def test_policies_that_are_the_same_model_are_known(family: Path) -> None:
    here = family.parent
    shutil.copytree(here / "low", here / "copy")
    again = FAMILY[FAMILY.index("[policies.remote]") : FAMILY.index("[mixtures")].replace("remote", "again")
    family.write_text(
        f"""{FAMILY}{again}
        [policies.copy]\ncheckpoint = "./copy"\n[policies.gone]\ncheckpoint = "./gone"
        [policies.nowhere]\nmerge = {{ low = "low", high = "copy", alpha = 3.0 }}
        [policies.high-again]\nmerge = {{ low = "low", high = "high", alpha = 1.0 }}
        [policies.sharp]\nlogits = {{ low = "low", high = "high", alpha = 1.0 }}
        [policies.sharper]\nlogits = {{ low = "low", high = "high", alpha = 1.5 }}
        """
    )
    assert Registry.load(family).twins() == {
        "coverage@+0.00": "low",
        "again": "remote",
        "copy": "low",
        "nowhere": "low",
        "high-again": "high",
        "sharp": "high",
    }


def test_the_number_format_of_models_is_the_files(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_checkpoint("low")
    found: list[torch.dtype] = []

    def started(model: PreTrainedModel) -> None:
        found.append(model.dtype)

    monkeypatch.setattr("alphamix.policies.engines.transformers.engine.batches_of", started)
    policies = '[policies.low]\ncheckpoint = "./low"\n'
    for text in (policies, policies + '[engine]\ndtype = "bfloat16"\n'):
        (tmp_path / "p.toml").write_text(text)
        registry = Registry.load(tmp_path / "p.toml")
        registry.open("low", EngineOptions(device="cpu"))
        (tmp_path / "again.toml").write_text(tomli_w.dumps(registry.to_toml(tmp_path)))
        Registry.load(tmp_path / "again.toml").open("low", EngineOptions(device="cpu"))
    assert found == [torch.float32, torch.float32, torch.bfloat16, torch.bfloat16]
