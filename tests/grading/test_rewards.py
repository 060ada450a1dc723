"""Rewards: exact values on made-up judgements, Ruff on real programs, and the way TRL calls a reward function."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from alphamix.grading.errors import GradingError
from alphamix.grading.judge.judge import Judge
from alphamix.grading.rewards import rewards, static_analysis
from alphamix.grading.types import Judgement, Problem, Program, Verdict

MakeProblem = Callable[..., Problem]


def judgement(verdict: str, passed: int = 0, num_tests: int = 4, passed_tests: Any = None) -> Judgement:
    return Judgement(Verdict(verdict), passed, num_tests, None, 0.0, 0.0, passed_tests=passed_tests)


JUDGEMENTS = [
    judgement("AC", 4), judgement("WA", 3), judgement("TLE", 1), judgement("FE"), judgement("IE"),
    judgement("WA", 1, passed_tests=(True, False, True, True)),
]  # fmt: skip
PROGRAMS = [Program(f"print({n})\n") for n in range(len(JUDGEMENTS))]


@pytest.mark.parametrize(
    ("reward", "values"),
    [
        (rewards.accepted, [1.0, 0.0, 0.0, 0.0, None, 0.0]),
        (rewards.fraction_passed, [1.0, 0.75, 0.25, 0.0, None, 0.75]),
        (rewards.coverage(0.25), [1.0, 1.0, 1.0, 0.0, None, 1.0]),
        (rewards.coverage(0.7), [1.0, 1.0, 0.0, 0.0, None, 0.0]),
        (rewards.coverage(1.0), [1.0, 0.0, 0.0, 0.0, None, 0.0]),
        (rewards.static_analysis, [1.0, 1.0, 1.0, 1.0, None, 1.0]),
        (
            rewards.combined((1.0, rewards.accepted), (0.5, rewards.fraction_passed)),
            [1.5, 0.375, 0.125, 0.0, None, 0.375],
        ),
    ],
)
def test_values_of_rewards(reward: rewards.Reward, values: list[float | None]) -> None:
    assert reward(JUDGEMENTS, PROGRAMS) == values


def test_a_sum_is_none_where_a_part_is_none() -> None:
    assert rewards.combined((1.0, rewards.accepted), (0.1, rewards.static_analysis))(
        [judgement("AC", 4), judgement("AC", 4)], [Program("print(1)\n"), Program("int main() {}", "cpp")]
    ) == [1.1, None]


def test_rewards_that_make_no_sense_are_refused_at_once() -> None:
    with pytest.raises(GradingError, match="coverage level is 0"):
        rewards.coverage(0)
    with pytest.raises(GradingError, match="got no reward"):
        rewards.combined()


@pytest.mark.parametrize(
    ("source", "score"),
    [
        ("print(1)\n", 1.0),
        ("a = 1\nb = 2\n\nc = a + b\nprint(undefined)\n", 0.0),  # F821 weighs 5, on 4 lines
        ("def f(x=[]):\n    return x\n\n\nprint(f())\n", 1 - 2 / 3),  # B006 weighs 2
        ("import os\nprint(1)\n" + "print(2)\n" * 8, 0.5),  # F401 weighs 5
        ("import os  # noqa\nprint(1)\n" + "print(2)\n" * 8, 0.5),
        ("# ruff: noqa\nimport os\nprint(1)\n" + "print(2)\n" * 7, 0.5),
        ("def f(:\n", 0.0),
        ("print('\udc80')\n", 0.0),
        ("", 0.0),
        ("\n\n", 0.0),
    ],
)
def test_findings_weigh_what_the_table_says(source: str, score: float) -> None:
    (result,) = static_analysis.scores([Program(source)])
    assert result == pytest.approx(score)


def test_scores_are_in_the_order_of_the_programs() -> None:
    programs = [Program("print(1)\n"), None, Program("int main() {}\n", "cpp"), Program("(\n"), Program("print(2)\n")]
    assert static_analysis.scores(programs) == [1.0, 0.0, None, 0.0, 1.0]
    assert static_analysis.scores([]) == []


def test_batches_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_analysis, "_BATCH", 2)
    sources = ["print(1)\n", "(\n", "(\n", "print(1)\n", "print(1)\n"]
    assert static_analysis.scores([Program(source) for source in sources]) == [1.0, 0.0, 0.0, 1.0, 1.0]


def test_a_program_that_breaks_ruff_does_not_affect_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fragile = tmp_path / "ruff"
    ruff = static_analysis._find_ruff()
    fragile.write_text(f'#!/bin/sh\nfor last; do :; done\ngrep -rq break "$last" && exit 101\nexec "{ruff}" "$@"\n')
    fragile.chmod(0o755)
    monkeypatch.setattr(static_analysis, "_find_ruff", lambda: str(fragile))
    sources = ["print(1)\n", "print(2)\n", "print('break')\n", "(\n", "print(3)\n"]
    assert static_analysis.scores([Program(source) for source in sources]) == [1.0, 1.0, None, 0.0, 1.0]


def test_every_rule_has_a_weight_and_worse_weighs_more() -> None:
    assert static_analysis.WEIGHTS["invalid-syntax"] == math.inf
    assert static_analysis.WEIGHTS["F"] > static_analysis.WEIGHTS["B"] > static_analysis.WEIGHTS["W"] > 0


def test_without_ruff_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_analysis.shutil, "which", lambda *_, **__: None)
    with pytest.raises(GradingError, match="pip install ruff"):
        static_analysis.scores([Program("print(1)\n")])
    assert static_analysis.scores([None]) == [0.0]


def called_by_trl(function: Callable[..., list[float | None]], inputs: list[dict[str, Any]]) -> list[float | None]:
    """Call as `GRPOTrainer._calculate_rewards` of TRL 1.16 does, with what it passes along."""
    keys = [key for key in inputs[0] if key not in ("prompt", "completion", "completion_ids")]
    columns = {key: [example[key] for example in inputs] for key in keys}
    return function(
        prompts=[example["prompt"] for example in inputs],
        completions=[example["completion"] for example in inputs],
        completion_ids=[[0]] * len(inputs),
        **columns,
        trainer_state=object(),
        log_extra=print,
        log_metric=print,
    )


def assistant(*contents: str | None) -> Sequence[dict[str, Any]]:
    return [{"role": "assistant", "content": content} for content in contents]


@pytest.fixture
def problems(make_problem: MakeProblem) -> list[Problem]:
    double = make_problem(*[(f"{n}\n", f"{2 * n}\n") for n in range(1, 5)], id="double")
    square = make_problem(*[([n], n * n) for n in range(4)], id="square", entry_point="square")
    return [double, square]


RIGHT = "```python\nprint(2 * int(input()))\n```"
HALF = "```python\nprint(min(4, 2 * int(input())))\n```"
CALL = "```python\ndef square(n):\n    return n * n\n```"


def test_trl_gets_one_reward_per_completion(judge: Judge, problems: list[Problem]) -> None:
    function = rewards.as_trl_reward(judge, problems, rewards.fraction_passed)
    assert function.__name__ == "fraction_passed"
    texts = [("double", RIGHT), ("double", HALF), ("square", CALL), ("square", RIGHT), ("double", "I do not know.")]
    inputs = [{"prompt": "?", "completion": text, "problem_id": name, "level": 1} for name, text in texts]
    assert called_by_trl(function, inputs) == [1.0, 0.5, 1.0, 0.0, 0.0]


def test_trl_may_pass_messages(judge: Judge, problems: list[Problem]) -> None:
    turns = [
        assistant(RIGHT),
        assistant("```python\nprint(0)\n```", RIGHT),
        [*assistant(RIGHT), {"role": "tool", "content": "```python\nprint(0)\n```"}],
        assistant(None),
        [],
    ]
    prompt = [{"role": "user", "content": "?"}]
    inputs = [{"prompt": prompt, "completion": turn, "problem_id": "double"} for turn in turns]
    assert called_by_trl(rewards.as_trl_reward(judge, problems), inputs) == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_trl_gets_none_where_the_judge_failed(
    judge: Judge, problems: list[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = judge.submit

    def fail(problem: Problem, program: Program | None) -> Any:
        future = submit(problem, None)
        object.__setattr__(future.result(), "verdict", Verdict.IE)
        return future

    monkeypatch.setattr(judge, "submit", fail)
    inputs = [{"prompt": "?", "completion": RIGHT, "problem_id": "double"}]
    assert called_by_trl(rewards.as_trl_reward(judge, problems), inputs) == [None]


def test_wrong_training_data_is_an_error(judge: Judge, problems: list[Problem]) -> None:
    function = rewards.as_trl_reward(judge, problems)
    with pytest.raises(GradingError, match="no column 'problem_id'"):
        called_by_trl(function, [{"prompt": "?", "completion": RIGHT}])
    with pytest.raises(GradingError, match="unknown problem 'cube' in the training data"):
        called_by_trl(function, [{"prompt": "?", "completion": RIGHT, "problem_id": "cube"}])
