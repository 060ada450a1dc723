"""The embedded engine compared with transformers' own `generate`: the ladder's checkpoint, one thread, one prompt.

Both draw the same number of completions with temperature 1 until the end token.
"""

from pathlib import Path
from typing import Any

import torch
from measure import Row, compare
from transformers import AutoModelForCausalLM, AutoTokenizer

from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, Message, Request, SamplingParameters

_CHECKPOINT = Path(__file__).parents[1] / "examples" / "ladder" / "checkpoints" / "high"
_QUESTION = "Given n, print the number of integers from 1 to n divisible by 3."
_MAX_TOKENS = 192


def rows() -> list[Row]:
    """Compare at 16 and 256 completions in one batch."""
    return [_compare(batch) for batch in (16, 256)]


def _compare(batch: int) -> Row:
    engine = TransformersEngine.from_checkpoint(_CHECKPOINT, EngineOptions(batch_size=batch))
    tokenizer = AutoTokenizer.from_pretrained(_CHECKPOINT)
    model: Any = AutoModelForCausalLM.from_pretrained(_CHECKPOINT, dtype=torch.float32)
    messages: list[Message] = [{"role": "user", "content": _QUESTION}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    repeats = max(1, 256 // batch)

    def ours() -> None:
        parameters = SamplingParameters(max_tokens=_MAX_TOKENS)
        for repeat in range(repeats):
            requests = [Request(messages, 1000 * repeat + seed, parameters) for seed in range(batch)]
            if not all(isinstance(reply.outcome, Completion) for reply in engine.sample(requests)):
                raise SystemExit("the engine failed: the benchmark means nothing")

    def generate() -> None:
        for _ in range(repeats):
            model.generate(**inputs, do_sample=True, top_k=0, num_return_sequences=batch, max_new_tokens=_MAX_TOKENS)

    what = f"embedded engine: {batch} completions in one batch, against `generate`"
    return compare(what, "completion", batch * repeats, ours, generate)
