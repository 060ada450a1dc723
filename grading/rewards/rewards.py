"""Judgements as rewards for reinforcement learning, as plain functions or in the form that TRL's `GRPOTrainer` expects.

A reward is a function of judgements and of the judged programs, sample by sample. It is None where the judge failed,
which says nothing about the sample. Avoid problems whose judgement is `forgeable`: a policy that is trained on them
learns to forge it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.nested_coverage import clears, tests_required
from alphamix.grading.programs.extract import program_of
from alphamix.grading.rewards import static_analysis as analysis
from alphamix.grading.types import Judgement, Problem, Program, Verdict

Rewards = list[float | None]
Reward = Callable[[Sequence[Judgement], Sequence[Program | None]], Rewards]
"""([S] judgements, [S] programs or None where there was none) → [S] rewards, None where the judge failed."""


def accepted(judgements: Sequence[Judgement], programs: Sequence[Program | None]) -> Rewards:
    """Return 1 for each accepted program, else 0."""
    return _each(judgements, lambda judgement: float(judgement.verdict is Verdict.AC))


def fraction_passed(judgements: Sequence[Judgement], programs: Sequence[Program | None]) -> Rewards:
    """Return the share of tests that passed; if the judge did not run all tests, those before the first failure."""
    return _each(judgements, _fraction)


def static_analysis(judgements: Sequence[Judgement], programs: Sequence[Program | None]) -> Rewards:
    """Return Ruff's score of each program's text from 0 to 1, whatever its verdict; None also if it is not Python."""
    scores = analysis.scores(programs)
    failed = [judgement.verdict is Verdict.IE for judgement in judgements]
    return [None if is_failed else score for is_failed, score in zip(failed, scores, strict=True)]


def coverage(level: float) -> Reward:
    """Return the reward that is 1 if the first ⌈level · T⌉ tests passed, else 0. Raises GradingError."""
    tests_required(level, 1)  # raises for an invalid level now, rather than during training

    def reward(judgements: Sequence[Judgement], programs: Sequence[Program | None]) -> Rewards:
        return _each(judgements, lambda judgement: float(clears(judgement.tests_passed, judgement.num_tests, level)))

    reward.__name__ = f"coverage_{level:g}"
    return reward


def combined(*weighted: tuple[float, Reward]) -> Reward:
    """Return the weighted sum of rewards, as in `combined((1.0, accepted), (0.1, static_analysis))`.

    It is None where any of them is None, because a partial sum would be a different reward.
    """
    if not weighted:
        raise GradingError("combined() got no reward: give at least one pair (weight, reward)")

    def reward(judgements: Sequence[Judgement], programs: Sequence[Program | None]) -> Rewards:
        columns = [part(judgements, programs) for _, part in weighted]
        return [_weighted_sum([weight for weight, _ in weighted], row) for row in zip(*columns, strict=True)]

    reward.__name__ = "combined"
    return reward


def as_trl_reward(judge: Judge, problems: Iterable[Problem], reward: Reward = accepted) -> Callable[..., Rewards]:
    """Return a reward function for TRL's `GRPOTrainer(reward_funcs=…)`, with the name of `reward`.

    The dataset needs a column `problem_id`. Completions are texts, or lists of messages, of which the last one by the
    assistant counts. Keep `judge` open during training; each process of a distributed run needs its own. The function
    raises GradingError for a missing column and for an unknown problem.
    """
    problem_of_id = {problem.id: problem for problem in problems}

    def reward_function(*, completions: Sequence[Any], problem_id: Sequence[str] | None = None, **_: Any) -> Rewards:
        if problem_id is None:
            raise GradingError("the training data has no column 'problem_id': add it, so that rewards can be judged")
        chosen = [_find(problem_of_id, name) for name in problem_id]
        programs = [
            program_of(_text(completion), problem, is_code=False)
            for problem, completion in zip(chosen, completions, strict=True)
        ]
        futures = [judge.submit(problem, program) for problem, program in zip(chosen, programs, strict=True)]
        return reward([future.result() for future in futures], programs)

    reward_function.__name__ = getattr(reward, "__name__", type(reward).__name__)
    return reward_function


def _each(judgements: Sequence[Judgement], value: Callable[[Judgement], float]) -> Rewards:
    return [None if judgement.verdict is Verdict.IE else value(judgement) for judgement in judgements]


def _fraction(judgement: Judgement) -> float:
    if judgement.passed_tests is not None:
        return sum(judgement.passed_tests) / len(judgement.passed_tests)
    return judgement.tests_passed / judgement.num_tests


def _weighted_sum(weights: Sequence[float], values: Sequence[float | None]) -> float | None:
    total = 0.0
    for weight, value in zip(weights, values, strict=True):
        if value is None:
            return None
        total += weight * value
    return total


def _find(problem_of_id: Mapping[str, Problem], name: str) -> Problem:
    if name not in problem_of_id:
        raise GradingError(f"unknown problem {name!r} in the training data: pass it in `problems`")
    return problem_of_id[name]


def _text(completion: str | Sequence[Mapping[str, Any]]) -> str:
    """Return the text of a completion; it is empty for a turn that only calls a tool."""
    if isinstance(completion, str):
        return completion
    turns = [message.get("content") for message in completion if message["role"] == "assistant"]
    return turns[-1] or "" if turns else ""
