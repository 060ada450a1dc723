"""The reinforcement stage: the model learns from the judge's verdicts on its programs.

The stage uses a group-relative policy gradient (GRPO with one on-policy step, no clipping, no KL term): the samples of
one problem are each other's baseline. The reward is 1 if the first ceil(coverage x T) nested tests pass, else 0, which
the judge finds by running the program under its CPU limit. Nothing here distinguishes literal from efficient programs,
or strict from lenient problems.

The engine returns answers as text, and training uses the canonical tokens of that text. For about one answer in 300
these differ from the tokens that were sampled.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from language import render_prompt
from supervised import IGNORED, answer_loss, batch_tokens
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast
from world.inputs import NUM_TESTS
from world.problems import draw_problem, split_kinds

from alphamix.grading.judge.judge import Judge
from alphamix.grading.nested_coverage import tests_required
from alphamix.grading.programs.extract import extract_program
from alphamix.grading.types import Problem, Verdict
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.types import Completion, Request, SamplingParameters


@dataclass(frozen=True, slots=True)
class Reinforcement:
    """Parameters of the reinforcement stage. Runs that differ only in coverage see the same problems."""

    coverage: float
    steps: int = 45
    problems_per_step: int = 24
    samples_per_problem: int = 16
    learning_rate: float = 2e-4
    strict_share: float = 0.6
    max_tokens: int = 192
    seed: int = 0


MICRO_BATCH = 64
SAMPLING_BATCH = 128
"""Samples in one batch. Larger batches are slower, because their key-value cache exceeds the processor's cache."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sample that contributes to a gradient."""

    problem: int
    prompt: str
    answer: str
    ended: bool


def reinforce(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    judge: Judge,
    plan: Reinforcement,
    report: Callable[[str], None],
) -> None:
    """Train the model in place."""
    engine = TransformersEngine(model, tokenizer, batch_size=SAMPLING_BATCH)
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.learning_rate, weight_decay=0.0)
    for step in range(1, plan.steps + 1):
        marks = [time.monotonic()]
        problems = draw_problems(plan, step)
        attempts = sample_attempts(engine, tokenizer, problems, plan, step)
        marks.append(time.monotonic())
        rewards_N = grade_attempts(judge, problems, attempts)
        marks.append(time.monotonic())
        advantages_N = group_advantages(rewards_N, np.array([attempt.problem for attempt in attempts]))
        update(model, tokenizer, optimiser, attempts, advantages_N)
        marks.append(time.monotonic())
        sampling, grading, learning = np.diff(marks)
        report(
            f"coverage {plan.coverage:.0%} step {step}/{plan.steps}: reward {np.nanmean(rewards_N):.3f} "
            f"(sampling {sampling:.1f} s, grading {grading:.1f} s, learning {learning:.1f} s)"
        )


def draw_problems(plan: Reinforcement, step: int) -> list[Problem]:
    """Draw new problems of train kinds, with the tests that the coverage level requires."""
    num_tests = tests_required(plan.coverage, NUM_TESTS)
    problems: list[Problem] = []
    for index in range(plan.problems_per_step):
        problem_id = f"train/{plan.seed}/{step}/{index}"
        rng = random.Random(f"{problem_id}/form")
        num_parts, strict = rng.randint(1, 3), rng.random() < plan.strict_share
        problems.append(draw_problem(problem_id, split_kinds().train, num_parts, strict, num_tests))
    return problems


def sample_attempts(
    engine: TransformersEngine,
    tokenizer: PreTrainedTokenizerFast,
    problems: list[Problem],
    plan: Reinforcement,
    step: int,
) -> list[Attempt]:
    """Sample each problem several times, at temperature 1."""
    prompts = [render_prompt(tokenizer, problem.statement) for problem in problems]
    owners = [index for index in range(len(problems)) for _ in range(plan.samples_per_problem)]
    parameters = SamplingParameters(temperature=1.0, max_tokens=plan.max_tokens)
    first_seed = (plan.seed * plan.steps + step) * len(owners)
    requests = [Request(prompts[owner], first_seed + n, parameters) for n, owner in enumerate(owners)]
    replies = sorted(engine.sample(requests), key=lambda reply: reply.index)
    attempts: list[Attempt] = []
    for owner, reply in zip(owners, replies, strict=True):
        if not isinstance(reply.outcome, Completion):
            raise RuntimeError(f"Sampling failed at step {step}: {reply.outcome.message}")
        attempts.append(Attempt(owner, prompts[owner], reply.outcome.text, reply.outcome.finish_reason == "stop"))
    return attempts


def grade_attempts(judge: Judge, problems: list[Problem], attempts: list[Attempt]) -> np.ndarray:
    """Return rewards [N]: 1 if all tests pass, 0 if not, nan if the judge failed."""
    futures = [judge.submit(problems[attempt.problem], extract_program(attempt.answer)) for attempt in attempts]
    rewards = {Verdict.AC: 1.0, Verdict.IE: np.nan}
    return np.array([rewards.get(future.result().verdict, 0.0) for future in futures])


def group_advantages(rewards_N: np.ndarray, groups_N: np.ndarray) -> np.ndarray:
    """Return advantages [N]: each reward minus its group's mean, divided by its group's standard deviation.

    Groups of equal rewards, and samples that the judge could not grade, have advantage 0.
    """
    advantages_N = np.zeros_like(rewards_N)
    for group in np.unique(groups_N):
        members = np.flatnonzero((groups_N == group) & ~np.isnan(rewards_N))
        deviations = rewards_N[members] - rewards_N[members].mean() if len(members) else np.zeros(0)
        if deviations.any():
            advantages_N[members] = deviations / rewards_N[members].std()
    return advantages_N


def update(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    optimiser: torch.optim.Optimizer,
    attempts: list[Attempt],
    advantages_N: np.ndarray,
) -> None:
    """Take one step up the gradient of the mean, over answer tokens, of advantage x log-likelihood."""
    order = sorted(np.flatnonzero(advantages_N), key=lambda n: len(attempts[n].answer))
    batches = [order[start : start + MICRO_BATCH] for start in range(0, len(order), MICRO_BATCH)]
    optimiser.zero_grad()
    num_tokens = 0
    for batch in batches:
        tokens_NL, targets_NL = batch_tokens(
            tokenizer,
            [attempts[n].prompt for n in batch],
            [attempts[n].answer for n in batch],
            ended=[attempts[n].ended for n in batch],
        )
        weights_N = torch.tensor(advantages_N[batch], dtype=torch.float32)
        (answer_loss(model, tokens_NL, targets_NL) * weights_N[:, None]).sum().backward()
        num_tokens += int((targets_NL != IGNORED).sum())
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= max(num_tokens, 1)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
