"""A real OpenAI-compatible server whose answers are programs, for runs from end to end."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from alphamix.grading.benchmarks import humaneval
from alphamix.policies.engines.openai.fake_server import (
    AnyReply,
    FakeRequest,
    FakeServer,
    completion_body,
    error,
    json_reply,
)

from .faults import Fault

PROBLEMS = [
    {
        "id": f"times-{factor}",
        "statement": f"Multiply by {factor}.",
        "tests": [{"input": f"{n}\n", "output": f"{factor * n}\n"} for n in (1, 20, 300)],
        "time_limit_s": 1.0,
    }
    for factor in (2, 3, 4)
]


DOUBLE = "from typing import List\n\n\ndef double(numbers: List[int]) -> List[int]:\n"
CHECKS = {
    "compared": "assert candidate([1, 2]) == [2, 4]",
    "forgeable": "assert len(candidate([1, 2])) > 1",
}
"""Assertions about `double`: of values that are compared outside the sandbox, and of what it must decide itself."""


def write_humaneval(path: Path) -> None:
    """Write two problems of HumanEval's form, one for each of `CHECKS`."""
    records = [
        humaneval.HumanEvalRecord(
            task_id=name,
            prompt=f'{DOUBLE}    """ Double each. """\n',
            entry_point="double",
            test=f"def check(candidate):\n    {check}\n",
        )
        for name, check in CHECKS.items()
    ]
    problems = map(humaneval.convert, records)
    path.write_text("".join(problem.model_dump_json(exclude_defaults=True) + "\n" for problem in problems))


@dataclass
class Server:
    """Answers chat completions with `answer(model, prompt, seed)`, a program or an HTTP status."""

    answer: Callable[[str, str, int], str | int]
    seeds: list[tuple[str, str, int]] = field(default_factory=list)
    """Model, prompt and seed of every request so far."""
    url: str = ""
    tokens: Callable[[str], int] = lambda model: 11
    """Completion tokens of an answer, by model."""
    honours_n: bool = False
    """Whether the server returns n choices when a request asks for them, choice i as for seed + i."""
    fault: Callable[[int], Fault | None] = lambda number: None
    """What spoils the reply to a request, by the number of the request, from 0."""

    def respond(self, request: FakeRequest) -> AnyReply:
        model, prompt, seed = request.json["model"], request.prompt, request.json["seed"]
        self.seeds.append((model, prompt, seed))
        n = request.num_choices if self.honours_n else 1
        answers = [self.answer(model, prompt, seed + i) for i in range(n)]
        if isinstance(answers[0], int):
            return error(answers[0])
        tokens = self.tokens(model) * n
        usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
        reply = completion_body(request, [str(answer) for answer in answers], usage=usage)
        fault = self.fault(request.number)
        return fault(reply) if fault else json_reply(reply)


def honest_program(model: str, prompt: str, seed: int) -> str:
    """The model named `even` solves with even seeds, `odd` with odd ones."""
    factor = prompt.removeprefix("Multiply by ").split(".")[0]
    right = (seed % 2 == 0) == (model == "even")
    return f"```python\nprint({factor} * int(input()){'' if right else ' + 1'})\n```"


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server(honest_program)
    with FakeServer(state.respond) as fake:
        state.url = fake.url
        yield state


@pytest.fixture
def trial(server: Server, tmp_path: Path) -> Path:
    """An experiment of two policies behind URLs on three problems, 4 samples each: 24 slots."""
    (tmp_path / "problems.jsonl").write_text("".join(json.dumps(problem) + "\n" for problem in PROBLEMS))
    (tmp_path / "policies.toml").write_text(
        f'[policies.even]\nurl = "{server.url}"\nmodel = "even"\n[policies.odd]\nurl = "{server.url}"\nmodel = "odd"\n'
    )
    path = tmp_path / "trial.toml"
    path.write_text(
        'name = "trial"\n[problems]\nfile = "problems.jsonl"\n[policies]\nfile = "policies.toml"\n'
        '[sampling]\nprompt = "{statement}"\n[budget]\nsamples = 4\n[analysis]\npass_at = [1, 4]\nresamples = 200\n'
    )
    return path
