"""Merges are exact bit for bit, appear whole or not at all, and refuse what does not match."""

import json
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from alphamix.policies.checkpoints.safetensors_folder import lay_out
from alphamix.policies.merging.compatibility import check_mergeable
from alphamix.policies.merging.merge import combine, merge
from alphamix.policies.types import PolicyError

from .conftest import MakeCheckpoint
from .test_floats import rounded_exactly

FORMATS = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
ALPHAS = [-1.0, 0.0, 0.3, 1.0, 1.3, 4.0]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for file in sorted(folder.glob("*.safetensors")) for name, t in load_file(file).items()}


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_every_weight_is_the_float64_result_rounded_once(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, dtype: torch.dtype, shard: str
) -> None:
    low = make_checkpoint("low", seed=1, dtype=dtype, shard=shard)
    high = make_checkpoint("high", seed=2, dtype=dtype)  # need not be sharded alike
    merge(low, high, {alpha: tmp_path / f"{alpha}" for alpha in ALPHAS})
    low_tensors, high_tensors = tensors_of(low), tensors_of(high)
    generator = np.random.default_rng(0)
    for alpha in ALPHAS:
        merged = tensors_of(tmp_path / f"{alpha}")
        assert merged.keys() == low_tensors.keys()
        for name, tensor in merged.items():
            if alpha in (0, 1):
                assert bits(tensor) == bits((low_tensors if alpha == 0 else high_tensors)[name])
                continue
            one, other = low_tensors[name].double().numpy(), high_tensors[name].double().numpy()
            expected = (one + alpha * (other - one)).flatten()
            result = tensor.double().numpy().flatten()
            assert tensor.dtype == dtype
            for i in generator.integers(len(result), size=200):
                assert result[i] == rounded_exactly(float(expected[i]), FORMATS[dtype])
                low_i, high_i = (Fraction(float(values.flat[i])) for values in (one, other))
                exact = low_i + Fraction(alpha) * (high_i - low_i)
                assert result[i] == pytest.approx(float(exact), rel=2**-7, abs=1e-6)


def test_a_merge_loads_and_runs_as_any_checkpoint(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    merge(low, high, {0.5: tmp_path / "half"})
    halfway = AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    reference = AutoModelForCausalLM.from_pretrained(low)
    other = dict(AutoModelForCausalLM.from_pretrained(high).named_parameters())
    with torch.no_grad():
        for name, tensor in reference.named_parameters():  # a tied weight comes once
            tensor.copy_((tensor.double() + 0.5 * (other[name].double() - tensor.double())).float())
        tokens = torch.tensor([[5, 6, 7]])
        assert torch.equal(halfway(tokens).logits, reference(tokens).logits)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "half")
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(low).chat_template
    record = json.loads((tmp_path / "half" / "merge.json").read_text())
    assert record["alpha"] == 0.5
    assert record["alpha_effective"] == pytest.approx(0.5, abs=1e-6)
    assert set(record["inputs"]) == {"low", "high"}


def test_another_dtype_can_be_asked(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low = make_checkpoint("low", seed=1, dtype=torch.bfloat16)
    high = make_checkpoint("high", seed=2, dtype=torch.bfloat16)
    merge(low, high, {1.3: tmp_path / "wide", 0.0: tmp_path / "copy"}, dtype="float32")
    one, other = tensors_of(low), tensors_of(high)
    for name, tensor in tensors_of(tmp_path / "wide").items():
        exact = one[name].double() + 1.3 * (other[name].double() - one[name].double())
        assert torch.equal(tensor, exact.float())
    assert all(torch.equal(t, one[n].float()) for n, t in tensors_of(tmp_path / "copy").items())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "wide").dtype == torch.float32


@pytest.mark.parametrize(("alpha", "dtype"), [(0.3, None), (0.3, "float16"), (1.0, None), (1.0, "float16")])
def test_the_effective_alpha_is_that_of_the_rounded_weights(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, alpha: float, dtype: str | None
) -> None:
    low = make_checkpoint("low", seed=1, dtype=torch.bfloat16)
    high = make_checkpoint("high", seed=2, dtype=torch.bfloat16)
    merge(low, high, {alpha: tmp_path / "m"}, dtype=dtype)
    one, other, merged = (
        torch.cat([t.double().flatten() for _, t in sorted(tensors_of(folder).items())])
        for folder in (low, high, tmp_path / "m")
    )
    projection = (merged - one) @ (other - one) / ((other - one) @ (other - one))
    record = json.loads((tmp_path / "m" / "merge.json").read_text())
    assert record["alpha_effective"] == pytest.approx(projection.item(), rel=1e-9)


