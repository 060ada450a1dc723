"""The supervised stage: a random model learns to write the world's programs, bugs and all.

This is plain next-token training on the answers (prompts are context, not targets), with AdamW and one cycle of the
learning rate.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from language import EOS_ID, render_prompt
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from world.corpus import Corpus, Example


@dataclass(frozen=True, slots=True)
class Supervision:
    """How long and how fast the supervised stage learns."""

    steps: int = 1400
    batch_size: int = 32
    learning_rate: float = 3e-3
    seed: int = 0


IGNORED = -100
BUCKET = 16
"""Number of batches that are drawn together and sorted by length, to reduce padding."""


def batch_tokens(
    tokenizer: PreTrainedTokenizerFast, prompts: list[str], answers: list[str], ended: list[bool]
) -> tuple[Tensor, Tensor]:
    """Return tokens and targets [N, L] of prompts with answers, padded on the right; only answers are targets.

    An answer that has `ended` is followed by the end-of-text token; one that was cut off is not.
    """
    rows: list[Tensor] = []
    targets: list[Tensor] = []
    for prompt, answer, closed in zip(prompts, answers, ended, strict=True):
        asked = tokenizer.encode(prompt)
        answered = tokenizer.encode(answer) + [EOS_ID] * closed
        rows.append(torch.tensor(asked + answered))
        targets.append(torch.tensor([IGNORED] * len(asked) + answered))
    pad = torch.nn.utils.rnn.pad_sequence
    return (
        pad(rows, batch_first=True),  # any value will do, since padding is never read
        pad(targets, batch_first=True, padding_value=IGNORED),
    )


def answer_loss(model: LlamaForCausalLM, tokens_NL: Tensor, targets_NL: Tensor) -> Tensor:
    """Return the negative log-likelihood [N, L-1] of each target token, and 0 where there is no target.

    Padding is on the right and attention is causal, so no mask is needed.
    """
    logits_NLV = model(input_ids=tokens_NL, use_cache=False).logits[:, :-1]
    return cross_entropy(
        logits_NLV.flatten(0, 1), targets_NL[:, 1:].flatten(), ignore_index=IGNORED, reduction="none"
    ).view(tokens_NL.shape[0], -1)


def draw_batches(corpus: Corpus, batch_size: int, rng: random.Random) -> Iterator[list[Example]]:
    """Yield new examples without end, in batches of similar length."""
    while True:
        examples = [corpus.draw(rng) for _ in range(batch_size * BUCKET)]
        examples.sort(key=lambda example: len(example.answer))
        batches = [examples[start : start + batch_size] for start in range(0, len(examples), batch_size)]
        rng.shuffle(batches)
        yield from batches


def supervise(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    corpus: Corpus,
    plan: Supervision,
    report: Callable[[str], None],
) -> None:
    """Train the model in place."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, plan.learning_rate, total_steps=plan.steps, pct_start=0.05, cycle_momentum=False
    )
    batches = draw_batches(corpus, plan.batch_size, random.Random(plan.seed))
    model.train()
    started, seen = time.monotonic(), 0
    for step in range(1, plan.steps + 1):
        examples = next(batches)
        tokens_NL, targets_NL = batch_tokens(
            tokenizer,
            [render_prompt(tokenizer, example.statement) for example in examples],
            [example.answer for example in examples],
            ended=[True] * len(examples),
        )
        loss = answer_loss(model, tokens_NL, targets_NL).sum() / (targets_NL != IGNORED).sum()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        seen += tokens_NL.numel()
        if step % 50 == 0 or step == plan.steps:
            rate = seen / (time.monotonic() - started)
            report(f"supervised {step}/{plan.steps}: loss {loss.item():.3f}, {rate:,.0f} tokens/s")
