"""The scripted engine answers by function, and its stream is its sample in pieces."""

from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.types import Completion, Engine, EngineFailure, Request, SamplingParameters


def answer(request: Request) -> Completion | EngineFailure:
    if request.seed == 1:
        return EngineFailure("server", "down")
    return Completion(f"{request.prompt}\n{request.seed}", "stop", 1, 2, 0.0)


def test_each_request_is_answered_by_the_function() -> None:
    engine: Engine = ScriptedEngine(answer)
    requests = [Request("p", seed, SamplingParameters()) for seed in range(3)]
    assert [reply.outcome for reply in engine.sample(requests)] == [answer(request) for request in requests]
    deltas = list(engine.stream(requests))
    assert [d.outcome for d in deltas if d.outcome is not None] == [answer(request) for request in requests]
    assert "".join(d.text for d in deltas if d.index == 2) == "p\n2"
    engine.close()