def change(folder: Path, **tensors: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    changed = load_file(path) | {name: t for name, t in tensors.items() if t is not None}
    kept = {name: t for name, t in changed.items() if tensors.get(name, t) is not None}
    save_file(kept, path, metadata={"format": "pt"})


def set_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


NORM = "model.norm.weight"


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        ({NORM: torch.ones(31)}, {}, f"tensor {NORM!r} is F32 [32] in low and F32 [31] in high"),
        ({NORM: torch.ones(32).half()}, {}, f"tensor {NORM!r} is F32 [32] in low and F16 [32] in high"),
        ({NORM: None}, {}, f"tensor {NORM!r} is in low but not in high"),
        ({"extra": torch.ones(1)}, {}, "tensor 'extra' is in high but not in low"),
        ({}, {"num_attention_heads": 8}, "num_attention_heads of config.json is 4 in low and 8 in high"),
        ({}, {"architectures": ["MistralForCausalLM"]}, "architectures of config.json is"),
    ],
)
def test_the_first_difference_is_named(
    make_checkpoint: MakeCheckpoint,
    tmp_path: Path,
    tensors: dict[str, torch.Tensor | None],
    config: dict[str, object],
    message: str,
) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high")
    change(high, **tensors)
    set_config(high, **config)
    with pytest.raises(PolicyError) as told:
        merge(low, high, {0.5: tmp_path / "merged"})
    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "merged").exists()


def test_another_vocabulary_is_named(make_checkpoint: MakeCheckpoint) -> None:
    low, high = make_checkpoint("low"), make_checkpoint("high")
    path = high / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(PolicyError, match=r"token \d+ is 'a' in low and 'b' in high"):
        check_mergeable({"low": low, "high": high})


