"""Checks of policies: every fault is found where it is, on scripted engines, real checkpoints and real HTTP servers."""

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from alphamix.policies.engines.openai.fake_server import (
    FakeReply,
    FakeRequest,
    FakeServer,
    completion_body,
    error,
    json_reply,
)
from alphamix.policies.engines.options import EngineOptions
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.health.check_policy import CheckQuestion, check_engine, check_policy
from alphamix.policies.health.findings import CHECKS, Finding, Observations, judge_text, judge_twins
from alphamix.policies.registry import Registry
from alphamix.policies.types import AnswerKind, Completion, EngineFailure, PolicyError, Reply, Request

LADDER = Path(__file__).parents[2] / "examples" / "ladder"
QUESTION = CheckQuestion("Say something.", samples=4, max_tokens=16)


def states(findings: Sequence[Finding]) -> dict[str, str]:
    """What is not well, by check; every check is there once, in its order, and faults name cause and cure."""
    assert [finding.check for finding in findings] == list(CHECKS)
    for finding in findings:
        assert finding.message
        if finding.state in ("failure", "warning"):
            assert finding.message.endswith(".")
    return {finding.check: finding.state for finding in findings if finding.state != "ok"}


def message_of(check: str, findings: Sequence[Finding]) -> str:
    return next(finding.message for finding in findings if finding.check == check)


def text_of(seed: int, temperature: float, max_tokens: int) -> tuple[str, str]:
    """Text and finish reason of an honest model whose tokens are letters."""
    draw = random.Random(f"{seed} {temperature}")
    return "".join(draw.choices("abcdefgh", k=min(12, max_tokens))), "stop" if max_tokens >= 12 else "length"


def honest(request: Request) -> Completion:
    text, reason = text_of(request.seed, request.parameters.temperature, request.parameters.max_tokens)
    return Completion(text, "stop" if reason == "stop" else "length", 3, len(text), 0.0)


UNKNOWN_OF_SCRIPTED = {"context": "unknown", "fingerprint": "unknown"}


def test_an_honest_engine_has_no_fault() -> None:
    assert states(check_engine(ScriptedEngine(honest), QUESTION)) == UNKNOWN_OF_SCRIPTED


def altered(**changes: Any) -> Callable[[Request], Completion | EngineFailure]:
    def answer(request: Request) -> Completion:
        whole = honest(request)
        values = {name: getattr(whole, name) for name in Completion.__slots__}
        return Completion(**(values | changes))

    return answer


def sure_of_itself(request: Request) -> Completion:
    return altered(text="certain")(request) if request.parameters.temperature <= 1 else honest(request)  # type: ignore[return-value]


def forgetful() -> Callable[[Request], Completion | EngineFailure]:
    draw = random.Random(0)
    return lambda request: altered(text=str(draw.random()))(request)


def half_broken(request: Request) -> Completion | EngineFailure:
    return EngineFailure("timeout", "too late: wait.") if request.seed == 2 else honest(request)


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        (altered(text="one"), {"distinct": "failure", "seeds": "unknown"}),
        (altered(text="", completion_tokens=0), {"distinct": "warning", "seeds": "unknown"}),
        (sure_of_itself, {"distinct": "warning", "seeds": "unknown"}),
        (forgetful(), {"seeds": "warning"}),
        (altered(completion_tokens=0), {"usage": "warning"}),
        (altered(prompt_tokens=0), {"usage": "warning"}),
        (altered(prompt_tokens=None), {"usage": "failure"}),
        (altered(completion_tokens=12), {"finish": "warning"}),
        (altered(finish_reason="eos"), {"finish": "failure"}),
        (half_broken, {"reachable": "warning"}),
    ],
)
def test_faults_are_found(answer: Callable[[Request], Completion | EngineFailure], faults: dict[str, str]) -> None:
    findings = check_engine(ScriptedEngine(answer), QUESTION)
    assert states(findings) == faults | UNKNOWN_OF_SCRIPTED


def test_an_engine_that_only_fails_is_not_reachable() -> None:
    for cause in ("connection", "rejected"):
        findings = check_engine(ScriptedEngine(lambda _, c=cause: EngineFailure(c, "it broke: mend it.")), QUESTION)
        assert states(findings) == {"reachable": "failure"} | dict.fromkeys(CHECKS[1:], "unknown")
        assert findings[0].message == "it broke: mend it."


