"""Attempts of a setting with a model that says what a test lets it say."""

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

from alphamix.ensemble.settings.interleave import interleave
from alphamix.ensemble.settings.setting import Sampled, Setting
from alphamix.ensemble.store import Sample, Slot, Transcript
from alphamix.grading.types import Problem
from alphamix.policies.engines.scripted import ScriptedEngine
from alphamix.policies.types import Completion, Request, SamplingParameters, ToolCall

Says = Callable[[int], Completion]
"""What the model says in a turn."""


def call(name: str, identity: str = "call_0", **arguments: Any) -> ToolCall:
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def said(text: str, finish_reason: Any = "stop", calls: tuple[ToolCall, ...] = ()) -> Completion:
    kind = "text" if text.strip() else "empty"
    return Completion(text, "tool_calls" if calls else finish_reason, 10, 5, 0.0, kind, tool_calls=calls)


def outcome(setting: Setting, says: Says, problem: Problem, max_tokens: int = 1000) -> tuple[Sampled, list[Request]]:
    """Return the outcome of an attempt, and what the model was asked."""
    requests: list[Request] = []

    def answer(request: Request) -> Completion:
        requests.append(request)
        return says(len(requests) - 1)

    with closing(ScriptedEngine(answer).open_session()) as session:
        slots = [Slot(0, "low", problem.id, 0, 1)]
        parameters = SamplingParameters(max_tokens=max_tokens)
        (found,) = interleave(session, setting, slots, {problem.id: problem}, parameters, most_requests=4)
    return found, requests


def course(sample: Sampled) -> Transcript:
    assert isinstance(sample, Sample), sample
    assert sample.transcript is not None
    return sample.transcript
