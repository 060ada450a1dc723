"""vLLM mixes the logits of a pair, with another α in each row of one batch, as two plain forwards do."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from alphamix.policies.engines.vllm.pair import ARCHITECTURE, LOGITS_PROCESSOR, write_pair
from tests.vllm.conftest import HIGH, LOW

PAIR: dict[str, Any] = {
    "logits_processors": [LOGITS_PROCESSOR],
    "logprobs_mode": "processed_logprobs",
    "async_scheduling": False,
    # Few rows and few tokens a step: rows come and go, and prompts are computed in pieces.
    "max_num_seqs": 4,
    "max_num_batched_tokens": 32,
}
CROWDED = {"max_model_len": 96, "block_size": 32, "num_gpu_blocks_override": 6}
"""So few blocks of cache that rows are put back and computed anew."""
ALPHAS = [0.0, 0.5, 1.0, 1.5, -0.5]
REQUESTS: list[dict[str, Any]] = [
    {
        "prompt": [(7 * number + 3 * place) % 700 + 8 for place in range(5 + 9 * (number % 5))],
        "max_tokens": 3 + (number * 5) % 23,
        # No seeds: on a CPU, vLLM 0.32 dies of a seeded request whose prompt is computed in pieces.
        "temperature": 1.0 if number % len(ALPHAS) else 0.0,
        "extra_args": {"alpha": ALPHAS[number % len(ALPHAS)]},
    }
    for number in range(15)
]
REFUSED: list[dict[str, Any]] = [
    {},
    {"extra_args": {"alhpa": 1.0}},
    {"extra_args": {"alpha": "1.5"}},
    {"extra_args": {"alpha": True}},
    {"extra_args": {"alpha": 1e999}},
    {"extra_args": {"alpha": 1.0}, "prompt_logprobs": 1},
]


def run_vllm(folder: Path, model: Path, **specification: Any) -> tuple[dict[str, Any], str]:
    """Run `generate.py` on a model; return what it found, nothing if it failed, and the end of its log."""
    engine = {"model": str(model), "dtype": "float32"} | specification.pop("engine")
    asked, output = folder / "specification.json", folder / "found.npz"
    asked.write_text(json.dumps({"engine": engine} | specification))
    program = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "generate.py"), str(asked), str(output)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600)
    log = (done.stdout + done.stderr)[-6000:]
    return (dict(np.load(output)) if done.returncode == 0 else {}), log


@torch.inference_mode()
def expected_logprobs(low: Any, high: Any, request: dict[str, Any], answer: Sequence[int]) -> np.ndarray:
    """`[tokens, V]` in float64, from the whole text at once."""
    alpha, prompt = request["extra_args"]["alpha"], request["prompt"]
    text = torch.tensor([[*prompt, *answer]])
    at_low, at_high = (model(text).logits[0, len(prompt) - 1 : -1].double() for model in (low, high))
    return ((1 - alpha) * at_low + alpha * at_high).log_softmax(dim=-1).numpy()


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


def distances(found: dict[str, Any], low: Any, high: Any, requests: Sequence[dict[str, Any]] = REQUESTS) -> list[float]:
    """Total variation between vLLM's distributions and the expected ones, the largest of each request."""
    largest: list[float] = []
    for number, request in enumerate(requests):
        expected = expected_logprobs(low, high, request, found[f"tokens_{number}"])
        assert len(expected) == request["max_tokens"]
        difference = np.exp(found[f"logprobs_{number}"]) - np.exp(expected)
        largest.append(np.abs(difference).sum(axis=-1).max() / 2)
    return largest


@pytest.fixture(scope="module")
def in_float32(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("float32")
    write_pair(LOW, HIGH, folder / "pair")
    found, log = run_vllm(folder, folder / "pair", engine=PAIR | CROWDED, requests=REQUESTS, refused=REFUSED)
    assert found, log
    return found


def test_each_request_is_mixed_with_its_own_alpha(in_float32: dict[str, Any]) -> None:
    assert max(distances(in_float32, load(LOW), load(HIGH))) < 1e-5


def test_alpha_zero_is_low_alone(in_float32: dict[str, Any], tmp_path: Path) -> None:
    engine = {"logprobs_mode": "processed_logprobs"}
    asked = [{key: value for key, value in request.items() if key != "extra_args"} for request in REQUESTS]
    alone, log = run_vllm(tmp_path, LOW, engine=engine, requests=asked)
    assert alone, log
    for number, request in enumerate(REQUESTS):
        if request["extra_args"]["alpha"] == 0:
            assert in_float32[f"tokens_{number}"].tolist() == alone[f"tokens_{number}"].tolist()
            assert np.allclose(in_float32[f"logprobs_{number}"], alone[f"logprobs_{number}"], atol=1e-4)


def test_a_request_without_a_usable_alpha_is_refused(in_float32: dict[str, Any]) -> None:
    errors = [str(in_float32[f"error_{number}"]) for number in range(len(REFUSED))]
    assert [error.partition(":")[0] for error in errors[:5]] == [
        "alpha is None", "alpha is None", "alpha is '1.5'", "alpha is True", "alpha is inf"
    ]  # fmt: skip
    assert all("send a finite number with each request" in error for error in errors[:5])
    assert "log-probabilities of the prompt would be those of low alone" in errors[5]


def test_in_bfloat16_it_differs_by_rounding_noise(tmp_path: Path) -> None:
    write_pair(LOW, HIGH, tmp_path / "pair")
    found, log = run_vllm(tmp_path, tmp_path / "pair", engine=PAIR | {"dtype": "bfloat16"}, requests=REQUESTS)
    assert found, log
    exact = distances(found, load(LOW), load(HIGH))
    of_transformers = distances(found, load(LOW, torch.bfloat16), load(HIGH, torch.bfloat16))
    assert max(exact) < 0.1
    assert max(of_transformers) < 0.1
    other_alphas = [request | {"extra_args": {"alpha": request["extra_args"]["alpha"] + 0.5}} for request in REQUESTS]
    assert np.median(distances(found, load(LOW), load(HIGH), other_alphas)) > 5 * np.median(exact)


def test_sizes_layers_and_architectures_may_differ(tmp_path: Path) -> None:
    torch.manual_seed(0)
    low = tmp_path / "low"
    size: dict[str, Any] = {"vocab_size": 768, "n_embd": 64, "n_layer": 1, "n_head": 2, "n_positions": 512}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=1, eos_token_id=1))
    with torch.no_grad():
        model.transformer.wte.weight.normal_(std=0.3)
    model.save_pretrained(low)
    for companion in ("tokenizer.json", "tokenizer_config.json"):
        (low / companion).write_bytes((LOW / companion).read_bytes())
    write_pair(low, HIGH, tmp_path / "pair")
    found, log = run_vllm(tmp_path, tmp_path / "pair", engine=PAIR, requests=REQUESTS)
    assert found, log
    assert max(distances(found, load(low), load(HIGH))) < 1e-5


def test_a_server_without_the_processor_does_not_start(tmp_path: Path) -> None:
    write_pair(LOW, HIGH, tmp_path / "pair")
    found, log = run_vllm(tmp_path, tmp_path / "pair", engine={}, requests=REQUESTS)
    assert not found
    assert "--logits-processors is without the pair's; --logprobs-mode is raw_logprobs: start vLLM with" in log
    assert ARCHITECTURE in (tmp_path / "pair" / "config.json").read_text()
