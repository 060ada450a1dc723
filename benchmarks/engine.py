"""The embedded engine compared with transformers' own `generate`, and with vLLM on a CPU where `.venv-vllm` is there.

All draw the same number of completions of one prompt, of the same length, with the ladder's checkpoint in float32, on
one thread. Starting and a first batch do not count.
"""

import json
import os
import statistics
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from measure import Row, one_core
from side import used_cpu_s
from transformers import AutoModelForCausalLM, AutoTokenizer

from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, Request, SamplingParameters

_ROOT = Path(__file__).parents[1]
_CHECKPOINT = _ROOT / "examples" / "ladder" / "checkpoints" / "high"
_VLLM = Path(os.environ.get("VLLM_PYTHON", _ROOT / ".venv-vllm" / "bin" / "python"))
_PROMPT = "user\nGiven n, print the number of integers from 1 to n divisible by 3.\nassistant\n"
_TOKENS = 64
_ROUNDS = 5

_Side = Callable[[int], float]
"""Function that draws so many completions, and returns the CPU seconds."""


def rows() -> list[Row]:
    """Compare at 64 and 256 completions in one batch."""
    with one_core(), ExitStack() as stack:
        model, tokenizer = _endless()
        sides: dict[str, _Side] = {"`generate`": _generate(model, tokenizer)}
        if _VLLM.exists():
            sides["vLLM on a CPU"] = _vllm(stack)
        ours = _ours(model, tokenizer)
        return [_compare(count, ours, name, side) for count in (64, 256) for name, side in sides.items()]


def _compare(count: int, ours: _Side, name: str, other: _Side) -> Row:
    ours(count)
    other(count)
    pairs = [(ours(count), other(count)) for _ in range(_ROUNDS)]
    rates = [count * _TOKENS / statistics.median(column) for column in zip(*pairs, strict=True)]
    return Row(
        f"embedded engine: {count} completions of {_TOKENS} tokens, against {name}",
        f"{rates[0]:,.0f} tokens / CPU s",
        f"{rates[1]:,.0f} tokens / CPU s",
        f"{statistics.median(b / a for a, b in pairs):.1f} ×",
    )


def _cpu_s(work: Callable[[], object]) -> float:
    before_s = used_cpu_s()
    work()
    return used_cpu_s() - before_s


def _endless() -> tuple[Any, Any]:
    """Return the model and the tokenizer without a token that ends a text."""
    model: Any = AutoModelForCausalLM.from_pretrained(_CHECKPOINT, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(_CHECKPOINT)
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    return model, tokenizer


def _ours(model: Any, tokenizer: Any) -> _Side:
    engine = TransformersEngine(model, tokenizer, batch_size=256, device="cpu")

    def sample(count: int) -> float:
        requests = [Request(_PROMPT, seed, SamplingParameters(max_tokens=_TOKENS)) for seed in range(count)]

        def work() -> None:
            outcomes = [reply.outcome for reply in engine.sample(requests)]
            if not all(isinstance(each, Completion) and each.completion_tokens == _TOKENS for each in outcomes):
                raise SystemExit("the engine failed: the benchmark means nothing")

        return _cpu_s(work)

    return sample


def _generate(model: Any, tokenizer: Any) -> _Side:
    inputs = tokenizer(_PROMPT, return_tensors="pt")

    def sample(count: int) -> float:
        options = {"do_sample": True, "top_k": 0, "num_return_sequences": count, "max_new_tokens": _TOKENS}
        return _cpu_s(lambda: model.generate(**inputs, **options))

    return sample


def _vllm(stack: ExitStack) -> _Side:
    process = stack.enter_context(
        subprocess.Popen(
            [_VLLM, Path(__file__).with_name("vllm_side.py"), _CHECKPOINT],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
    )  # fmt: skip

    def sample(count: int) -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        print(json.dumps([_PROMPT, count, _TOKENS]), file=process.stdin, flush=True)
        return float(process.stdout.readline())

    return sample


if __name__ == "__main__":
    print(*rows(), sep="\n")