@pytest.mark.parametrize("times", [0, 2])
def test_a_batch_with_lost_or_doubled_outcomes_is_a_failure(times: int) -> None:
    class Careless(ScriptedEngine):
        def sample(self, requests: Sequence[Request]) -> Iterator[Reply]:
            for reply in super().sample(requests):
                yield from [reply] * (times if reply.index == 1 else 1)

    found = states(check_engine(Careless(honest), QUESTION))
    assert found["choices"] == "failure"


def plain_only(request: Request) -> Completion:
    if not isinstance(request.prompt, str):
        raise PolicyError("the tokenizer has no chat template: put one beside it.")
    return honest(request)


@pytest.mark.parametrize(("chat", "state"), [(True, "failure"), (False, "warning")])
def test_a_missing_chat_template_fails_only_where_messages_are_asked(chat: bool, state: str) -> None:
    findings = check_engine(ScriptedEngine(plain_only), CheckQuestion("Go on", chat=chat))
    assert states(findings) == {"chat": state} | UNKNOWN_OF_SCRIPTED
    assert "chat template" in message_of("chat", findings)


# Servers.

Bend = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any] | int]
"""From an honest answer and what was asked to what is sent: another body, or the status of a refusal."""


class Server(FakeServer):
    """An honest server, but for how `bend` changes its answers."""

    def __init__(self) -> None:
        super().__init__(self._respond)
        self.bend: Bend = lambda body, asked: body
        self.lists({"id": "m", "root": "/models/m", "max_model_len": 4096})

    def lists(self, model: dict[str, Any]) -> None:
        models = json_reply({"object": "list", "data": [model]})
        self.pages = {"/v1/models": models, "/version": json_reply({"version": "1.2.3"})}

    async def _respond(self, request: FakeRequest) -> FakeReply:
        asked, n = request.json, request.num_choices
        drawn = [text_of(request.seed + 1000 * i, asked["temperature"], asked["max_tokens"]) for i in range(n)]
        usage = {"prompt_tokens": 3, "completion_tokens": sum(len(text) for text, _ in drawn)}
        body = completion_body(request, [text for text, _ in drawn], drawn[0][1], usage)
        sent = self.bend(body | {"system_fingerprint": "fp"}, asked)
        return error(sent, **{"Retry-After": "0.01"}) if isinstance(sent, int) else json_reply(sent)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def policies(server: Server, tmp_path: Path) -> Path:
    """A policies file with one policy, `far`, at the server."""
    path = tmp_path / "policies.toml"
    path.write_text(f'[policies.far]\nurl = "{server.url}"\nmodel = "m"\n')
    return path


def checked(policies: Path, question: CheckQuestion = QUESTION) -> list[Finding]:
    options = EngineOptions(max_retries=1, deadline_s=60)
    return check_policy(Registry.load(policies), "far", question, options)


@pytest.mark.parametrize("chat", [True, False])
def test_an_honest_server_has_no_fault(policies: Path, chat: bool) -> None:
    findings = checked(policies, CheckQuestion("Say something.", chat=chat, max_tokens=16))
    assert states(findings) == {}
    assert {f.check: f.value for f in findings if f.value} == {"context": 4096, "fingerprint": "fp 1.2.3 /models/m"}


def bent(**changes: Any) -> Bend:
    return lambda body, _: body | changes


