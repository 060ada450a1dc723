"""A real OpenAI-compatible server whose answers are programs, for runs from end to end."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alphamix.grading.benchmarks import humaneval

from .faults import Fault, send_json

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
    """Every request that came: model, prompt, seed."""
    url: str = ""
    tokens: Callable[[str], int] = lambda model: 11
    """Completion tokens of an answer, by model."""
    honours_n: bool = False
    """Whether it sends n choices where they are asked for, choice i as for seed + i."""
    fault: Callable[[int], Fault | None] = lambda number: None
    """How the reply to the request of a number, from 0, is spoilt."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def honest_program(model: str, prompt: str, seed: int) -> str:
    """The model named `even` solves with even seeds, `odd` with odd ones."""
    factor = prompt.removeprefix("Multiply by ").split(".")[0]
    right = (seed % 2 == 0) == (model == "even")
    return f"```python\nprint({factor} * int(input()){'' if right else ' + 1'})\n```"


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server(honest_program)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            model, prompt, seed = body["model"], body["messages"][-1]["content"], body["seed"]
            with served.lock:
                number = len(served.seeds)
                served.seeds.append((model, prompt, seed))
            n = body.get("n", 1) if served.honours_n else 1
            answers = [served.answer(model, prompt, seed + i) for i in range(n)]
            if isinstance(answers[0], int):
                send_json(self, {"error": {"message": "no"}}, answers[0])
                return
            choices = [
                {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": answer}}
                for i, answer in enumerate(answers)
            ]
            tokens = served.tokens(model) * n
            usage = {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": 5 + tokens}
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": model}
            fault = served.fault(number) or send_json
            with suppress(OSError):  # the client may leave first
                fault(self, reply | {"choices": choices, "usage": usage})

        def log_message(self, *_: object) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.handle_error = lambda *_: None  # connections that were reset on purpose
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,))
    thread.start()
    served.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    yield served
    httpd.shutdown()
    thread.join()
    httpd.server_close()


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
