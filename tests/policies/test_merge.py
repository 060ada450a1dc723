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
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from policies.merge import merge
from policies.mergeable import check_mergeable
from policies.types import PolicyError

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


def test_the_effective_alpha_is_that_of_the_rounded_weights(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low = make_checkpoint("low", seed=1, dtype=torch.bfloat16)
    high = make_checkpoint("high", seed=2, dtype=torch.bfloat16)
    merge(low, high, {0.3: tmp_path / "m"})
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
        "import os, signal, sys\nfrom pathlib import Path\nfrom policies import merge\n"
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
    merge(low, high, {0.5: target})
    assert (target / "merge.json").is_file()


def test_one_who_comes_second_keeps_the_first_merge(make_checkpoint: MakeCheckpoint, tmp_path: Path) -> None:
    low, high = make_checkpoint("low", seed=1), make_checkpoint("high", seed=2)
    merge(low, high, {0.5: tmp_path / "m"})
    before = (tmp_path / "m" / "model.safetensors").stat().st_ino
    merge(low, high, {0.5: tmp_path / "m", 2.0: tmp_path / "n"})
    assert (tmp_path / "m" / "model.safetensors").stat().st_ino == before
    assert (tmp_path / "n" / "model.safetensors").is_file()