def one_choice(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return body | {"choices": body["choices"][:1]}


def cached(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    for choice in body["choices"]:
        choice["message"]["content"] = "one"
    return body


def peaked(body: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    return cached(body, asked) if asked["temperature"] <= 1 else body


def thinking(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    for choice in body["choices"]:
        choice["message"]["content"] = None
    return body


def seedless() -> Bend:
    lock, draw = threading.Lock(), random.Random(0)

    def bend(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        with lock:
            body["choices"][0]["message"]["content"] = str(draw.random())
        return body

    return bend


def finished(reason: str | None) -> Bend:
    def bend(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
        body["choices"][0]["finish_reason"] = reason
        return body

    return bend


def endless(body: dict[str, Any], _: dict[str, Any]) -> dict[str, Any]:
    return body | {"usage": {"prompt_tokens": 3, "completion_tokens": 900}}


@pytest.mark.parametrize(
    ("bend", "faults"),
    [
        (one_choice, {"choices": "failure"}),
        (lambda body, asked: 400 if "n" in asked else body, {"choices": "warning"}),
        (cached, {"distinct": "failure", "seeds": "unknown"}),
        (peaked, {"distinct": "warning", "seeds": "unknown"}),
        (thinking, {"text": "failure", "distinct": "warning", "seeds": "unknown"}),
        (seedless(), {"seeds": "warning"}),
        (bent(usage=None), {"usage": "failure"}),
        (bent(usage={"prompt_tokens": 3}), {"usage": "failure"}),
        (bent(usage={"prompt_tokens": 3, "completion_tokens": 0}), {"usage": "warning"}),
        (finished("abort"), {"finish": "failure"}),
        (finished(None), {"finish": "failure"}),
        (endless, {"finish": "warning"}),
        (lambda body, asked: 400 if "messages" in asked else body, {"chat": "failure"}),
        (lambda body, asked: 404 if asked.get("seed") == 3 else body, {"reachable": "warning"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else str(value),
)
def test_faults_of_servers_are_found(server: Server, policies: Path, bend: Bend, faults: dict[str, str]) -> None:
    server.bend = bend
    assert states(checked(policies)) == faults


@pytest.mark.parametrize(
    ("bend", "told"),
    [
        (lambda *_: 404, "the model's name"),
        (lambda *_: 401, "the request"),
        (lambda *_: 500, "the server's log"),
        (lambda *_: 429, "lower the concurrency"),
        (lambda *_: {"error": {"message": "lost"}}, "an error inside an answer"),
        (lambda *_: {"hello": "world"}, "without choices"),
    ],
)
def test_a_server_that_gives_no_answer_is_not_reachable(server: Server, policies: Path, bend: Bend, told: str) -> None:
    server.bend = bend
    findings = checked(policies)
    assert states(findings) == {"reachable": "failure"} | dict.fromkeys(CHECKS[1:], "unknown")
    assert told in findings[0].message


def test_what_a_server_does_not_tell_is_unknown(server: Server, policies: Path) -> None:
    server.lists({"id": "another"})
    server.bend = bent(system_fingerprint=None)
    findings = checked(policies)
    assert states(findings) == {"context": "unknown"}
    assert message_of("fingerprint", findings) == "the server reports 1.2.3"


# Checkpoints.


def test_the_ladder_has_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ALPHAMIX_CACHE", str(tmp_path))
    registry = Registry.load(LADDER / "policies.toml")
    prompt = json.loads((LADDER / "problems.jsonl").read_text().splitlines()[0])["statement"]
    for name in ("init", "high", "coverage@+1.50"):
        findings = check_policy(registry, name, CheckQuestion(prompt), EngineOptions())
        assert states(findings) == {}
        values = {finding.check: finding.value for finding in findings if finding.value}
        assert values == {"context": 512, "fingerprint": registry.fingerprint(name)}


def test_a_policy_that_cannot_be_opened_is_not_reachable(policies: Path) -> None:
    policies.write_text('[policies.far]\ncheckpoint = "./gone"\n')
    assert states(checked(policies)) == {"reachable": "failure"} | dict.fromkeys(CHECKS[1:], "unknown")


def test_policies_that_are_the_same_model_are_told() -> None:
    def findings(value: str | None) -> list[Finding]:
        return [*findings_of_nothing[:-1], Finding("fingerprint", "ok", "shown", value)]

    findings_of_nothing = [Finding(check, "ok", "well") for check in CHECKS]
    asked = {"a": findings("x"), "b": findings("y"), "c": findings("x"), "d": findings(None), "e": findings(None)}
    judged = judge_twins(asked, {"b": "a"})
    told = {name for name, of_policy in judged.items() if states(of_policy) == {"fingerprint": "warning"}}
    assert told == {"b", "c"}
    assert message_of("fingerprint", judged["b"]).startswith("is the same model as 'a': leave one out")
    assert message_of("fingerprint", judged["c"]).startswith("its server reports x, as for 'a'")


def test_every_kind_of_answer_without_text_is_counted() -> None:
    kinds: list[AnswerKind] = ["text", "refusal", "empty", "reasoning", "refusal"]
    seen = [Observations("a", "stop", 1, 1, kind=kind) for kind in kinds]
    finding = judge_text(seen)
    assert finding.state == "warning"
    assert finding.message.startswith("of 5 answers, 2 are refusals: change --prompt; 1 are empty")
    assert "1 are reasoning alone" in finding.message
    assert judge_text(seen[1:]).state == "failure"
