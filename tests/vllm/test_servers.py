"""One server per policy: how it samples, how it fails, and that nothing of it is left."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from alphamix.policies.engines.openai.client import Client
from alphamix.policies.engines.openai.concurrency import Level
from alphamix.policies.engines.openai.engine import OpenAIEngine
from alphamix.policies.engines.openai.server_answers import ServerAnswer
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.transformers.engine import TransformersEngine
from alphamix.policies.engines.vllm import server as vllm_server
from alphamix.policies.engines.vllm.family import Member, VllmEngine, VllmFamily
from alphamix.policies.engines.vllm.server import VllmServer
from alphamix.policies.types import Completion, PolicyError, Request, SamplingParameters
from tests.vllm.conftest import CHAT, LOW, complete, family_of, options, requests

START_A_SERVER = """
from alphamix.policies.engines.vllm.server import VllmServer
from tests.vllm.conftest import LOW, options
VllmServer(LOW, "low", options("servers"))
"""


def test_requests_are_answered_with_usage_and_known_finish_reasons(engine: VllmEngine) -> None:
    short = complete(engine, requests(4, max_tokens=3))
    assert {c.finish_reason for c in short} == {"length"}
    assert [c.completion_tokens for c in short] == 4 * [3]
    whole = complete(engine, requests(4, max_tokens=300))
    assert {c.finish_reason for c in whole} == {"stop"}
    assert all(c.text.startswith("```python") and c.completion_tokens > 3 for c in whole)
    assert len({c.prompt_tokens for c in short + whole}) == 1


def test_equal_seeds_give_equal_answers_and_others_other_ones(engine: VllmEngine) -> None:
    texts = [c.text for c in complete(engine, requests(16, temperature=2.0))]
    assert texts == [c.text for c in complete(engine, requests(16, temperature=2.0))]
    assert len(set(texts)) > 8


def test_n_choices_of_one_request_are_reproduced(engine: VllmEngine) -> None:
    body = {"model": engine.model, "messages": CHAT, "n": 3, "seed": 7, "temperature": 2.0, "max_tokens": 40}
    one, again = ([c["message"]["content"] for c in ask(engine, body)["choices"]] for _ in range(2))
    assert one == again
    assert len(set(one)) == 3


def test_slots_asked_together_are_the_samples_of_their_seeds_with_their_own_counts_of_tokens(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    whole = Client.whole

    async def counted(client: Client, request: Request, n: int, deadline: float) -> ServerAnswer:
        asked.append(n)
        return await whole(client, request, n, deadline)

    monkeypatch.setattr(Client, "whole", counted)
    wanted = requests(6, temperature=2.0)
    together = complete(engine, wanted)
    assert asked == [6], "vLLM honours n"
    apart = [complete(engine, [request])[0] for request in wanted]
    assert asked == [6] + 6 * [1]
    assert [(c.text, c.completion_tokens) for c in together] == [(c.text, c.completion_tokens) for c in apart]
    assert len({c.completion_tokens for c in together}) > 1


def test_the_level_goes_by_the_queue_that_vllm_tells(engine: VllmEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked beyond the samples that the server computes at once waits there, and the level falls."""
    seen: list[tuple[int, int, int]] = []
    """How many waited, and the level before and after."""
    queued = Level.queued

    def noted(level: Level, waiting: int, in_flight: int) -> None:
        before = level.limit
        queued(level, waiting, in_flight)
        seen.append((waiting, before, level.limit))

    monkeypatch.setattr(Level, "queued", noted)
    server = engine.server
    with closing(OpenAIEngine(server.url, engine.model, server.api_key, EngineOptions(choices=1))) as alone:
        replies = list(alone.sample(requests(1000, max_tokens=60, temperature=2.0)))
    assert all(isinstance(reply.outcome, Completion) for reply in replies)
    assert any(waiting > 0 for waiting, _, _ in seen), f"no queue was told: {seen}"
    assert all(after < before for waiting, before, after in seen if waiting > before / 2)


def ask(engine: VllmEngine, body: dict[str, object]) -> dict[str, list[dict[str, dict[str, str]]]]:
    return engine.server.post("/v1/chat/completions", body)


def test_a_stream_gives_the_same_answer_in_pieces(engine: VllmEngine) -> None:
    wanted = requests(1)
    deltas = list(engine.stream(wanted))
    assert "".join(delta.text for delta in deltas) == complete(engine, wanted)[0].text
    assert len(deltas) > 2
    assert isinstance(deltas[-1].outcome, Completion)


def test_a_text_ends_where_the_embedded_engine_ends_it(tmp_path: Path) -> None:
    """At the tokenizer's end token, which the generation config does not name, and at the one that it does."""
    folder = tmp_path / "low"
    shutil.copytree(LOW, folder)
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": [675]}))  # `print(sum(`
    greedy = SamplingParameters(0.0, max_tokens=80)
    wanted = [Request(prompt, 0, greedy) for prompt in (CHAT, "Q:\nGiven n, print n.\nA:\n")]
    with closing(VllmFamily({"low": Member(folder)}, options("servers"))) as family:
        served = [replace(completion, seconds=0) for completion in complete(family.open("low"), wanted)]
    embedded = TransformersEngine.from_checkpoint(folder, EngineOptions(device="cpu"))
    outcomes = {reply.index: reply.outcome for reply in embedded.sample(wanted)}
    assert [replace(outcomes[index], seconds=0) for index in range(2)] == served
    assert [completion.finish_reason for completion in served] == ["stop", "stop"]
    assert "sum" not in served[0].text  # a token that ends a text is not part of it
    assert served[1].text.endswith("```")


def test_a_server_that_cannot_start_tells_the_end_of_its_log_and_leaves_no_process(tmp_path: Path) -> None:
    before = family_of(os.getpid())
    (tmp_path / "config.json").write_text('{"model_type": "no such thing"}')
    with pytest.raises(PolicyError, match=r"(?s)ended with status 1 before it was ready: correct.*no such thing"):
        VllmServer(tmp_path, "broken", options("servers"))
    assert family_of(os.getpid()) == before


def test_a_server_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    before = family_of(os.getpid())
    slow = vllm_server.VllmOptions(interpreter=sys.executable, start_timeout_s=0.5)
    with pytest.raises(PolicyError, match=r"was not ready after 0\.5 s"):
        VllmServer(LOW, "low", slow)
    assert family_of(os.getpid()) == before


def test_a_server_does_not_outlive_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", START_A_SERVER]) as parent:
        # The parent, the guard, the server, and two that it has started.
        assert eventually(lambda: len(family_of(parent.pid)) >= 5), "the server has no workers"
        processes = family_of(parent.pid)
        parent.kill()
    assert eventually(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 200
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return holds