def test_integers_are_copied_when_equal_and_refused_when_not(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    change(low, steps=torch.tensor([3, 4]))
    change(high, steps=torch.tensor([3, 4]))
    merge(low, high, {2.0: tmp_path / "equal"})
    assert tensors_of(tmp_path / "equal")["steps"].tolist() == [3, 4]
    change(high, steps=torch.tensor([3, 5]))
    with pytest.raises(PolicyError, match=r"'steps' is I64 \[2\] and differs"):
        merge(low, high, {2.0: tmp_path / "unequal"})
    assert [path.name for path in tmp_path.iterdir() if "unequal" in path.name] == []


def test_overflow_is_told_and_not_written(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low = make_checkpoint("low", seed=1, dtype=torch.float16)
    high = make_checkpoint("high", seed=2, dtype=torch.float16)
    change(high, **{NORM: torch.full((32,), 60_000.0).half()})
    with pytest.raises(PolicyError, match=f"{NORM!r} leaves the range of F16 at alpha = 4"):
        merge(low, high, {1.0: tmp_path / "one", 4.0: tmp_path / "four"})
    assert {path.name for path in tmp_path.iterdir()} == {"low", "high"}


def test_a_killed_merge_leaves_nothing_that_looks_finished(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    target = tmp_path / "cache" / "merged"
    # The process dies in the middle of the weights, by a signal that nothing can catch.
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom alphamix.policies.merging import merge\n"
        "write = merge.merge_piece\ndone = []\n"
        "def dying(*a):\n"
        "    done.append(write(*a))\n"
        "    if len(done) == 5: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return done[-1]\n"
        "merge.merge_piece = dying\n"
        "merge.merge(Path(sys.argv[1]), Path(sys.argv[2]), {0.5: Path(sys.argv[3])})\n"
    )
    arguments = [sys.executable, "-c", program, str(low), str(high), str(target)]
    root = Path(__file__).parents[2]
    ended = subprocess.run(arguments, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert not target.exists()
    assert [path.suffix for path in target.parent.iterdir()] == [".partial"]
    merge(low, high, {0.5: target})
    assert (target / "merge.json").is_file()
    assert [path.name for path in target.parent.iterdir()] == ["merged"]


def test_one_who_comes_second_keeps_the_first_merge(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    merge(low, high, {0.5: tmp_path / "m"})
    before = (tmp_path / "m" / "model.safetensors").stat().st_ino
    merge(low, high, {0.5: tmp_path / "m", 2.0: tmp_path / "n"})
    assert (tmp_path / "m" / "model.safetensors").stat().st_ino == before
    assert (tmp_path / "n" / "model.safetensors").is_file()


def exact(folders: list[Path], coefficients: list[Fraction], name: str, index: int) -> Fraction:
    """One value of an affine combination, without any rounding."""
    values = [Fraction(float(tensors_of(folder)[name].flatten()[index])) for folder in folders]
    return sum((c * v for c, v in zip(coefficients, values, strict=True)), Fraction(0))


@pytest.mark.parametrize("dtype", FORMATS)
def test_three_checkpoints_are_combined(make_checkpoint: MakeCheckpoint, tmp_path: Path, dtype: torch.dtype) -> None:
    inputs = {name: make_checkpoint(name, seed, dtype) for seed, name in enumerate("abc")}
    choices = [(0.7, -0.3), (0.0, 0.0), (0.0, 1.0), (2.0, 0.25)]
    combine(inputs, {weights: tmp_path / f"m{n}" for n, weights in enumerate(choices)})
    tensors = [tensors_of(folder) for folder in inputs.values()]
    for n, weights in enumerate(choices):
        for name, merged in tensors_of(tmp_path / f"m{n}").items():
            if sorted(weights)[0] == 0:
                source = tensors[2] if 1.0 in weights else tensors[0]
                assert bits(merged) == bits(source[name])
                continue
            base, one, other = (of_input[name].double() for of_input in tensors)
            values = (weights[0] * (one - base) + weights[1] * (other - base) + base).flatten().numpy()
            for value, result in list(zip(values, merged.flatten().tolist(), strict=True))[::37]:
                assert result == rounded_exactly(float(value), FORMATS[dtype])
        if 0 not in weights:
            fractions = [Fraction(w) for w in weights]
            for index in range(5):
                value = exact(list(inputs.values()), [1 - sum(fractions), *fractions], NORM, index)
                result = tensors_of(tmp_path / f"m{n}")[NORM][index].item()
                assert result == pytest.approx(float(value), rel=2**-7, abs=1e-6)
    record = json.loads((tmp_path / "m0" / "merge.json").read_text())
    assert (record["base"], record["weights"]) == ("a", {"b": 0.7, "c": -0.3})
    assert set(record["inputs"]) == {"a", "b", "c"}


def test_shards_are_as_large_as_asked(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    inputs = {name: make_checkpoint(name, seed, shard="30KB") for seed, name in enumerate(["low", "high"])}
    for size in (10_000, 10**9):
        out = tmp_path / f"{size}"
        combine(inputs, {(0.5,): out}, shard_size=size)
        files = sorted(out.glob("*.safetensors"))
        assert [f.name for f in files] == (
            ["model.safetensors"]
            if size == 10**9
            else [f"model-{n + 1:05}-of-{len(files):05}.safetensors" for n in range(len(files))]
        )
        for file in files:
            tensors = load_file(file)
            assert len(tensors) == 1 or sum(t.nbytes for t in tensors.values()) <= size
        with torch.no_grad():
            tokens = torch.tensor([[5, 6, 7]])
            logits = AutoModelForCausalLM.from_pretrained(out)(tokens).logits
        assert tensors_of(out).keys() == tensors_of(inputs["low"]).keys()
        assert logits.isfinite().all()


def test_formats_mix_only_when_the_output_is_given(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", 1, torch.bfloat16), make_checkpoint("high", 2, torch.float32)
    with pytest.raises(
        PolicyError,
        match=r"is BF16 .* in low and F32 .* in high; store both in one dtype: alphamix policies merge --dtype does",
    ):
        merge(low, high, {0.5: tmp_path / "m"})
    merge(low, high, {0.5: tmp_path / "m", 1.0: tmp_path / "one"}, dtype="float32")
    one, other = tensors_of(low), tensors_of(high)
    for name, tensor in tensors_of(tmp_path / "m").items():
        low_values = one[name].double()
        assert torch.equal(tensor, (low_values + 0.5 * (other[name].double() - low_values)).float())
    assert all(bits(t) == bits(other[n]) for n, t in tensors_of(tmp_path / "one").items())


def test_a_stored_copy_of_a_tied_weight_is_left_out(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    embeddings = tensors_of(high)["model.embed_tokens.weight"]
    change(high, **{"lm_head.weight": embeddings.clone()})
    merge(low, high, {0.5: tmp_path / "m"})
    assert tensors_of(tmp_path / "m").keys() == tensors_of(low).keys()
    change(high, **{"lm_head.weight": embeddings + 1})
    with pytest.raises(PolicyError, match=r"and 'lm_head.weight', which differ although its config ties them"):
        merge(low, high, {0.5: tmp_path / "n"})


def test_what_was_copied_is_said(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    for folder in (low, high):
        change(folder, steps=torch.tensor([3, 4]), flag=torch.tensor(True))
    merge(low, high, {0.5: tmp_path / "m"})
    assert sorted(json.loads((tmp_path / "m" / "merge.json").read_text())["copied"]) == ["flag", "steps"]


def test_the_mergekit_config_says_the_same(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    inputs = {name: make_checkpoint(name, seed, torch.bfloat16) for seed, name in enumerate("abc")}
    combine(inputs, {(0.7, -0.3): tmp_path / "m"})
    config = yaml.safe_load((tmp_path / "m" / "mergekit_config.yml").read_text())
    assert config == {
        "merge_method": "task_arithmetic",
        "base_model": {"model": {"path": str(inputs["a"])}},
        "models": [
            {"model": {"model": {"path": str(inputs[name])}}, "parameters": {"weight": weight}}
            for name, weight in (("b", 0.7), ("c", -0.3))
        ],
        "dtype": "float64",
        "out_dtype": "bfloat16",
    }


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """Two merges of 48 MB in tensors of 16 MB, watched from inside while they go on."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom alphamix.policies.merging.merge import combine\n"
        "import numpy as np\n"
        "from alphamix.policies.merging.affine import Piece\n"
        "def anonymous_mb():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith('RssAnon'))\n"
        "from alphamix.policies.checkpoints.dtypes import from_float64, to_float64\n"
        "to_float64(from_float64(np.zeros(1), 'BF16'), 'BF16')  # numba takes the same whatever the model's size\n"
        "before, peak = anonymous_mb(), []\n"
        "low, high, out = map(Path, sys.argv[1:])\n"
        "combine({'low': low, 'high': high}, {(0.3,): out / 'a', (1.3,): out / 'b'},\n"
        "        advance=lambda _: peak.append(anonymous_mb()))\n"
        "print(len(peak), max(peak) - before)\n"
    )
    shapes = [(f"layer{n}", "BF16", (1 << 11, 1 << 12)) for n in range(3)]
    for folder in (tmp_path / "low", tmp_path / "high"):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        lay_out(folder / "model.safetensors", shapes)
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program, tmp_path / "low", tmp_path / "high", tmp_path]
    ended = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(root)}, check=True, capture_output=True, text=True
    )
    looks, grown_mb = ended.stdout.split()
    assert int(looks) >= 24
    assert float(grown_mb) < 40  # a few chunks for each of at most eight threads: less than three tensors


def test_open_files_do_not_grow_with_the_tensors(tmp_path: Path) -> None:
    for folder in (tmp_path / "low", tmp_path / "high"):
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        lay_out(folder / "model.safetensors", [(f"layer{n}", "BF16", (4,)) for n in range(300)])
    num_open: list[int] = []

    def count(_: int) -> None:
        num_open.append(len(list(Path("/proc/self/fd").iterdir())))

    count(0)
    combine({"low": tmp_path / "low", "high": tmp_path / "high"}, {(0.3,): tmp_path / "out"}, advance=count)
    assert len(num_open) == 301
    assert max(num_open) - num_open[0] < 30  # two maps for each of at most eight threads, and the files being made
