"""Merges compared with mergekit, and with copying the same bytes.

    MERGEKIT=path/to/mergekit-yaml python benchmarks/merge.py

Without the variable the only other side is the lower limit: reading both checkpoints and writing one for each α with
`cat`. The checkpoints are random bfloat16 Llamas of 1.1 GB in four files, in a temporary folder (`TMPDIR`) and in the
page cache on every side. Unless a row says otherwise, our side starts with an empty cache of hashes each time. mergekit
computes in float32 and needs one run for each α.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measure import Row, cpu_s

from alphamix.policies.checkpoints.safetensors_folder import lay_out, write_index, write_json

_LAYERS, _HIDDEN, _INTERMEDIATE, _VOCABULARY, _SHARDS = 11, 2048, 5504, 32000, 4
_ALPHAS = (-1.0, -0.5, 0.25, 0.3, 0.5, 0.75, 1.3, 4.0)
_ROUNDS = 3
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": _HIDDEN,
    "intermediate_size": _INTERMEDIATE,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "vocab_size": _VOCABULARY,
    "dtype": "bfloat16",
}


@dataclass(frozen=True)
class Cost:
    """CPU and wall seconds of one run."""

    cpu_s: float
    wall_s: float


def rows() -> list[Row]:
    """Compare one α and eight."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        low, high = _checkpoint(folder / "low", 1), _checkpoint(folder / "high", 2)
        return [row for alphas in (_ALPHAS[-2:-1], _ALPHAS) for row in _compare(folder, low, high, alphas)]


def _compare(folder: Path, low: Path, high: Path, alphas: Sequence[float]) -> list[Row]:
    sides: dict[str, Callable[[], object]] = {
        "ours": lambda: _ours(folder, low, high, alphas, keep_hashes=False),
        "again": lambda: _ours(folder, low, high, alphas, keep_hashes=True),
        "copying the same bytes": lambda: _copy(folder, low, high, len(alphas)),
    }
    if "MERGEKIT" in os.environ:
        sides["mergekit 0.1.5"] = lambda: [_mergekit(folder, low, high, alpha) for alpha in alphas]
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for _ in range(_ROUNDS):
        for name, side in sides.items():
            costs[name].append(_cost(folder, side))
    size_gb = sum(file.stat().st_size for file in low.glob("*.safetensors")) / 1e9
    what = f"merge: {len(alphas)} α of two checkpoints of {size_gb:.2f} GB"
    return [
        _row(
            f"{what}{', hashes known' if ours == 'again' else ''}, against {other}",
            costs[ours],
            costs[other],
            len(alphas),
        )
        for ours in ("ours", "again")
        for other in costs
        if other not in ("ours", "again")
    ]


def _row(what: str, ours: Sequence[Cost], others: Sequence[Cost], num_alphas: int) -> Row:
    cpu = statistics.median([other.cpu_s / our.cpu_s for our, other in zip(ours, others, strict=True)])
    wall = statistics.median([other.wall_s / our.wall_s for our, other in zip(ours, others, strict=True)])
    target = ("≥ 8 ×" if num_alphas > 1 else "≥ 4 ×") if "mergekit" in what else "≥ 0.33 ×" if num_alphas == 1 else ""
    our, other = map(_medians, (ours, others))
    return Row(what, our, other, f"{cpu:.2f} × CPU, {wall:.2f} × wall", target)


def _medians(costs: Sequence[Cost]) -> str:
    cpu, wall = (statistics.median(side) for side in zip(*((cost.cpu_s, cost.wall_s) for cost in costs), strict=True))
    return f"{cpu:.2f} s CPU, {wall:.2f} s"


def _cost(folder: Path, side: Callable[[], object]) -> Cost:
    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    start_s = time.monotonic()
    used_s = cpu_s(side)
    return Cost(used_s, time.monotonic() - start_s)


def _ours(folder: Path, low: Path, high: Path, alphas: Sequence[float], *, keep_hashes: bool) -> None:
    if not keep_hashes:
        shutil.rmtree(folder / "cache", ignore_errors=True)
    command = [sys.executable, "-m", "alphamix", "policies", "merge", "--quiet", "--low", low, "--high", high]
    options = [f"--alpha={alpha}" for alpha in alphas]
    environment = os.environ | {"ALPHAMIX_CACHE": str(folder / "cache"), "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([*command, *options, "--out", folder / "out" / "ours"], check=True, env=environment)


def _mergekit(folder: Path, low: Path, high: Path, alpha: float) -> None:
    config = {
        "merge_method": "task_arithmetic",
        "base_model": str(low),
        "models": [{"model": str(high), "parameters": {"weight": alpha}}],
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    path = folder / "mergekit.yml"
    path.write_text(json.dumps(config))
    command = [*os.environ["MERGEKIT"].split(), path, folder / "out" / f"mergekit{alpha}"]
    subprocess.run([*command, "--no-write-model-card"], check=True, capture_output=True)


def _copy(folder: Path, low: Path, high: Path, copies: int) -> None:
    """Read both checkpoints and write the given number of copies."""
    files = sorted(low.glob("*.safetensors"))
    for copy in range(copies):
        for file in files:
            with (folder / "out" / f"{copy}-{file.name}").open("wb") as out:
                subprocess.run(["cat", file], stdout=out, check=True)
    for file in high.glob("*.safetensors"):
        subprocess.run(f"cat '{file}' | cat > /dev/null", shell=True, check=True)


def _checkpoint(folder: Path, seed: int) -> Path:
    """Write weights of realistic size; the second checkpoint differs a little from the first."""
    folder.mkdir()
    write_json(folder / "config.json", _CONFIG)
    shapes = _shapes()
    files: dict[str, str] = {}
    for shard in range(_SHARDS):
        name = f"model-{shard + 1:05}-of-{_SHARDS:05}.safetensors"
        for tensor in lay_out(folder / name, [(n, "BF16", shapes[n]) for n in list(shapes)[shard::_SHARDS]]):
            files[tensor.name] = name
            values = np.random.default_rng(len(files)).standard_normal(tensor.num_bytes // 2, np.float32) * 0.02
            if seed > 1:
                values += (
                    np.random.default_rng(-1 % 2**32 + len(files)).standard_normal(len(values), np.float32) * 0.002
                )
            with (folder / name).open("r+b") as file:
                file.seek(tensor.start)
                file.write((values.view(np.uint32) >> 16).astype("<u2").tobytes())
    write_index(folder, files, sum(2 * int(np.prod(shape)) for shape in shapes.values()))
    return folder


def _shapes() -> dict[str, tuple[int, ...]]:
    layer = {
        "self_attn.q_proj": (_HIDDEN, _HIDDEN),
        "self_attn.k_proj": (_HIDDEN // 4, _HIDDEN),
        "self_attn.v_proj": (_HIDDEN // 4, _HIDDEN),
        "self_attn.o_proj": (_HIDDEN, _HIDDEN),
        "mlp.gate_proj": (_INTERMEDIATE, _HIDDEN),
        "mlp.up_proj": (_INTERMEDIATE, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INTERMEDIATE),
        "input_layernorm": (_HIDDEN,),
        "post_attention_layernorm": (_HIDDEN,),
    }
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (_VOCABULARY, _HIDDEN)}
    for number in range(_LAYERS):
        shapes |= {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
    return shapes | {"model.norm.weight": (_HIDDEN,)}


if __name__ == "__main__":
    for row in rows():
        print(row)
